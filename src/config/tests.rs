//! Tests of whole configurations.

mod bad_values;

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::*;

/// A file with `text`, and the temporary directory that holds it.
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
    let recorder = &config.recorder;
    assert_eq!(
        (recorder.batch_size, recorder.retention_days, recorder.dead_letter_retention_days),
        (500, 90, 180)
    );
    assert_eq!(
        (config.telemetry.log.as_str(), config.telemetry.log_format),
        ("info", sections::LogFormat::Auto)
    );
    assert!(config.telemetry.otlp_endpoint.is_none(), "traces go nowhere unless somebody says where");
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

#[test]
fn an_error_names_the_variable() {
    for (name, value, expected) in [
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
        assert_eq!(load_with("", &[(name, value)]).expect_err(name), expected);
    }
}

#[test]
fn all_errors_are_reported_together() {
    let text = "[amqp]\nurl = 'http://hunter2'\nca_file = '/ca'\n[worker]\nconcurrency = 0\nnumber = 1";
    let env = [("PROVISIOND_HTTP__TIMEOUT", "30"), ("PROVISIOND_RETRY__JITTER", "2")];
    let errors = load_with(text, &env).expect_err("much is wrong");
    let keys: Vec<&str> = errors.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(keys, ["worker.number", "amqp.url", "worker.concurrency", "http.timeout", "retry.jitter"]);
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn a_toml_error_names_the_line_but_does_not_show_it() {
    let errors = load_with("[amqp]\nurl = \"amqp://u:hunter2@h", &[]).expect_err("not TOML");
    assert!(errors.starts_with("file F: TOML parse error at line 2, column"), "{errors}");
    assert!(!errors.contains("hunter2") && errors.lines().count() == 1, "{errors}");
}

#[test]
fn spaces_and_newlines_around_a_value_do_not_count() {
    let text = "[http]\nca_file = \"\"\"/ca.pem\n\"\"\"\n";
    let env = [
        ("DATABASE_URL", "postgres://u:p@h/d\r\n"),
        ("AMQP_URL", "\n"),
        ("PROVISIOND_AMQP__URL", " amqp://u:a,b@h/v\n"),
        ("PROVISIOND_WORKER__DRAIN_TIMEOUT", "30s\n"),
        ("PROVISIOND_AMQP__PREFIX", "prov\n"),
        ("PROVISIOND_AMQP__QUEUE_TYPE", "classic\n"),
        ("PROVISIOND_SCRIPT__ROOTS", "/srv/scripts\n"),
        ("PROVISIOND_WORKER__MAX_EVENT_BYTES", "64KiB\n"),
        ("PROVISIOND_HTTP__CLIENT_CERT", "\n"),
    ];
    let config = load_with(text, &env).expect("fine").config;
    assert_eq!(config.database.url.raw(), "postgres://u:p@h/d");
    assert_eq!(config.amqp.urls.iter().map(amqp::AmqpUrl::raw).collect::<Vec<_>>(), ["amqp://u:a,b@h/v"]);
    assert_eq!((config.worker.drain_timeout.as_secs(), config.amqp.prefix.as_str()), (30, "prov"));
    assert_eq!(config.http.ca_file, Some(PathBuf::from("/ca.pem")));
    assert_eq!((config.http.client_cert, config.script.roots), (None, vec![PathBuf::from("/srv/scripts")]));
    let named = layers::named_file(&[("PROVISIOND_CONFIG".to_owned(), "/etc/p.toml\n".to_owned())]);
    assert_eq!(named, Some(PathBuf::from("/etc/p.toml")));
}
