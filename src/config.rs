//! The configuration: what is in force, and where each value came from.
//!
//! The `config` crate reads and merges the layers: the embedded `config/default.toml`, a file, the
//! environment. The merged values are read key by key rather than through one `Deserialize`, because
//! that stops at the first error and does not know where a value was set; here every error is
//! told at once. `default.toml` says which keys exist: a section is added there, and as a struct.

mod amqp;
mod console;
mod database;
mod error;
mod http;
mod layers;
mod management_url;
mod reader;
mod script;
mod secrets;
mod sections;
#[cfg(test)]
mod tests;
mod value;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use crate::domain::{handler::HandlerSpec, retry::RetryPolicy, task::TaskType};

pub use self::http::Http;
pub use amqp::{Amqp, QueueType};
#[cfg(test)]
pub use console::OWN_PATHS;
pub use console::{Account, Console, PublicUrl};
pub use database::Database;
pub use error::ConfigErrors;
pub use script::{Script, Variable};
pub use secrets::Secrets;
pub use sections::{Listen, Recorder, Telemetry, Worker};

use layers::Layers;
use reader::Reader;

/// Where a file is looked for if none is named; the first that exists counts.
const FILES: [&str; 2] = ["config/provisiond.toml", "/etc/provisiond/provisiond.toml"];

/// The configuration in force. Valid: what is impossible did not load.
#[derive(Clone, Debug)]
pub struct Config {
    pub amqp: Amqp,
    pub database: Database,
    pub worker: Worker,
    pub http: Http,
    pub script: Script,
    pub retry: RetryPolicy,
    pub recorder: Recorder,
    pub console: Console,
    pub secrets: Secrets,
    pub telemetry: Telemetry,
}

/// The configuration, and the story of each value.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// In the order of `default.toml`.
    pub settings: Vec<Setting>,
}

/// One key, fit to be shown: secrets are masked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    pub key: String,
    pub value: serde_json::Value,
    /// `default`, `file …` or `environment variable …`.
    pub source: String,
}

impl fmt::Display for Setting {
    /// A line of TOML, with the source as its comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}   # {}", self.key, self.value, self.source)
    }
}

/// Loads the configuration from `explicit` (else the file that `PROVISIOND_CONFIG` names, else the first
/// of the usual files that exists) and from `env`.
///
/// # Errors
/// Every unknown key, bad value and impossible pair, with the place where it was set.
pub fn load(
    explicit: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    let env: Vec<(String, String)> = env.collect();
    let named = explicit.map(Path::to_path_buf).or_else(|| layers::named_file(&env));
    let file = named.or_else(|| FILES.iter().map(PathBuf::from).find(|path| path.exists()));
    let mut reader = Reader::new(Layers::read(file.as_deref(), env));
    let config = Config::read(&mut reader);
    reader.finish(config)
}

/// The variables of this process, for [`load`]. One that is not UTF-8 is not passed over in silence: its
/// value arrives with replacement characters.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

impl Config {
    /// The longest that one attempt of a handler may take.
    pub fn timeout_of(&self, spec: &HandlerSpec) -> Duration {
        let default = match spec.task.kind() {
            TaskType::Http => self.http.timeout,
            TaskType::Script => self.script.timeout,
        };
        spec.timeout.unwrap_or(default).duration()
    }

    /// Reads every section before it gives up, so that all that is wrong is told.
    fn read(reader: &mut Reader) -> Option<Self> {
        let amqp = Amqp::read(reader);
        let database = Database::read(reader);
        let worker = Worker::read(reader);
        let http = Http::read(reader);
        let script = Script::read(reader);
        let retry = sections::retry(reader);
        let recorder = Recorder::read(reader);
        let console = Console::read(reader);
        let secrets = Secrets::read(reader);
        let telemetry = Telemetry::read(reader);
        Some(Self {
            amqp: amqp?,
            database: database?,
            worker: worker?,
            http: http?,
            script: script?,
            retry: retry?,
            recorder: recorder?,
            console: console?,
            secrets: secrets?,
            telemetry: telemetry?,
        })
    }
}
