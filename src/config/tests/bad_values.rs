//! Every kind of rejected value, and its error message.

use super::load_with;

const OTLP_ENDPOINT: &str = "telemetry.otlp_endpoint (file F): must be the http or https url of a collector, such as \
    \"http://127.0.0.1:4318\", without user, password and query (headers: OTEL_EXPORTER_OTLP_HEADERS), or \"\" for none";

/// Bad values, and the expected errors.
const BAD_VALUES: &[(&str, &str)] = &[
    (
        "amqp.prefix = 'a b'",
        "amqp.prefix (file F): must be 1 to 60 characters of A-Z a-z 0-9 _ . -, not \"a b\"",
    ),
    ("amqp.queue_type = 'lazy'", "amqp.queue_type (file F): \"lazy\" is not one of quorum, classic"),
    ("amqp.heartbeat = '1500ms'", "amqp.heartbeat (file F): must be whole seconds, 1s to 10m"),
    ("amqp.heartbeat = '1h'", "amqp.heartbeat (file F): must be 1s to 10m, not \"1h\""),
    ("amqp.url = []", "amqp.url (file F): must contain at least one URL"),
    ("amqp.url = 5", "amqp.url (file F): must be a list of texts, such as [\"a\", \"b\"]"),
    (
        "amqp.url = ['amqp://a/x', 'amqp://b/y']",
        "amqp.url (file F): all URLs must have the same virtual host, because they are the nodes of one cluster: one has \
         \"x\", another \"y\" (case-sensitive)",
    ),
    (
        "amqp.url = 'amqp://a/BugsV,amqp://b/bugsv'",
        "amqp.url (file F): all URLs must have the same virtual host, because they are the nodes of one cluster: one has \
         \"BugsV\", another \"bugsv\" (case-sensitive)",
    ),
    (
        "amqp.ca_file = '/ca.pem'",
        "amqp.ca_file (file F): has no effect: no URL begins with amqps:// or https:// (amqp.url is set by default)",
    ),
    (
        "database.ca_file = '/ca.pem'\ndatabase.url = 'postgres://h/d?sslmode=disable'",
        "database.ca_file (file F): has no effect: the URL contains sslmode=disable (database.url is set by file F)",
    ),
    ("database.pool_size = 0", "database.pool_size (file F): must be a whole number, 1 to 1000, not 0"),
    ("database.migrate = 'yes'", "database.migrate (file F): must be true or false, not \"yes\""),
    (
        "worker.concurrency = '100'",
        "worker.concurrency (file F): must be a whole number, 1 to 10000, not \"100\"",
    ),
    (
        "worker.concurrency = 99999999",
        "worker.concurrency (file F): must be a whole number, 1 to 10000, not 99999999",
    ),
    (
        "worker.max_event_bytes = '9MB'",
        "worker.max_event_bytes (file F): must be a size, 1KiB to 8MiB, such as 64KiB or 1MiB, not \"9MB\"",
    ),
    (
        "worker.deduplicate = '5s'",
        "worker.deduplicate (file F): must be 1m to 30days, not \"5s\"; off for none",
    ),
    ("[worker.concurrency]\nx = 1", "worker.concurrency (file F): is a key, not a section"),
    ("telemetry.otlp_sample_ratio = 2", "telemetry.otlp_sample_ratio (file F): must be a number, 0.0 to 1.0"),
    ("telemetry.otlp_endpoint = '127.0.0.1:4318'", OTLP_ENDPOINT),
    ("telemetry.otlp_endpoint = 'grpc://127.0.0.1:4317'", OTLP_ENDPOINT),
    ("telemetry.otlp_endpoint = 'http://me:hunter2@127.0.0.1:4318'", OTLP_ENDPOINT),
    ("telemetry.otlp_endpoint = 'https://c.test/?key=hunter2'", OTLP_ENDPOINT),
    ("http.timeout = '11m'", "http.timeout (file F): must be 1ms to 10m, not \"11m\""),
    (
        "http.timeout = 30",
        "http.timeout (file F): must be a number with a unit, such as 500ms, 30s or 5m, not 30",
    ),
    (
        "script.roots = ['scripts']",
        "script.roots (file F): must be absolute paths, such as /srv/scripts, not \"scripts\"",
    ),
    ("script.env = ['A', 'A=hunter2']", "script.env (file F): must contain A only once"),
    ("script.env = ['PROVISIONING_X']", "script.env (file F): PROVISIONING_X is set by provisiond itself"),
    ("script.user = 'a:b'", "script.user (file F): must be the name or number of a user, not \"a:b\""),
    (
        "script.limits.open_files = 3",
        "script.limits.open_files (file F): must be a whole number, \
            8 to 1048576, not 3; 0 for none",
    ),
    ("retry.jitter = 1", "retry.jitter (file F): must be 0 to below 1"),
    ("retry.multiplier = 'x'", "retry.multiplier (file F): must be a number, not \"x\""),
    (
        "retry.max_interval = '4s'",
        "retry.max_interval (file F): must be at least retry.initial_interval \
            and at most 12d (retry.initial_interval is set by default)",
    ),
    (
        "worker = 3",
        "worker (file F): is a section, with the keys worker.concurrency, worker.crash_limit, \
            worker.deduplicate, worker.drain_timeout, worker.max_event_bytes, worker.record_unhandled",
    ),
    ("workr.concurrency = 3", "workr (file F): there is no such key or section; did you mean worker?"),
    (
        "worker.concurency = 3",
        "worker.concurency (file F): there is no such key or section; did you mean worker.concurrency?",
    ),
];

#[test]
fn an_error_names_the_key_and_the_allowed_values() {
    for (text, expected) in BAD_VALUES {
        assert_eq!(load_with(text, &[]).expect_err(text), *expected);
    }
}
