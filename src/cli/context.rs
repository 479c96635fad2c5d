//! What every command needs: the configuration, and access to the database and the broker.

use std::{
    io::{IsTerminal as _, Read as _},
    time::Duration,
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;

use super::{
    error::CliError,
    output::{Output, lines, note},
    settings,
};
use crate::{
    broker::{BrokerSettings, Installation},
    config::{Config, Loaded},
    dead_letters::DeadLetters,
    store::Store,
};

/// The context of the running command.
pub(super) struct Context {
    pub config: Config,
    pub output: Output,
    /// Empty until `serve` has read the id from the database. Clones share the id.
    pub installation: Installation,
}

impl Context {
    /// The database. It connects at the first query.
    pub(super) fn store(&self) -> Result<Store, CliError> {
        Ok(Store::connect(&settings::store(&self.config)).context("section database of the configuration")?)
    }

    pub(super) fn broker(&self) -> Result<BrokerSettings, CliError> {
        let mut broker = settings::broker(&self.config)?;
        broker.topology.installation = self.installation.clone();
        Ok(broker)
    }

    /// The database and the broker, for work with dead letters and replays.
    pub(super) fn dead_letters(&self) -> Result<DeadLetters, CliError> {
        self.dead_letters_in(self.store()?)
    }

    /// The same with an existing store, whose connections it shares.
    pub(super) fn dead_letters_in(&self, store: Store) -> Result<DeadLetters, CliError> {
        let max_event_bytes = self.config.worker.max_event_bytes;
        Ok(DeadLetters { store, broker: self.broker()?, max_event_bytes })
    }

    /// Who makes a change, for the history: the user of the operating system.
    pub(super) fn operator() -> String {
        let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        format!("{} (command line)", user.as_deref().unwrap_or("somebody"))
    }

    /// A progress bar for a thousand items or more; hidden for JSON output and without a terminal.
    pub(super) fn progress(&self, length: usize) -> ProgressBar {
        if length < 1000 {
            return ProgressBar::hidden();
        }
        self.bar(u64::try_from(length).unwrap_or(u64::MAX))
    }

    /// The same for any number of items.
    pub(super) fn bar(&self, length: u64) -> ProgressBar {
        if self.output.is_json() || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length);
        let template = "{wide_bar} {human_pos}/{human_len} {per_sec} {eta} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// `config`: prints every value and its origin.
pub(super) fn print_config(output: Output, loaded: &Loaded) -> Result<(), CliError> {
    output.value(&loaded.settings, |settings| lines(settings.iter()))
}

impl Context {
    /// Prints a hint on stderr.
    pub(super) fn hint(text: &str) {
        note(text);
    }
}

/// Returns the text itself, or the content of a file (`@FILE`) or of stdin (`-`).
pub(super) fn read_text(arg: &str) -> Result<String, CliError> {
    let (bytes, source) = match (arg, arg.strip_prefix('@')) {
        ("-", _) => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes)?;
            (bytes, "stdin")
        }
        (_, Some(file)) => (std::fs::read(file).with_context(|| format!("cannot read {file}"))?, file),
        (_, None) => return Ok(arg.to_owned()),
    };
    decode_utf8(bytes).map_err(|reason| CliError::failed(format!("{source} {reason}")))
}

/// Decodes UTF-8, without the byte order mark that some editors write.
fn decode_utf8(bytes: Vec<u8>) -> Result<String, &'static str> {
    if [b"\xff\xfe", b"\xfe\xff"].iter().any(|bom| bytes.starts_with(*bom)) {
        return Err("is UTF-16: save it as UTF-8");
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    match text.strip_prefix('\u{feff}') {
        Some(rest) => Ok(rest.to_owned()),
        None => Ok(text),
    }
}

/// Reads the data of an event with [`read_text`]. It must be a JSON object.
pub(super) fn read_data(arg: &str) -> Result<Box<RawValue>, CliError> {
    let data: Box<RawValue> = serde_json::from_str(&read_text(arg)?)
        .map_err(|e| CliError::usage(format!("--data is not JSON: {e}")))?;
    if !data.get().starts_with('{') {
        return Err(CliError::usage("--data must be a JSON object; use {} if there is no data"));
    }
    Ok(data)
}
