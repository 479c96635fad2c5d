-- An event may run, and its publisher get no answer. What is there already needs no look: it was allowed before.
ALTER TABLE executions
    DROP CONSTRAINT executions_disposition,
    ADD CONSTRAINT executions_disposition CHECK (
        (status = 'success' AND disposition IN ('done', 'forbidden'))
        OR (status = 'fail' AND disposition IN ('retrying', 'dead_lettered'))
        OR (status = 'skipped'
            AND disposition IN ('handler_off', 'not_reached', 'no_handler', 'duplicate', 'not_answered'))) NOT VALID;
