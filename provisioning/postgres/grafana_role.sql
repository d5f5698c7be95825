-- A role for dashboards that reads the tables of logweir and can change nothing. Run as the owner of the database:
--   psql -v password=... -f provisioning/postgres/grafana_role.sql
-- Tables that a later export makes in this schema are readable too (default privileges of the role that runs this).
\set ON_ERROR_STOP on
SELECT format('CREATE ROLE grafana LOGIN PASSWORD %L', :'password')
  WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'grafana') \gexec
SELECT format('ALTER ROLE grafana LOGIN PASSWORD %L', :'password') \gexec
ALTER ROLE grafana NOSUPERUSER NOCREATEDB NOCREATEROLE;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
GRANT USAGE ON SCHEMA public TO grafana;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO grafana;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO grafana;
