-- Runs of events that may take workers down: how often each was begun alone, by a worker that did not live to see its
-- end. A row goes when the run ends.
CREATE TABLE suspects (
    event_id text NOT NULL,
    run_id text NOT NULL,
    begun integer NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, run_id)
);
