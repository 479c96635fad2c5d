//! The small sections: `worker`, `http`, `retry`, `recorder`, `telemetry`.

use std::time::Duration;

use super::{
    reader::Reader,
    value::{KIB, MIB, any_duration, duration, flag, integer, number, size, text, timeout, word},
};
use crate::domain::{retry::RetryPolicy, text_enum::text_enum};

/// Section `worker`.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Deliveries of one event at a time.
    pub concurrency: u16,
    pub max_event_bytes: usize,
    pub record_unhandled: bool,
    pub drain_timeout: Duration,
}

/// Section `http`.
#[derive(Clone, Debug)]
pub struct Http {
    pub timeout: Duration,
    pub connect_timeout: Duration,
}

/// Section `recorder`.
#[derive(Clone, Debug)]
pub struct Recorder {
    pub batch_size: usize,
    pub batch_delay: Duration,
    pub retention_days: u16,
    pub drain_dead_letters: bool,
}

/// Section `telemetry`.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Directives of what is logged.
    pub log: String,
    pub log_format: LogFormat,
}

text_enum! {
    /// The form of the log.
    LogFormat {
        /// Human on a terminal, JSON elsewhere.
        Auto = "auto",
        Human = "human",
        Json = "json",
    }
}

impl Worker {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let concurrency = reader.get("worker.concurrency", integer(1_u16..=10_000));
        let max_event_bytes = reader.get("worker.max_event_bytes", size(KIB..=8 * MIB));
        let record_unhandled = reader.get("worker.record_unhandled", flag);
        let drain = duration(Duration::ZERO..=Duration::from_hours(1));
        let drain_timeout = reader.get("worker.drain_timeout", drain);
        Some(Self {
            concurrency: concurrency?,
            max_event_bytes: usize::try_from(max_event_bytes?).ok()?,
            record_unhandled: record_unhandled?,
            drain_timeout: drain_timeout?,
        })
    }
}

impl Http {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let exchange = reader.get("http.timeout", timeout);
        let connect = reader.get("http.connect_timeout", timeout);
        Some(Self { timeout: exchange?.duration(), connect_timeout: connect?.duration() })
    }
}

impl Recorder {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let batch_size = reader.get("recorder.batch_size", integer(1_u16..=5000));
        let delay = duration(Duration::from_millis(1)..=Duration::from_secs(10));
        let batch_delay = reader.get("recorder.batch_delay", delay);
        let retention_days = reader.get("recorder.retention_days", integer(1_u16..=36_500));
        let drain_dead_letters = reader.get("recorder.drain_dead_letters", flag);
        Some(Self {
            batch_size: batch_size?.into(),
            batch_delay: batch_delay?,
            retention_days: retention_days?,
            drain_dead_letters: drain_dead_letters?,
        })
    }
}

impl Telemetry {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let log = reader.get("telemetry.log", |value| {
            let text = text(value)?;
            let valid = text.parse::<tracing_subscriber::filter::Targets>();
            valid
                .map(|_| text.to_owned())
                .map_err(|e| format!("must be levels such as info or info,lapin=debug ({e})"))
        });
        let log_format = reader.get("telemetry.log_format", word);
        Some(Self { log: log?, log_format: log_format? })
    }
}

/// Section `retry`.
pub(super) fn retry(reader: &mut Reader) -> Option<RetryPolicy> {
    let max_attempts = reader.get("retry.max_attempts", integer(1_u32..=100));
    let initial_interval = reader.get("retry.initial_interval", any_duration);
    let multiplier = reader.get("retry.multiplier", number);
    let max_interval = reader.get("retry.max_interval", any_duration);
    let jitter = reader.get("retry.jitter", number);
    let policy = RetryPolicy {
        max_attempts: max_attempts?,
        initial_interval: initial_interval?,
        multiplier: multiplier?,
        max_interval: max_interval?,
        jitter: jitter?,
    };
    if let Err(error) = policy.validate() {
        let key = format!("retry.{}", error.key);
        reader.clash(&key, "retry.initial_interval", &format!("must be {}", error.allowed));
    }
    Some(policy)
}
