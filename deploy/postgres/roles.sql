-- The roles of provisiond in PostgreSQL, each with the least rights. Run it once, as an administrator, in the database
-- that was created for provisiond; you can run it again.
--
--     createdb --encoding UTF8 --template template0 provisioning
--     psql -d provisioning -f deploy/postgres/roles.sql
--     DATABASE_URL=postgres://provisiond_owner:…@db/provisioning provisiond migrate
--     psql -d provisioning -f deploy/postgres/grants.sql     (after each migration)
--
-- Give each role a password (\password provisiond_worker) or a certificate, and each process its own URL, with
-- database.migrate = false. If all roles run in one process, or you trust their hosts, provisiond_owner alone is
-- enough.
--
--   provisiond_owner     migrates. It owns the tables; no serving process needs it.
--   provisiond_worker    reads handlers; disables a handler that answered 410.
--   provisiond_recorder  writes executions and dead letters, and creates and drops the daily partitions of executions.
--   provisiond_console   what operators do: handlers, the catalogue, replays. Also for the command line.
--   provisiond_records   cannot log in; owns the table `executions`. Only an owner can attach a partition, and the
--                        recorder does so every day. The recorder takes this role when it connects, so that
--                        provisiond_owner, which is a member too, can migrate the partitions.
--
-- tests/it/deploy.rs tests the three roles with these rights, and what they cannot do. This file must not contain
-- meta-commands of psql.

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
    -- A role that may create in the database may create a trusted extension (pg_trgm).
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
