-- Replays: jobs that send dead letters, or executions, back into their queues. And what makes a million dead
-- letters searchable and countable while somebody waits.

CREATE TABLE replays (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text COLLATE "C" NOT NULL
        CONSTRAINT replays_source CHECK (source IN ('dead_letters', 'executions')),
    -- What was asked for, as a person reads it.
    asked text NOT NULL,
    -- A second, at most.
    rate integer NOT NULL
        CONSTRAINT replays_rate CHECK (rate BETWEEN 1 AND 1000),
    -- Percent of the first attempts.
    max_failures integer NOT NULL
        CONSTRAINT replays_max_failures CHECK (max_failures BETWEEN 0 AND 100),
    -- A job whose process was killed stays running until somebody resumes it: who runs it holds an advisory lock.
    state text COLLATE "C" NOT NULL DEFAULT 'running'
        CONSTRAINT replays_state CHECK (state IN ('running', 'stopped', 'finished')),
    note text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    ended_at timestamptz,
    CONSTRAINT replays_end CHECK ((state = 'running') = (ended_at IS NULL))
);

CREATE TABLE replay_items (
    replay_id bigint NOT NULL REFERENCES replays (id) ON DELETE CASCADE,
    -- Oldest first.
    position bigint GENERATED ALWAYS AS IDENTITY,
    letter_id uuid,
    execution_id uuid,
    execution_started_at timestamptz,
    -- Of an execution: the event's id, and the handler's after a space where that alone is replayed. Each once a job.
    share text COLLATE "C",
    -- The edited body, where there is one.
    body bytea,
    state text COLLATE "C" NOT NULL DEFAULT 'waiting'
        CONSTRAINT replay_items_state CHECK (state IN ('waiting', 'replayed', 'refused', 'passed')),
    why text,
    settled_at timestamptz,
    PRIMARY KEY (replay_id, position),
    CONSTRAINT replay_items_subject CHECK (
        (letter_id IS NULL) <> (execution_id IS NULL)
        AND (execution_id IS NULL) = (execution_started_at IS NULL)
        AND (execution_id IS NULL) = (share IS NULL)),
    CONSTRAINT replay_items_settled CHECK ((state = 'waiting') = (settled_at IS NULL))
);

CREATE UNIQUE INDEX replay_items_once ON replay_items (replay_id, share) WHERE share IS NOT NULL;
-- An execution has no state of its own: whether another job has just replayed the same.
CREATE INDEX replay_items_replayed ON replay_items (share, settled_at) WHERE share IS NOT NULL AND state = 'replayed';

-- Counting reads this index alone (7 MB for a million letters), not the letters. Costs the recorder nothing
-- that can be measured: the same few entries come again and again.
CREATE INDEX dead_letters_count ON dead_letters (state, event_name, handler_id, reason);
-- Newest first in a state, as before; and a count since some time reads it alone too.
DROP INDEX dead_letters_state_died;
CREATE INDEX dead_letters_state_died ON dead_letters (state, died_at) INCLUDE (event_name, handler_id, reason);
-- What retention deletes.
CREATE INDEX dead_letters_closed ON dead_letters (state_changed_at) WHERE state <> 'open';

-- Text anywhere in an error or a body is found by trigrams. pg_trgm comes with PostgreSQL and may be created by whoever
-- may create in the database; a role with fewer rights migrates without, and searches are as right but read every letter
-- (some seconds a million). An administrator who creates the extension before the migration spares that.
-- Measured with a million letters of 300 bytes: 311 + 44 MB, and the recorder's batch of 500 takes 60 ms
-- rather than 17. Only the first 16 KiB of a body are indexed: trigrams of megabytes would hold up their batch.
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'without pg_trgm (%): searching text in dead letters reads all of them', SQLERRM;
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_opclass WHERE opcname = 'gin_trgm_ops' AND pg_opclass_is_visible(oid)) THEN
        CREATE INDEX dead_letters_error_text ON dead_letters USING gin (error gin_trgm_ops);
        CREATE INDEX dead_letters_body_text ON dead_letters
            USING gin ((encode(substring(body FOR 16384), 'escape') COLLATE "C") gin_trgm_ops);
    END IF;
END
$$;

-- Finds the bodies that are longer; also without any, its statistics tell the planner that they are rare.
CREATE INDEX dead_letters_size ON dead_letters (octet_length(body));
