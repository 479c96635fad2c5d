//! Stories of whole configurations.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::*;

/// A file with `text`, and the directory that keeps it.
fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("provisiond.toml");
    fs::write(&path, text).expect("written");
    (dir, path)
}

fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Loaded, String> {
    let (_dir, path) = file(text);
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let place = path.display().to_string();
    load(Some(&path), env).map_err(|errors| errors.to_string().replace(&place, "F"))
}

fn setting(loaded: &Loaded, key: &str) -> String {
    let setting = loaded.settings.iter().find(|s| s.key == key).expect("a setting");
    setting.to_string()
}

#[test]
fn the_defaults_are_the_designed_ones_and_every_key_is_read() {
    let loaded = load_with("", &[]).expect("the defaults are valid");
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in include_str!("../../config/default.toml").lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.push(format!("{section}.{name}"));
        }
    }
    assert_eq!(loaded.settings.iter().map(|s| s.key.clone()).collect::<Vec<_>>(), keys);
    assert!(loaded.settings.iter().all(|s| s.source == "default"));

    let config = loaded.config;
    assert_eq!(
        config.amqp.urls.iter().map(amqp::AmqpUrl::raw).collect::<Vec<_>>(),
        ["amqp://guest:guest@127.0.0.1:5672/%2f"]
    );
    assert_eq!((config.amqp.queue_type, config.amqp.heartbeat.as_secs()), (QueueType::Quorum, 10));
    assert_eq!((config.worker.concurrency, config.worker.max_event_bytes), (100, 1 << 20));
    assert_eq!(config.worker.drain_timeout.as_secs(), 75);
    assert_eq!(config.http.timeout.duration().as_secs(), 30);
    assert!(config.script.concurrency >= 2 && config.script.limits.address_space.is_none());
    assert_eq!((config.retry.max_attempts, config.retry.max_interval.as_secs()), (8, 21_600));
    assert_eq!((config.recorder.batch_size, config.recorder.retention_days), (500, 90));
    assert_eq!(
        (config.telemetry.log.as_str(), config.telemetry.log_format),
        ("info", sections::LogFormat::Auto)
    );
    assert!(config.telemetry.log_format.is_json(false) && !config.telemetry.log_format.is_json(true));
}

#[test]
fn the_environment_is_stronger_than_a_file_and_says_so() {
    let text = "[worker]\nconcurrency = 5\nmax_event_bytes = 2048\n[amqp]\nurl = ['amqp://a', 'amqp://b']";
    let loaded = load_with(
        text,
        &[
            ("PROVISIOND_WORKER__CONCURRENCY", "7"),
            ("PROVISIOND_WORKER__RECORD_UNHANDLED", "false"),
            ("PROVISIOND_RETRY__JITTER", "0"),
            ("PROVISIOND_SCRIPT__ROOTS", r#"["/a", "/b"]"#),
            ("PROVISIOND_SCRIPT__ENV", "TZ,TOKEN=hunter2"),
            ("PROVISIOND_SCRIPT__LIMITS__ADDRESS_SPACE", "1GiB"),
            ("AMQP_URL", "amqp://x:hunter2@one/%2f, amqp://two/%2F"),
            ("DATABASE_URL", ""),
            ("PROVISIOND_TEST_THING", "not ours"),
            ("PROVISIOND_LOCAL_PORT", "not ours"),
        ],
    );
    let loaded = loaded.expect("fine");
    let source = |key: &str| {
        loaded.settings.iter().find(|s| s.key == key).map(|s| s.source.clone()).unwrap_or_default()
    };
    assert_eq!(
        setting(&loaded, "worker.concurrency"),
        "worker.concurrency = 7   # environment variable PROVISIOND_WORKER__CONCURRENCY"
    );
    assert_eq!(
        setting(&loaded, "amqp.url"),
        r#"amqp.url = ["amqp://x:***@one/%2f","amqp://two/%2F"]   # environment variable AMQP_URL"#
    );
    assert_eq!(
        setting(&loaded, "script.env"),
        r#"script.env = ["TZ","TOKEN=***"]   # environment variable PROVISIOND_SCRIPT__ENV"#
    );
    assert!(source("worker.max_event_bytes").starts_with("file /"));
    assert_eq!(source("database.url"), "default");
    let config = &loaded.config;
    assert_eq!((config.worker.max_event_bytes, config.worker.record_unhandled), (2048, false));
    assert_eq!(config.script.roots, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(config.script.limits.address_space, Some(1 << 30));
    assert!(config.retry.jitter.abs() < f64::EPSILON);
    assert!(!format!("{loaded:?}").contains("hunter2"), "Debug shows no secret");

    let env = [("AMQP_URL", "amqp://weak"), ("PROVISIOND_AMQP__URL", "amqp://strong")];
    let loaded = load_with("", &env).expect("fine");
    assert_eq!(loaded.config.amqp.urls.first().map(amqp::AmqpUrl::raw), Some("amqp://strong"));
}

#[test]
fn the_environment_may_name_the_file() {
    let (_dir, path) = file("[worker]\nconcurrency = 5");
    let env = [("PROVISIOND_CONFIG".to_owned(), path.display().to_string())];
    let loaded = load(None, env.into_iter()).expect("fine");
    assert_eq!(loaded.config.worker.concurrency, 5);
    let missing = load(Some(Path::new("/nowhere/p.toml")), std::iter::empty()).expect_err("missing");
    assert_eq!(missing.to_string().split(':').next(), Some("file /nowhere/p.toml"));
}

/// What is wrong, and what is told.
const BAD_VALUES: &[(&str, &str)] = &[
    ("amqp.prefix = 'a b'", "amqp.prefix (file F): must be 1 to 60 of A-Z a-z 0-9 _ . -, not \"a b\""),
    ("amqp.queue_type = 'lazy'", "amqp.queue_type (file F): \"lazy\" is not one of quorum, classic"),
    ("amqp.heartbeat = '1500ms'", "amqp.heartbeat (file F): must be whole seconds, 1s to 10m"),
    ("amqp.heartbeat = '1h'", "amqp.heartbeat (file F): must be 1s to 10m, not \"1h\""),
    ("amqp.url = []", "amqp.url (file F): must name at least one url"),
    ("amqp.url = 5", "amqp.url (file F): must be a list of texts, such as [\"a\", \"b\"]"),
    (
        "amqp.url = ['amqp://a/x', 'amqp://b/y']",
        "amqp.url (file F): the urls must name the same virtual host: they are the nodes of one cluster",
    ),
    (
        "amqp.ca_file = '/ca.pem'",
        "amqp.ca_file (file F): has no use: no url begins with amqps:// (amqp.url is set by default)",
    ),
    (
        "database.ca_file = '/ca.pem'\ndatabase.url = 'postgres://h/d?sslmode=disable'",
        "database.ca_file (file F): has no use: the url says sslmode=disable (database.url is set by file F)",
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
    ("http.timeout = '11m'", "http.timeout (file F): must be 1ms to 10m, not \"11m\""),
    (
        "http.timeout = 30",
        "http.timeout (file F): must be a number with a unit, such as 500ms, 30s or 5m, not 30",
    ),
    (
        "script.roots = ['scripts']",
        "script.roots (file F): must be absolute paths, such as /srv/scripts, not \"scripts\"",
    ),
    ("script.env = ['A', 'A=hunter2']", "script.env (file F): must name A once only"),
    ("script.env = ['PROVISIONING_X']", "script.env (file F): PROVISIONING_X is set by provisiond itself"),
    ("script.user = 'a:b'", "script.user (file F): must be the name of a user, not \"a:b\""),
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
fn a_bad_value_is_told_with_its_place_and_what_is_allowed() {
    for (text, told) in BAD_VALUES {
        assert_eq!(load_with(text, &[]).expect_err(text), *told);
    }
}

#[test]
fn a_bad_variable_is_told_by_its_name() {
    for (name, value, told) in [
        (
            "PROVISIOND_WORKER__CONCURRENCY",
            "many",
            "worker.concurrency (environment variable \
            PROVISIOND_WORKER__CONCURRENCY): must be a whole number, 1 to 10000, not \"many\"",
        ),
        (
            "PROVISIOND_AMQP__ULR",
            "x",
            "amqp.ulr (environment variable PROVISIOND_AMQP__ULR): there is no such \
             key or section; did you mean amqp.url?",
        ),
        (
            "PROVISIOND_AMQP_URL",
            "amqp://u:hunter2@h",
            "environment variable PROVISIOND_AMQP_URL: is not read; \
            amqp.url is set by PROVISIOND_AMQP__URL (two underscores)",
        ),
        (
            "DATABASE_URL",
            "mysql://u:hunter2@h",
            "database.url (environment variable DATABASE_URL): must be \
            postgres://user:password@host:5432/database",
        ),
    ] {
        assert_eq!(load_with("", &[(name, value)]).expect_err(name), told);
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text = "[amqp]\nurl = 'http://hunter2'\nca_file = '/ca'\n[worker]\nconcurrency = 0\nnumber = 1";
    let env = [("PROVISIOND_HTTP__TIMEOUT", "30"), ("PROVISIOND_RETRY__JITTER", "2")];
    let errors = load_with(text, &env).expect_err("much is wrong");
    let keys: Vec<&str> = errors.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(keys, ["worker.number", "amqp.url", "worker.concurrency", "http.timeout", "retry.jitter"]);
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn a_file_that_is_not_toml_is_told_by_line_and_not_shown() {
    let errors = load_with("[amqp]\nurl = \"amqp://u:hunter2@h", &[]).expect_err("not TOML");
    assert!(errors.starts_with("file F: TOML parse error at line 2, column"), "{errors}");
    assert!(!errors.contains("hunter2") && errors.lines().count() == 1, "{errors}");
}
