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
    describe_counter!(PUBLISHED, "Messages that the broker has confirmed, by what they are");
    describe_counter!(
        REFUSED,
        "Publishes that the broker refused or lost, and that were made again, by what they are"
    );
    describe_counter!(CONNECTIONS_LOST, "Connections to the broker that were lost, by what they are for");
    describe_counter!(LOG_LOST, "Log lines that were lost, as nobody took them from standard error in time");
    describe_counter!(CONSOLE_REQUESTS, "Requests to the console and the REST API, by method and status");
    describe_histogram!(
        CONSOLE_DURATION,
        Unit::Seconds,
        "How long requests to the console and the REST API took"
    );
    describe_gauge!("provisiond_build_info", "1; its label is the version");
    describe_gauge!("provisiond_broker_up", "Whether a connection to the broker stands, by what it is for");
    describe_gauge!(
        "provisiond_broker_blocked",
        "Whether the broker takes no messages for now (memory or disk alarm)"
    );
    describe_gauge!("provisiond_database_up", "Whether PostgreSQL answered when this was asked for");
    describe_gauge!("provisiond_draining", "Whether this process takes nothing new and ends soon");
}

fn worker() {
    describe_counter!(
        DELIVERIES,
        "Deliveries taken: first ones, copies of ours (retries, replays, rests of plans), and what came again"
    );
    describe_counter!(SETTLED, "Deliveries settled: acknowledged, or returned to their queue");
    describe_gauge!(IN_FLIGHT, "Deliveries that are taken and not settled");
    describe_gauge!(
        "provisiond_deliveries_limit",
        "Deliveries of one event that this process takes at a time (worker.concurrency)"
    );
    describe_histogram!(
        EVENT_WAIT,
        Unit::Seconds,
        "From an event's dt to the moment it was taken; first deliveries only"
    );
    describe_counter!(
        ATTEMPTS,
        "Attempts by event, handler (its id; \"other\" beyond telemetry.handler_series) and outcome"
    );
    describe_histogram!(ATTEMPT_DURATION, Unit::Seconds, "How long attempts took");
    describe_gauge!(ATTEMPTS_IN_FLIGHT, "Attempts under way");
    describe_gauge!("provisiond_script_slots", "Scripts that may run at a time (script.concurrency)");
    describe_counter!(RETRIES, "Retry copies sent into the delay ladder");
    describe_counter!(DEAD_LETTERS, "Events, or shares of them, that were given up, by reason");
    describe_counter!(
        IDS_REUSED,
        "Events whose id was used for another body before, and that ran (worker.deduplicate)"
    );
    describe_counter!(SKIPS, "Handlers, or events, that were passed over, by disposition");
    describe_gauge!("provisiond_registry_age_seconds", "Since the handlers were last read from the database");
    describe_gauge!("provisiond_registry_handlers", "Handlers that are enabled");
    describe_counter!(REBUILT, "Consumers that the watchdog has rebuilt because nothing moved");
    describe_gauge!("provisiond_consumers_wedged", "Consumers for which that did not help: /healthz fails");
}

fn recorder() {
    describe_counter!(ROWS, "Rows written by this recorder, by table");
    describe_histogram!(BATCH_ROWS, "Executions written with one statement");
    describe_histogram!(BATCH_DURATION, Unit::Seconds, "How long writing a batch took");
    describe_counter!(WRITES_FAILED, "Batches that PostgreSQL did not take, each try counted");
    describe_gauge!(
        "provisiond_recorder_lag_seconds",
        "How long before it was written the last execution had ended"
    );
    describe_gauge!(
        QUEUE_MESSAGES,
        "Messages that wait in a queue, unsettled ones not counted; asked of the broker every 15 s"
    );
    describe_gauge!(
        "provisiond_dead_letters_open",
        "Dead letters in the database that wait for an operator, at most 100000"
    );
}
