-- What the event said whose id is remembered: the same id with another body is no duplicate. Null: a version before this
-- one wrote the row.
ALTER TABLE inbox ADD COLUMN body_hash bytea;
