//! The sections that consist of little more than their keys: `worker`, `retry`, `recorder`, `telemetry`.

use std::{net::SocketAddr, time::Duration};

use ::config::Value;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};
use url::Url;

use super::{
    console::address,
    reader::Reader,
    value::{
        KIB, MIB, any_duration, duration, flag, integer, none_or, number, size, text, text_or_none, word,
    },
};
use crate::domain::{
    retry::{RetryOverrides, RetryPolicy},
    text_enum::text_enum,
};

/// Settings of the worker.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Maximum number of unacknowledged deliveries of one event type.
    pub concurrency: u16,
    /// A larger event is malformed.
    pub max_event_bytes: usize,
    /// Whether an event without an enabled handler is recorded.
    pub record_unhandled: bool,
    /// How long the ids of events are kept to detect an event that is published twice.
    pub deduplicate: Option<Duration>,
    /// An event that ran alone this often and never ended becomes a dead letter.
    pub crash_limit: u32,
    /// How long running handlers may continue during a drain.
    pub drain_timeout: Duration,
}

/// Settings of the recorder.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Maximum number of rows in one statement.
    pub batch_size: usize,
    /// How long a row waits for more rows.
    pub batch_delay: Duration,
    pub retention_days: u16,
    /// Retention of dead letters that are not open.
    pub dead_letter_retention_days: u16,
    /// Whether the recorder moves dead letters from their queue to the database.
    pub drain_dead_letters: bool,
    /// Whether the text of a day is indexed after the day has ended.
    pub index_text: bool,
}

/// Settings of the log, metrics and traces.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Valid directives of an `EnvFilter`.
    pub log: String,
    pub log_format: LogFormat,
    /// An OpenTelemetry collector: `http` or `https`, without user and query.
    pub otlp_endpoint: Option<Url>,
    /// Share of the events without a trace that is traced.
    pub otlp_sample_ratio: f64,
    pub listen: Listen,
    /// Maximum number of handlers that have their own metric series.
    pub handler_series: usize,
}

/// Where `/metrics`, `/healthz` and `/readyz` are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `None`: not served.
    pub address: Option<SocketAddr>,
    /// Whether the configuration sets the address. If it does, an address in use is an error; the default address is
    /// optional.
    pub is_chosen: bool,
}

text_enum! {
    /// The format of the log.
    LogFormat {
        /// `Human` on a terminal, `Json` otherwise.
        Auto = "auto",
        Human = "human",
        Json = "json",
    }
}

impl LogFormat {
    pub const fn is_json(self, on_terminal: bool) -> bool {
        match self {
            Self::Auto => !on_terminal,
            Self::Human => false,
            Self::Json => true,
        }
    }
}

/// At least 3: an event is a suspect after 3 deliveries (`worker/admission/suspects.rs`). At most 90: below the
/// delivery limit of 100 of the event queues (`broker/topology.rs`).
const CRASH_LIMITS: std::ops::RangeInclusive<u32> = 3..=90;

impl Worker {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        // RabbitMQ accepts messages up to 16 MiB; headers and the data that handlers add must fit too.
        let sizes = KIB..=8 * MIB;
        let windows = Duration::from_mins(1)..=Duration::from_hours(30 * 24);
        Some(Self {
            concurrency: reader.get("worker.concurrency", integer(1..=10_000))?,
            max_event_bytes: reader
                .get("worker.max_event_bytes", size(sizes))
                .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))?,
            record_unhandled: reader.get("worker.record_unhandled", flag)?,
            deduplicate: reader.get("worker.deduplicate", none_or("off", duration(windows)))?,
            crash_limit: reader.get("worker.crash_limit", integer(CRASH_LIMITS))?,
            drain_timeout: reader
                .get("worker.drain_timeout", duration(Duration::ZERO..=Duration::from_hours(1)))?,
        })
    }
}

/// Checks each key by itself, then all together. The rules are in `domain/retry.rs`.
pub(super) fn retry(reader: &mut Reader) -> Option<RetryPolicy> {
    let check =
        |overrides: RetryOverrides| overrides.validate().map_err(|e| format!("must be {}", e.allowed));
    let no_overrides = RetryOverrides::default;
    let policy = RetryPolicy {
        max_attempts: reader.get("retry.max_attempts", |value| {
            let attempts = integer(0..=u32::MAX)(value)?;
            check(RetryOverrides { max_attempts: Some(attempts), ..no_overrides() }).map(|()| attempts)
        })?,
        initial_interval: reader.get("retry.initial_interval", |value| {
            let interval = any_duration(value)?;
            check(RetryOverrides { initial_interval: Some(interval), ..no_overrides() }).map(|()| interval)
        })?,
        multiplier: reader.get("retry.multiplier", |value| {
            let multiplier = number(value)?;
            check(RetryOverrides { multiplier: Some(multiplier), ..no_overrides() }).map(|()| multiplier)
        })?,
        max_interval: reader.get("retry.max_interval", |value| {
            let interval = any_duration(value)?;
            check(RetryOverrides { max_interval: Some(interval), ..no_overrides() }).map(|()| interval)
        })?,
        jitter: reader.get("retry.jitter", |value| {
            let jitter = number(value)?;
            check(RetryOverrides { jitter: Some(jitter), ..no_overrides() }).map(|()| jitter)
        })?,
    };
    if let Err(e) = policy.validate() {
        reader.clash(
            &format!("retry.{}", e.key),
            "retry.initial_interval",
            &format!("must be {}", e.allowed),
        );
    }
    Some(policy)
}

impl Recorder {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let delays = Duration::from_millis(1)..=Duration::from_secs(10);
        Some(Self {
            batch_size: reader.get("recorder.batch_size", integer(1..=5000))?,
            batch_delay: reader.get("recorder.batch_delay", duration(delays))?,
            retention_days: reader.get("recorder.retention_days", integer(1..=36_500))?,
            dead_letter_retention_days: reader
                .get("recorder.dead_letter_retention_days", integer(1..=36_500))?,
            drain_dead_letters: reader.get("recorder.drain_dead_letters", flag)?,
            index_text: reader.get("recorder.index_text", flag)?,
        })
    }
}

impl Telemetry {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        Some(Self {
            log: reader.get("telemetry.log", directives)?,
            log_format: reader.get("telemetry.log_format", word)?,
            listen: Listen {
                address: reader.get("telemetry.listen", none_or("off", address))?,
                is_chosen: reader.is_set("telemetry.listen"),
            },
            handler_series: reader
                .get("telemetry.handler_series", integer(0..=100_000_u32))?
                .try_into()
                .unwrap_or(usize::MAX),
            otlp_endpoint: reader.get("telemetry.otlp_endpoint", text_or_none(collector))?,
            otlp_sample_ratio: reader.get("telemetry.otlp_sample_ratio", ratio)?,
        })
    }
}

/// Errors never repeat the text, because it may contain a password in the wrong place.
fn collector(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let is_plain = |url: &Url| {
        let nothing_else = url.query().is_none() && url.fragment().is_none();
        nothing_else && url.username().is_empty() && url.password().is_none()
    };
    url.filter(is_plain).ok_or_else(|| {
        "must be the http or https url of a collector, such as \"http://127.0.0.1:4318\", without user, password and \
            query (headers: OTEL_EXPORTER_OTLP_HEADERS), or \"\" for none"
            .into()
    })
}

fn ratio(value: &Value) -> Result<f64, String> {
    number(value)
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| "must be a number, 0.0 to 1.0".into())
}

fn directives(value: &Value) -> Result<String, String> {
    let form = "must be a level (error, warn, info, debug, trace, off), or levels by target, such as \
        \"info,provisiond::worker=debug\"";
    let parts: Vec<&str> = text(value)?.split(',').map(str::trim).collect();
    // `EnvFilter` accepts any word as a target, and would then log everything of a target "inof".
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_invalid = |part: &&&str| !part.contains(['=', '[', ']', '{', '}']) && !is_level(part);
    if let Some(invalid) = parts.iter().find(is_invalid) {
        return Err(format!("{form}; {invalid:?} is not a level"));
    }
    let directives = parts.join(",");
    EnvFilter::builder().parse(&directives).map_err(|e| format!("{form}: {e}"))?;
    Ok(directives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_levels_and_not_any_word() {
        for good in ["info", "off", "warn, provisiond::worker=debug", "info,[attempt{handler=3}]=trace"] {
            assert_eq!(directives(&Value::new(None, good)), Ok(good.replace(' ', "")));
        }
        for (bad, expected) in
            [("", "\"\" is not a level"), ("inof", "\"inof\" is not"), ("a=b", "expected one of")]
        {
            let error = directives(&Value::new(None, bad)).expect_err(bad);
            assert!(error.starts_with("must be a level") && error.contains(expected), "{bad}: {error}");
        }
    }
}
