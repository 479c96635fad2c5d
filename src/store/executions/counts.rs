//! Updates the counts in the statement that inserts a batch.

/// Extends `insert`, which must not have a `RETURNING` yet, so that it also counts the rows it inserted. The
/// statement returns the number of these rows.
///
/// Both count tables are updated in the order of their keys. Concurrent recorders then wait for each other and cannot
/// deadlock.
pub(super) fn with_counts(insert: &str) -> String {
    format!(
        "WITH inserted AS (
            {insert} RETURNING started_at, duration_ms, status, disposition, handler_id
        ), minutes AS (
            INSERT INTO execution_minutes (minute, disposition, bucket, executions)
            SELECT date_trunc('minute', started_at), disposition,
                CASE WHEN status = 'success' THEN least(floor(8 * log((duration_ms + 1)::float8)), 50) ELSE -1 END,
                count(*)
            FROM inserted GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
            ON CONFLICT (minute, disposition, bucket)
                DO UPDATE SET executions = execution_minutes.executions + excluded.executions
        ), hours AS (
            INSERT INTO handler_hours (handler_id, hour, attempts, failures)
            SELECT handler_id, date_trunc('hour', started_at), count(*), count(*) FILTER (WHERE status = 'fail')
            FROM inserted WHERE handler_id IS NOT NULL AND status <> 'skipped' GROUP BY 1, 2 ORDER BY 1, 2
            ON CONFLICT (handler_id, hour) DO UPDATE SET
                attempts = handler_hours.attempts + excluded.attempts,
                failures = handler_hours.failures + excluded.failures
        )
        SELECT count(*) FROM inserted"
    )
}
