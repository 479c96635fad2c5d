-- Signing secrets may be encrypted (secrets.key): the mark tells them from those in clear.
ALTER TABLE handlers
    DROP CONSTRAINT handlers_signing_secret,
    DROP CONSTRAINT handlers_previous_signing_secret,
    ADD CONSTRAINT handlers_signing_secret CHECK (signing_secret ~ '^(whsec_|enc:v1:)'),
    ADD CONSTRAINT handlers_previous_signing_secret CHECK (previous_signing_secret ~ '^(whsec_|enc:v1:)');
