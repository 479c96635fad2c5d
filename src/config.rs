//! The configuration in force, and the source of each value.
//!
//! The `config` crate reads and merges the layers: the embedded `config/default.toml`, a file, the environment. This
//! module then reads the merged values key by key. One `Deserialize` for everything would stop at the first error and
//! would not know where a value was set; here all errors are reported at once.
//!
//! `default.toml` defines which keys exist. To add a section, add it there and as a struct here.

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
};

use serde::Serialize;

use crate::domain::{handler::HandlerDefaults, retry::RetryPolicy};

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

/// Default paths of the configuration file; the first one that exists is used.
const FILES: [&str; 2] = ["config/provisiond.toml", "/etc/provisiond/provisiond.toml"];

/// The configuration in force. It is valid: `load` rejects impossible values.
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

/// The configuration, and where each value was set.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// In the order of the keys in `default.toml`.
    pub settings: Vec<Setting>,
}

/// The value and the source of one key. Secrets are masked.
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

/// Loads the configuration from a file and from `env`. The file is `explicit`, else the one that `PROVISIOND_CONFIG`
/// names, else the first of the default paths that exists.
///
/// # Errors
/// All unknown keys, bad values and contradictions, each with the place where it was set.
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

/// The environment variables of this process, for [`load`]. A variable that is not UTF-8 is not dropped silently: its
/// value gets replacement characters.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

impl Config {
    pub fn handler_defaults(&self) -> HandlerDefaults {
        HandlerDefaults {
            retry: self.retry.clone(),
            http_timeout: self.http.timeout.duration(),
            script_timeout: self.script.timeout.duration(),
        }
    }

    /// Reads every section before it returns, so that the errors of all sections are reported together.
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
