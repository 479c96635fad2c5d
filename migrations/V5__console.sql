-- Sessions of the console: in the database, so that they outlive a process and any process knows them. Of a session's
-- token only its SHA-256 is kept: who reads this table can use none.
CREATE TABLE console_sessions (
    token_hash bytea PRIMARY KEY
        CONSTRAINT console_sessions_token CHECK (octet_length(token_hash) = 32),
    user_name text COLLATE "C" NOT NULL,
    -- What the session was begun with, hashed: it ends when that is not what is configured any more.
    credential bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

CREATE INDEX console_sessions_expiry ON console_sessions (expires_at);

-- A replay that somebody, perhaps in another process, asks to stop.
ALTER TABLE replays ADD COLUMN stop_asked_by text;
