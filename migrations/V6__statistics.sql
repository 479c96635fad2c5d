-- What is going on: which processes there are, and counts small enough to be read every second.
--
-- The counts are kept by whoever makes what is counted, in the same transaction: the recorder adds those of a batch
-- with the batch itself, and only of rows that it really inserted. Counting the rows instead costs the more the busier
-- the last hour was, just when people look. Half full pages leave room for the next versions of a row, so that
-- updating it touches no index. Two thousand million an hour are enough, and integers are added up faster.

CREATE TABLE processes (
    -- Of this run of the process: a host's pids come again.
    id uuid PRIMARY KEY,
    host text NOT NULL,
    pid bigint NOT NULL,
    version text NOT NULL,
    roles text[] NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    report jsonb NOT NULL
        CONSTRAINT processes_report CHECK (jsonb_typeof(report) = 'object')
);

-- Events as workers take them from their queues: not retries, and not what is delivered again.
CREATE TABLE event_minutes (
    minute timestamptz NOT NULL,
    event_name text COLLATE "C" NOT NULL,
    events integer NOT NULL,
    PRIMARY KEY (minute, event_name)
) WITH (fillfactor = 50);

-- Executions by when they started.
CREATE TABLE execution_minutes (
    minute timestamptz NOT NULL,
    disposition text COLLATE "C" NOT NULL,
    -- How long it took: eight buckets a power of ten, of milliseconds + 1. Told of successes, -1 of all others.
    bucket smallint NOT NULL,
    executions integer NOT NULL,
    PRIMARY KEY (minute, disposition, bucket)
) WITH (fillfactor = 50);

-- Attempts of each handler; what was skipped is none.
CREATE TABLE handler_hours (
    handler_id bigint NOT NULL,
    hour timestamptz NOT NULL,
    attempts integer NOT NULL,
    failures integer NOT NULL,
    PRIMARY KEY (handler_id, hour)
) WITH (fillfactor = 50);

-- A handler and an event that it has nothing to do with, asked for together: the index alone says that there is nothing,
-- where every execution of the handler had to be read. 26 bytes an execution more.
DROP INDEX executions_handler;
CREATE INDEX executions_handler ON executions (handler_id, started_at, event_name);
