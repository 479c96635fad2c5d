//! The log: human on a terminal, JSON elsewhere, always on stderr. Secrets and bodies never enter it.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Libraries whose everyday life is of no interest.
const QUIET: [&str; 8] =
    ["lapin", "hyper", "hyper_util", "reqwest", "rustls", "tokio_postgres", "refinery_core", "async_rs"];

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    Human,
    Json,
}

/// Starts logging what the directives of `log` say. A command other than `serve` logs warnings only:
/// its result is what it prints.
pub fn init(log: &str, lines: Lines, serving: bool) -> anyhow::Result<()> {
    let wanted: Targets = log.parse()?;
    let mut filter = Targets::new().with_targets(QUIET.map(|library| (library, LevelFilter::WARN)));
    let ceiling = if serving { LevelFilter::TRACE } else { LevelFilter::WARN };
    if let Some(level) = wanted.default_level() {
        filter = filter.with_default(level.min(ceiling));
        filter = filter.with_targets(QUIET.map(|library| (library, level.min(LevelFilter::WARN))));
    }
    filter = filter.with_targets(wanted.iter().map(|(target, level)| (target.to_owned(), level)));
    let human = match lines {
        Lines::Human => true,
        Lines::Json => false,
        Lines::Auto => std::io::stderr().is_terminal() || !serving,
    };
    let writer = fmt::layer().with_writer(std::io::stderr);
    let layer = if human {
        writer.with_target(false).with_ansi(std::io::stderr().is_terminal()).boxed()
    } else {
        writer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(())
}
