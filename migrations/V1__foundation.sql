-- The tables of provisiond: the catalogue of events, handlers and their history, executions, dead letters.
--
-- Text that is compared, ordered or searched in bulk collates as "C": bytes decide, and that is several times
-- cheaper than a language's rules (ILIKE then ignores the case of ASCII letters only). Bodies are text, not
-- jsonb, which refuses \u0000.

CREATE TABLE event_types (
    name text COLLATE "C" PRIMARY KEY
        CONSTRAINT event_types_name CHECK (octet_length(name) <= 127 AND name ~ '^[a-z0-9_]+(\.[a-z0-9_]+)*$'),
    group_title text NOT NULL
        CONSTRAINT event_types_group_title CHECK (char_length(group_title) BETWEEN 1 AND 200),
    title text NOT NULL
        CONSTRAINT event_types_title CHECK (char_length(title) BETWEEN 1 AND 200),
    -- The order of lists and forms.
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- A removed type's queue may still hold events, which workers consume; adding it again clears this.
    removed_at timestamptz
);

INSERT INTO event_types (group_title, title, name) VALUES
    ('Clients', 'create', 'clients.create'),
    ('Clients', 'update', 'clients.update'),
    ('Clients', 'delete', 'clients.delete'),
    ('Clients', 'archive', 'clients.archive'),
    ('Clients', 'custom fields update', 'clients.custom_fields.update'),
    ('Clients', 'balance became >=0', 'clients.balance_notzero'),
    ('Clients', 'balance became <=0', 'clients.balance_zero'),
    ('Accounts', 'create', 'clients.accounts.create'),
    ('Accounts', 'update', 'clients.accounts.update'),
    ('Accounts', 'delete', 'clients.accounts.delete'),
    ('Clients Packages', 'assign', 'clients.packages.assign'),
    ('Clients Packages', 'activate', 'clients.packages.activate'),
    ('Clients Packages', 'deactivate', 'clients.packages.deactivate'),
    ('Clients Packages', 'renew', 'clients.packages.renew'),
    ('Clients Packages', 'close', 'clients.packages.close');

CREATE TABLE handlers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL
        CONSTRAINT handlers_name CHECK (char_length(name) BETWEEN 1 AND 200),
    event text COLLATE "C" NOT NULL
        CONSTRAINT handlers_event REFERENCES event_types (name),
    task jsonb NOT NULL
        CONSTRAINT handlers_task CHECK (
            jsonb_typeof(task) = 'object'
            AND coalesce(
                CASE task ->> 'type'
                    WHEN 'http' THEN
                        task ->> 'url' ~ '^https?://.' AND octet_length(task ->> 'url') <= 2048
                        AND jsonb_typeof(coalesce(task -> 'headers', '{}')) = 'object'
                    WHEN 'script' THEN
                        octet_length(task ->> 'path') BETWEEN 1 AND 1024
                        AND jsonb_typeof(coalesce(task -> 'args', '[]')) = 'array'
                END, false)),
    task_type text COLLATE "C" GENERATED ALWAYS AS (task ->> 'type') STORED,
    task_target text GENERATED ALWAYS AS (coalesce(task ->> 'url', task ->> 'path')) STORED,
    status text COLLATE "C" NOT NULL DEFAULT 'enabled'
        CONSTRAINT handlers_status CHECK (status IN ('enabled', 'disabled', 'archived')),
    priority integer NOT NULL DEFAULT 100
        CONSTRAINT handlers_priority CHECK (priority >= 1),
    mode text NOT NULL DEFAULT 'notify'
        CONSTRAINT handlers_mode CHECK (mode IN ('notify', 'intercept')),
    -- As the operator chose it; an intercept handler halts whatever is said here.
    on_failure text NOT NULL DEFAULT 'continue'
        CONSTRAINT handlers_on_failure CHECK (on_failure IN ('continue', 'halt')),
    timeout_ms integer
        CONSTRAINT handlers_timeout CHECK (timeout_ms BETWEEN 1 AND 600000),
    retry jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT handlers_retry CHECK (jsonb_typeof(retry) = 'object'),
    max_concurrency bigint
        CONSTRAINT handlers_max_concurrency CHECK (max_concurrency BETWEEN 1 AND 4294967295),
    signing_secret text
        CONSTRAINT handlers_signing_secret CHECK (signing_secret LIKE 'whsec\_%'),
    -- Valid beside the new one until then.
    previous_signing_secret text
        CONSTRAINT handlers_previous_signing_secret CHECK (previous_signing_secret LIKE 'whsec\_%'),
    previous_secret_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL DEFAULT 1
        CONSTRAINT handlers_version CHECK (version >= 1),
    CONSTRAINT handlers_previous_secret CHECK (
        (previous_signing_secret IS NULL) = (previous_secret_until IS NULL)
        AND (previous_signing_secret IS NULL OR signing_secret IS NOT NULL))
);

-- The order in which an event's handlers run.
CREATE INDEX handlers_event_order ON handlers (event, priority, id);

-- No foreign key: a deleted handler keeps its history.
CREATE TABLE handler_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    handler_id bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text NOT NULL,
    action text NOT NULL
        CONSTRAINT handler_history_action CHECK (action IN (
            'created', 'updated', 'enabled', 'disabled', 'archived', 'deleted', 'secret_set', 'secret_removed')),
    note text,
    -- The handler without its signing secret, of which only `signed` is told.
    before jsonb,
    after jsonb,
    CONSTRAINT handler_history_sides CHECK (
        (before IS NULL) = (action = 'created') AND (after IS NULL) = (action = 'deleted'))
);

CREATE INDEX handler_history_handler ON handler_history (handler_id, id);

-- Workers listen: a change is live everywhere within a second of its commit.
CREATE FUNCTION provisiond_notify_handlers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('provisiond_handlers', TG_TABLE_NAME);
    RETURN NULL;
END
$$;

CREATE TRIGGER handlers_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON handlers
    FOR EACH STATEMENT EXECUTE FUNCTION provisiond_notify_handlers();
CREATE TRIGGER event_types_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON event_types
    FOR EACH STATEMENT EXECUTE FUNCTION provisiond_notify_handlers();

-- One partition a UTC day, executions_YYYYMMDD, made by the recorder. No default partition: attaching a day
-- would have to scan and lock it.
CREATE TABLE executions (
    id uuid NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    event_name text COLLATE "C" NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    event_dt timestamptz NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    handler_id bigint,
    handler_name text,
    handler_priority integer,
    handler_mode text,
    handler_task_type text,
    handler_task_target text,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    status text COLLATE "C" NOT NULL,
    disposition text COLLATE "C" NOT NULL,
    error text COLLATE "C",
    -- JSON, byte for byte as it was sent.
    request text COLLATE "C" NOT NULL,
    response_http_status integer,
    response_exit_code integer,
    response_signal integer,
    response_body text COLLATE "C",
    response_stdout text COLLATE "C",
    response_stderr text COLLATE "C",
    -- Null where nothing was answered.
    response_truncated boolean,
    modified boolean NOT NULL,
    retry_at timestamptz,
    started_at timestamptz NOT NULL,
    duration_ms bigint NOT NULL,
    worker_host text NOT NULL,
    worker_pid bigint NOT NULL,
    worker_version text NOT NULL,
    trace_id text,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, started_at),
    CONSTRAINT executions_disposition CHECK (
        (status = 'success' AND disposition IN ('done', 'forbidden'))
        OR (status = 'fail' AND disposition IN ('retrying', 'dead_lettered'))
        OR (status = 'skipped' AND disposition IN ('handler_off', 'not_reached', 'no_handler', 'duplicate'))),
    CONSTRAINT executions_attempt CHECK (attempt >= 0 AND max_attempts >= 0),
    CONSTRAINT executions_duration CHECK (duration_ms >= 0)
) PARTITION BY RANGE (started_at);

-- Each index costs the recorder; each of these is a search of the Execution Logs, newest first.
CREATE INDEX executions_started ON executions (started_at, id);
CREATE INDEX executions_event ON executions (event_name, started_at);
CREATE INDEX executions_handler ON executions (handler_id, started_at);
-- An object id may be longer than an index entry can be.
CREATE INDEX executions_object ON executions (left(object_id, 128), started_at);
CREATE INDEX executions_event_id ON executions (event_id);
-- Nearly all are done: an index of those would be executions_started again.
CREATE INDEX executions_not_success ON executions (status, started_at) WHERE status <> 'success';
CREATE INDEX executions_not_done ON executions (disposition, started_at) WHERE disposition <> 'done';
-- The live tail. A batch shares one value, so an entry is nearly free.
CREATE INDEX executions_recorded ON executions (recorded_at);

CREATE TABLE dead_letters (
    id uuid PRIMARY KEY,
    event_id text COLLATE "C",
    run_id text COLLATE "C",
    event_name text COLLATE "C" NOT NULL,
    object_id text COLLATE "C",
    reason text COLLATE "C" NOT NULL
        CONSTRAINT dead_letters_reason CHECK (
            reason IN ('malformed', 'permanent', 'exhausted', 'crash_loop', 'unrouted', 'expired')),
    error text COLLATE "C" NOT NULL,
    handler_id bigint,
    handler_name text,
    attempts integer NOT NULL
        CONSTRAINT dead_letters_attempts CHECK (attempts >= 0),
    -- The handlers that a replay runs; empty: it is planned afresh.
    plan bigint[] NOT NULL,
    first_failed_at timestamptz,
    died_at timestamptz NOT NULL,
    worker_host text,
    worker_pid bigint,
    worker_version text,
    -- The bytes as they came: a malformed event may be anything.
    body bytea NOT NULL,
    content_type text,
    -- How it was published, where that is known.
    exchange text,
    routing_key text,
    traceparent text,
    tracestate text,
    state text COLLATE "C" NOT NULL DEFAULT 'open'
        CONSTRAINT dead_letters_state CHECK (state IN ('open', 'replayed', 'discarded')),
    state_changed_at timestamptz,
    state_changed_by text,
    state_note text,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dead_letters_state_change CHECK (
        (state = 'open') = (state_changed_at IS NULL) AND (state = 'open') = (state_changed_by IS NULL))
);

CREATE INDEX dead_letters_died ON dead_letters (died_at, id);
CREATE INDEX dead_letters_state_died ON dead_letters (state, died_at);
CREATE INDEX dead_letters_event ON dead_letters (event_name, died_at);
CREATE INDEX dead_letters_handler ON dead_letters (handler_id, died_at);
-- Of a malformed event these may be longer than an index entry can be.
CREATE INDEX dead_letters_object ON dead_letters (left(object_id, 128), died_at);
CREATE INDEX dead_letters_event_id ON dead_letters (left(event_id, 128));
