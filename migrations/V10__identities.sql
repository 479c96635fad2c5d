-- An installation is one database, and what it has in the broker under one prefix, which is marked with this id.
CREATE TABLE installation (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    -- There is one.
    one boolean PRIMARY KEY DEFAULT true
        CONSTRAINT installation_one CHECK (one)
);

INSERT INTO installation DEFAULT VALUES;

-- When the handlers of `plan` were created, in microseconds, 0 where that is not known: a database that was restored from a
-- backup gives their numbers to others.
ALTER TABLE dead_letters ADD COLUMN plan_created bigint[] NOT NULL DEFAULT '{}';
