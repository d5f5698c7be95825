-- The role that `logweir run` loads exports with. It owns the schema `public` of this database, makes its tables there, and can do nothing
-- else: no other database, no role, no file of the server. Run as an administrator of the server, in the database:
--   psql -v password=... -f provisioning/postgres/writer_role.sql
-- Tables that another role loaded before are handed over to it.
\set ON_ERROR_STOP on
\if :{?writer}
\else
\set writer logweir_writer
\endif
SELECT format('CREATE ROLE %I LOGIN', :'writer') WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = :'writer') \gexec
SELECT format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD %L', :'writer', :'password') \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), :'writer') \gexec
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
SELECT format('ALTER SCHEMA public OWNER TO %I', :'writer') \gexec
SELECT format('ALTER TABLE public.%I OWNER TO %I', c.relname, :'writer')
  FROM pg_class c
  WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
    AND (c.relname ~ '^session_scores(_[0-9]+)?$' OR c.relname ~ '^current_' OR c.relname IN ('schema_migrations', 'runs', 'alerts',
      'alert_lines', 'alert_events', 'metrics', 'score_minutes', 'score_hours', 'lineage', 'lineage_actions', 'lineage_edges', 'templates',
      'signatures', 'drift', 'drift_measures', 'drift_templates', 'sessions'))
    AND pg_get_userbyid(c.relowner) <> :'writer' \gexec
