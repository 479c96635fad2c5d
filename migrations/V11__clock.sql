-- What the recorders last read from the database's clock. Where it moved by days between two looks, it was set (or nobody
-- looked for days), and for a while nothing is deleted by its word.
ALTER TABLE installation
    ADD COLUMN clock_seen timestamptz,
    ADD COLUMN clock_before_jump timestamptz,
    ADD COLUMN clock_after_jump timestamptz;
