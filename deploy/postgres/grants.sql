-- What the roles of deploy/postgres/roles.sql may do. After each `provisiond migrate` that applied something, as
-- provisiond_owner or an administrator; it may be run again. A right that is missing is told by the process: "permission denied".

ALTER TABLE executions OWNER TO provisiond_records;

-- All: which migrations there are; that they live (a row each); events as they are counted; the catalogue and handlers.
GRANT SELECT ON refinery_schema_history, event_types TO provisiond_worker, provisiond_records, provisiond_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON processes TO provisiond_worker, provisiond_records, provisiond_console;
GRANT SELECT, INSERT, UPDATE ON event_minutes TO provisiond_worker, provisiond_records, provisiond_console;

-- Worker. An answer of 410 disables its handler, and the history says why: all columns are written but those of signing
-- secrets. That needs a lock on the event's row of the catalogue, which PostgreSQL gives to who may change a column of it.
GRANT SELECT, UPDATE (name, event, task, status, priority, mode, on_failure, timeout_ms, retry, max_concurrency,
    updated_at, version) ON handlers TO provisiond_worker;
GRANT UPDATE (title) ON event_types TO provisiond_worker;
GRANT INSERT ON handler_history TO provisiond_worker;
-- What comes again is compared with what was recorded.
GRANT SELECT ON executions TO provisiond_worker;
-- worker.deduplicate
GRANT SELECT, INSERT, UPDATE, DELETE ON inbox TO provisiond_worker;
-- Whose the queues are.
GRANT SELECT ON installation TO provisiond_worker, provisiond_records, provisiond_console;
GRANT UPDATE (clock_seen, clock_before_jump, clock_after_jump) ON installation TO provisiond_records;
-- Counts what may take workers down.
GRANT SELECT, INSERT, UPDATE, DELETE ON suspects TO provisiond_worker;

-- Recorder. It owns executions; closed letters and the replays that go with them are deleted after their time.
GRANT SELECT, INSERT, DELETE ON dead_letters TO provisiond_records;
GRANT SELECT, INSERT, UPDATE, DELETE ON execution_minutes, handler_hours TO provisiond_records;
GRANT DELETE ON event_minutes TO provisiond_records;
GRANT SELECT, DELETE ON replays TO provisiond_records;
-- The names of handlers beside the counts of open letters.
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
