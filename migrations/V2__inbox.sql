-- Which events were begun lately: what worker.deduplicate knows an event by that was published twice.
--
-- The claim is of the delivery that wrote the row: a worker that does not know whether its statement was committed asks
-- again with the same one. Without it, its own row would look like another's.
CREATE TABLE inbox (
    event_id text COLLATE "C" NOT NULL,
    event_name text COLLATE "C" NOT NULL,
    claim uuid NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, event_name)
);

CREATE INDEX inbox_claimed ON inbox (claimed_at);
