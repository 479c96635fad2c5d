//! Names, help texts and buckets of all metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(super) const DELIVERIES: &str = "provisiond_deliveries_total";
pub(super) const SETTLED: &str = "provisiond_deliveries_settled_total";
pub(super) const IN_FLIGHT: &str = "provisiond_deliveries_in_flight";
pub(super) const EVENT_WAIT: &str = "provisiond_event_wait_seconds";
pub(super) const ATTEMPTS: &str = "provisiond_attempts_total";
pub(super) const ATTEMPT_DURATION: &str = "provisiond_attempt_duration_seconds";
pub(super) const ATTEMPTS_IN_FLIGHT: &str = "provisiond_attempts_in_flight";
pub(super) const RETRIES: &str = "provisiond_retries_total";
pub(super) const DEAD_LETTERS: &str = "provisiond_dead_letters_total";
pub(super) const SKIPS: &str = "provisiond_skips_total";
pub(super) const IDS_REUSED: &str = "provisiond_event_ids_reused_total";
pub(super) const REBUILT: &str = "provisiond_consumers_rebuilt_total";
pub(super) const PUBLISHED: &str = "provisiond_published_total";
pub(super) const REFUSED: &str = "provisiond_publishes_refused_total";
pub(super) const CONNECTIONS_LOST: &str = "provisiond_broker_connections_lost_total";
pub(super) const ROWS: &str = "provisiond_recorder_rows_total";
pub(super) const BATCH_ROWS: &str = "provisiond_recorder_batch_rows";
pub(super) const BATCH_DURATION: &str = "provisiond_recorder_batch_duration_seconds";
pub(super) const WRITES_FAILED: &str = "provisiond_recorder_failures_total";
pub(super) const QUEUE_MESSAGES: &str = "provisiond_queue_messages";
pub(super) const LOG_LOST: &str = "provisiond_log_lines_lost_total";
pub(super) const CONSOLE_REQUESTS: &str = "provisiond_console_requests_total";
pub(super) const CONSOLE_DURATION: &str = "provisiond_console_request_duration_seconds";

/// The upper bounds of each histogram's buckets. Each bucket adds a series for every event type.
pub(super) const BUCKETS: &[(&str, &[f64])] = &[
    (
        ATTEMPT_DURATION,
        &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0],
    ),
    (EVENT_WAIT, &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0]),
    (BATCH_ROWS, &[1.0, 5.0, 10.0, 50.0, 100.0, 200.0, 350.0, 500.0, 1000.0, 5000.0]),
    (BATCH_DURATION, &[0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0]),
    (CONSOLE_DURATION, &[0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
];

pub(super) fn all() {
    worker();
    recorder();
    describe_counter!(PUBLISHED, "Messages that the broker confirmed, by purpose");
    describe_counter!(
        REFUSED,
        "Messages that the broker refused or lost and that were published again, by purpose"
    );
    describe_counter!(CONNECTIONS_LOST, "Lost connections to the broker, by purpose of the connection");
    describe_counter!(LOG_LOST, "Log lines lost because the reader of standard error was too slow");
    describe_counter!(CONSOLE_REQUESTS, "Requests to the console and the REST API, by method and status");
    describe_histogram!(
        CONSOLE_DURATION,
        Unit::Seconds,
        "How long requests to the console and the REST API took"
    );
    describe_gauge!("provisiond_build_info", "Always 1; the label is the version of provisiond");
    describe_gauge!("provisiond_broker_up", "Whether the connection to the broker is usable, by its purpose");
    describe_gauge!(
        "provisiond_broker_blocked",
        "Whether the broker blocks publishers (memory or disk alarm)"
    );
    describe_gauge!("provisiond_database_up", "Whether PostgreSQL answered during this scrape");
    describe_gauge!("provisiond_draining", "Whether this process is draining and will end soon");
}

fn worker() {
    describe_counter!(
        DELIVERIES,
        "Deliveries received, by kind: first, copy (retries, replays, handed-over plans), or redelivered"
    );
    describe_counter!(SETTLED, "Deliveries settled: acknowledged, or returned to their queue");
    describe_gauge!(IN_FLIGHT, "Deliveries received and not yet settled");
    describe_gauge!(
        "provisiond_deliveries_limit",
        "Deliveries of one event type that this process holds at a time (worker.concurrency)"
    );
    describe_histogram!(EVENT_WAIT, Unit::Seconds, "Time from an event's dt to its first delivery");
    describe_counter!(
        ATTEMPTS,
        "Attempts by event, handler (its id; \"other\" beyond telemetry.handler_series) and outcome"
    );
    describe_histogram!(ATTEMPT_DURATION, Unit::Seconds, "How long attempts took");
    describe_gauge!(ATTEMPTS_IN_FLIGHT, "Running attempts");
    describe_gauge!("provisiond_script_slots", "Scripts that may run at a time (script.concurrency)");
    describe_counter!(RETRIES, "Retry copies sent into the delay ladder");
    describe_counter!(DEAD_LETTERS, "Events, or parts of their plans, that became dead letters, by reason");
    describe_counter!(
        IDS_REUSED,
        "Events that ran although their id was used before with a different body (worker.deduplicate)"
    );
    describe_counter!(SKIPS, "Skipped handlers and events, by disposition");
    describe_gauge!(
        "provisiond_registry_age_seconds",
        "Time since the handlers were last read from the database"
    );
    describe_gauge!("provisiond_registry_handlers", "Handlers that are enabled");
    describe_counter!(REBUILT, "Restarts of stuck consumers by the watchdog");
    describe_gauge!(
        "provisiond_consumers_wedged",
        "Consumers that are stuck again after a restart: /healthz fails"
    );
}

fn recorder() {
    describe_counter!(ROWS, "Rows written by this recorder, by table");
    describe_histogram!(BATCH_ROWS, "Executions written with one statement");
    describe_histogram!(BATCH_DURATION, Unit::Seconds, "How long writing a batch took");
    describe_counter!(WRITES_FAILED, "Failed attempts to write a batch to PostgreSQL");
    describe_gauge!(
        "provisiond_recorder_lag_seconds",
        "Time from the end of the last written execution to its write"
    );
    describe_gauge!(
        QUEUE_MESSAGES,
        "Messages that wait in a queue, without unacknowledged ones; read from the broker every 15 s"
    );
    describe_gauge!(
        "provisiond_dead_letters_open",
        "Open dead letters in the database, counted up to 100000"
    );
}
