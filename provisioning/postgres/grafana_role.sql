-- A role for dashboards that reads the tables of logweir and can change nothing. Run as an administrator of the server, in the database:
--   psql -v password=... -v writer=logweir_writer -f provisioning/postgres/grafana_role.sql
-- Tables that a later export makes in the schema `public` are readable too: those of the role `writer`, or without it those of the role
-- that runs this.
\set ON_ERROR_STOP on
SELECT format('CREATE ROLE grafana LOGIN PASSWORD %L', :'password')
  WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'grafana') \gexec
SELECT format('ALTER ROLE grafana LOGIN PASSWORD %L', :'password') \gexec
ALTER ROLE grafana NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
GRANT USAGE ON SCHEMA public TO grafana;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO grafana;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO grafana;
\if :{?writer}
SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT SELECT ON TABLES TO grafana', :'writer') \gexec
\endif
