//! The log: writes `tracing` events to stderr, as `telemetry.log` selects them.
//!
//! stdout is reserved for the output of commands.

mod unwaited;

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::{EnvFilter, Layer, Registry, filter::LevelFilter, fmt, fmt::MakeWriter, prelude::*};

pub use unwaited::{LogGuard, lost, report_lost};

/// Levels of libraries whose info messages only their developers need. lapin is off, because our supervisor logs
/// connections to the broker. `telemetry.log` can set another level for each of them.
const QUIET: &str = "lapin=off,amq_protocol=warn,async_rs=warn,hyper=warn,hyper_util=warn,h2=warn,\
    reqwest=warn,rustls=warn,tower=warn,deadpool=off,deadpool.postgres=off";

/// Starts the log of a command, once per process: the events that `directives` select (as in `telemetry.log`), as text.
///
/// # Errors
/// If the directives are invalid, or the log was started before.
pub fn init(directives: &str) -> anyhow::Result<()> {
    start(directives, lines(false, io::stderr))
}

/// Starts the log of a process that serves: JSON lines if `json` is set, and writing never blocks.
///
/// # Errors
/// As for [`init`].
pub fn init_serving(directives: &str, json: bool) -> anyhow::Result<LogGuard> {
    let (stderr, guard) = unwaited::stderr().context("cannot start the log")?;
    start(directives, lines(json, stderr))?;
    Ok(guard)
}

fn lines<W>(json: bool, to: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    if json {
        // `spans` names the event and the attempt that a line belongs to.
        fmt::layer().json().flatten_event(true).with_current_span(false).with_writer(to).boxed()
    } else {
        fmt::layer().with_ansi(is_colourful()).with_writer(to).boxed()
    }
}

fn start(directives: &str, layer: Box<dyn Layer<Registry> + Send + Sync>) -> anyhow::Result<()> {
    let filter = filter(directives)?;
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().context("cannot start the log")
}

fn is_colourful() -> bool {
    // https://no-color.org
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn filter(directives: &str) -> anyhow::Result<EnvFilter> {
    // If two directives name the same target, the later one counts.
    let all = if is_quieter_than_warn(directives) {
        directives.to_owned()
    } else {
        format!("{QUIET},{directives}")
    };
    EnvFilter::builder().parse(all).with_context(|| format!("telemetry.log: {directives:?}"))
}

/// Whether the directives are quieter than warn: then `QUIET` would let through more than was requested.
fn is_quieter_than_warn(directives: &str) -> bool {
    let mut levels = directives.split(',').filter_map(|part| part.trim().parse::<LevelFilter>().ok());
    levels.next_back().is_none_or(|level| level < LevelFilter::WARN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_they_are_named() {
        for (directives, quiet, named) in [
            ("info", true, false),
            ("debug", true, false),
            ("info,lapin=debug", true, true),
            ("error", false, false),
            ("off", false, false),
            ("provisiond=debug", false, false),
        ] {
            let filter = filter(directives).expect(directives).to_string();
            assert_eq!(filter.contains("hyper=warn"), quiet, "{directives}: {filter}");
            assert_eq!(filter.contains("lapin=debug"), named, "{directives}: {filter}");
            assert!(!(filter.contains("lapin=off") && named), "{directives}: {filter}");
        }
        assert!(filter("a=nonsense").is_err());
    }
}
