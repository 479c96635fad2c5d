//! The log: where `tracing` events go, and which.
//!
//! Everything goes to stderr; stdout belongs to what a command answers.

mod unwaited;

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::{EnvFilter, Layer, Registry, filter::LevelFilter, fmt, fmt::MakeWriter, prelude::*};

pub use unwaited::{LogGuard, lost, tell_of_lost};

/// Libraries that tell at info what only their makers want to know; of connections to the broker our own
/// supervisor tells. Whoever names one in the directives hears it all the same.
const QUIET: &str = "lapin=off,amq_protocol=warn,async_rs=warn,hyper=warn,hyper_util=warn,h2=warn,\
    reqwest=warn,rustls=warn,tower=warn,deadpool=off,deadpool.postgres=off";

/// Logs from now on, once in a process, what `directives` let through (as in `telemetry.log`), in lines for people.
///
/// # Errors
/// If the directives are none, or a log is there already.
pub fn init(directives: &str) -> anyhow::Result<()> {
    start(directives, lines(false, io::stderr))
}

/// The same for a process that serves: JSON lines if asked for, and nobody waits for them.
///
/// # Errors
/// As for [`init`].
pub fn init_serving(directives: &str, json: bool) -> anyhow::Result<LogGuard> {
    let (stderr, guard) = unwaited::stderr().context("starting the log")?;
    start(directives, lines(json, stderr))?;
    Ok(guard)
}

fn lines<W>(json: bool, to: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    if json {
        // The fields of the event and the attempt that a line belongs to stand beside its own.
        json_subscriber::fmt::layer()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .flatten_span_list_on_top_level(true)
            .with_writer(to)
            .boxed()
    } else {
        fmt::layer().with_ansi(is_colourful()).with_writer(to).boxed()
    }
}

fn start(directives: &str, layer: Box<dyn Layer<Registry> + Send + Sync>) -> anyhow::Result<()> {
    let filter = filter(directives)?;
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().context("starting the log")
}

fn is_colourful() -> bool {
    // https://no-color.org
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn filter(directives: &str) -> anyhow::Result<EnvFilter> {
    // The later of two directives for one target counts.
    let all = if is_quieter_than_warn(directives) {
        directives.to_owned()
    } else {
        format!("{QUIET},{directives}")
    };
    EnvFilter::builder().parse(all).with_context(|| format!("telemetry.log: {directives:?}"))
}

/// Then `QUIET` would let through more than was asked for.
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
