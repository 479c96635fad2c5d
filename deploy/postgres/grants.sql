-- Rights of the roles that deploy/postgres/roles.sql creates. Run it after each `provisiond migrate` that applied
-- something, as provisiond_owner or an administrator; you can run it again. A process that lacks a right reports
-- "permission denied".

ALTER TABLE executions OWNER TO provisiond_records;

-- All roles: the applied migrations, one row for each process, the event counts, and the catalogue.
GRANT SELECT ON refinery_schema_history, event_types TO provisiond_worker, provisiond_records, provisiond_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON processes TO provisiond_worker, provisiond_records, provisiond_console;
GRANT SELECT, INSERT, UPDATE ON event_minutes TO provisiond_worker, provisiond_records, provisiond_console;

-- Worker. It disables a handler that answers 410, and records why in the history. So it may write all columns except
-- those of signing secrets. That needs a lock on the event type's row of the catalogue, and PostgreSQL gives such a
-- lock only to a role that may change a column of it.
GRANT SELECT, UPDATE (name, event, task, status, priority, mode, on_failure, timeout_ms, retry, max_concurrency,
    updated_at, version) ON handlers TO provisiond_worker;
GRANT UPDATE (title) ON event_types TO provisiond_worker;
GRANT INSERT ON handler_history TO provisiond_worker;
-- Redelivered events are compared with what was recorded.
GRANT SELECT ON executions TO provisiond_worker;
-- worker.deduplicate
GRANT SELECT, INSERT, UPDATE, DELETE ON inbox TO provisiond_worker;
-- The owner of the queues.
GRANT SELECT ON installation TO provisiond_worker, provisiond_records, provisiond_console;
GRANT UPDATE (clock_seen, clock_before_jump, clock_after_jump) ON installation TO provisiond_records;
-- Counts the starts of events that may crash workers.
GRANT SELECT, INSERT, UPDATE, DELETE ON suspects TO provisiond_worker;

-- Recorder. It owns executions, and deletes closed dead letters and their replays after the retention time.
GRANT SELECT, INSERT, DELETE ON dead_letters TO provisiond_records;
GRANT SELECT, INSERT, UPDATE, DELETE ON execution_minutes, handler_hours TO provisiond_records;
GRANT DELETE ON event_minutes TO provisiond_records;
GRANT SELECT, DELETE ON replays TO provisiond_records;
-- The names of handlers, shown with the counts of open dead letters.
GRANT SELECT (id, name, event, status) ON handlers TO provisiond_records;

-- Console and command line.
GRANT SELECT, INSERT, UPDATE, DELETE ON handlers TO provisiond_console;
GRANT USAGE ON SEQUENCE handlers_id_seq TO provisiond_console;
GRANT SELECT, INSERT ON handler_history TO provisiond_console;
GRANT INSERT, UPDATE ON event_types TO provisiond_console;
GRANT SELECT ON executions, execution_minutes, handler_hours TO provisiond_console;
GRANT SELECT, UPDATE (state, state_changed_at, state_changed_by, state_note) ON dead_letters TO provisiond_console;
GRANT SELECT, INSERT, UPDATE ON replays, replay_items TO provisiond_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON console_sessions TO provisiond_console;
