-- The roles of provisiond in PostgreSQL, each with what it needs and no more. Once, as an administrator, in the database
-- that was made for provisiond; it may be run again.
--
--     createdb --encoding UTF8 --template template0 provisioning
--     psql -d provisioning -f deploy/postgres/roles.sql
--     DATABASE_URL=postgres://provisiond_owner:…@db/provisioning provisiond migrate
--     psql -d provisioning -f deploy/postgres/grants.sql     (after each migration)
--
-- Give each a password (\password provisiond_worker) or a certificate, and to each process its own url with
-- database.migrate = false. Who keeps them all in one process or trusts its hosts needs one role only: provisiond_owner.
--
--   provisiond_owner     migrates. Owns the tables; no process that serves needs it.
--   provisiond_worker    reads handlers; disables one that answered 410.
--   provisiond_recorder  writes executions and dead letters, and makes and drops the days of executions.
--   provisiond_console   what operators do: handlers, the catalogue, replays. For the command line too.
--   provisiond_records   nobody: owns table `executions`. PostgreSQL lets only an owner attach a partition, and the recorder
--                        does so every day. It is the recorder's from the moment it connects, so that the owner, who is in
--                        it too, can migrate the days it made.
--
-- tests/it/deploy.rs runs the three roles with these rights, and what they must not do. No meta-commands of psql in here.

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['provisiond_owner', 'provisiond_worker', 'provisiond_recorder', 'provisiond_console'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', name);
        END IF;
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'provisiond_records') THEN
        CREATE ROLE provisiond_records NOLOGIN;
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    -- A trusted extension, pg_trgm, may be created by who may create in the database.
    EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO provisiond_owner', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO provisiond_worker, provisiond_recorder, provisiond_console',
        current_database());
    EXECUTE format('ALTER ROLE provisiond_recorder IN DATABASE %I SET role = provisiond_records', current_database());
END
$$;

GRANT provisiond_records TO provisiond_owner, provisiond_recorder;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO provisiond_owner, provisiond_records;
GRANT USAGE ON SCHEMA public TO provisiond_worker, provisiond_recorder, provisiond_console;
