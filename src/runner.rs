//! Runs one attempt of a task: an HTTP POST or a script.
//!
//! HTTP calls to handlers and the processes of scripts are made only here. A task that fails is an `Outcome`,
//! whatever the cause. Other modules decide what follows from an outcome, and handle retries, concurrency and
//! verdicts.

mod address;
mod barrier;
mod group;
mod http;
mod http_error;
pub mod launch;
mod locate;
mod output;
mod process_tree;
mod program;
mod rights;
mod script;
mod shortage;
#[cfg(test)]
mod testing;
mod tls;
mod trial;
mod working_dir;

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;

pub use address::{check_literal, check_target};
pub use locate::ScriptRules;
pub use program::foreign;
pub use trial::{Sent, Trial, TrialOf};
pub use working_dir::check as check_working_dir;

use crate::domain::{
    address::AddressRules, event::Event, handler::Handler, outcome::Outcome, plan::Attempt,
    secret::SigningSecret, task::Task,
};

/// One attempt of one handler for one event.
pub struct Call<'a> {
    pub handler: &'a Handler,
    /// The secrets that are valid now: none, one, or two during a rotation.
    pub secrets: &'a [SigningSecret],
    pub event: &'a Event,
    pub attempt: Attempt,
    /// Limit for the whole attempt, including reading the answer.
    pub timeout: Duration,
    /// Set if a verdict is read from the answer (an `intercept` handler): the largest answer in bytes. A
    /// larger or incomplete answer is a failure.
    pub answer_limit: Option<usize>,
    pub traceparent: Option<&'a str>,
    pub tracestate: Option<&'a str>,
}

impl Call<'_> {
    /// The `webhook-id`. It is the same on every attempt, so that a receiver recognises a repeated call.
    fn delivery_id(&self) -> String {
        format!("{}_{}", self.event.id, self.handler.id)
    }
}

/// Configuration of a [`Runner`].
pub struct RunnerSettings {
    pub http: HttpSettings,
    pub script: ScriptSettings,
}

/// Section `http` of the configuration.
pub struct HttpSettings {
    /// For resolving the name, connecting and the TLS handshake together.
    pub connect_timeout: Duration,
    /// Which addresses a handler may call.
    pub rules: AddressRules,
    /// Certificates (PEM) that are trusted in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    /// Client certificate, chain and private key (PEM), for endpoints that ask for a client certificate.
    pub client_cert: Option<PathBuf>,
}

/// Section `script` of the configuration.
pub struct ScriptSettings {
    /// Directories that scripts must lie in. If there is none, every script is refused.
    pub roots: Vec<PathBuf>,
    /// Users (name or number) whose scripts are run, in addition to those of root, of provisiond's own user
    /// and of `user`. `%name` is a group that may write to scripts.
    pub owners: Vec<String>,
    /// `NAME` passes on a variable of this process, `NAME=value` sets one.
    pub env: Vec<String>,
    /// Time from SIGTERM to SIGKILL.
    pub kill_grace: Duration,
    /// The user that scripts run as. None: the user of provisiond.
    pub user: Option<String>,
    pub limits: ScriptLimits,
}

/// Section `script.limits` of the configuration: resource limits for each process of a script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptLimits {
    /// In bytes.
    pub address_space: Option<u64>,
    pub open_files: Option<u64>,
    pub cpu_seconds: Option<u64>,
    /// Counts all processes of the user that the script runs as.
    pub processes: Option<u64>,
}

/// Checks that the files in `settings` can be read and used.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn check_http(settings: &HttpSettings) -> anyhow::Result<()> {
    http::HttpRunner::new(settings).map(drop)
}

/// Runs attempts. It holds the connection pool, so one runner is shared by the whole process.
pub struct Runner {
    http: http::HttpRunner,
    scripts: script::ScriptRunner,
}

impl Runner {
    /// # Errors
    /// Names the setting that cannot be used, or says why TLS is not available.
    pub fn new(settings: RunnerSettings) -> anyhow::Result<Self> {
        Ok(Self {
            http: http::HttpRunner::new(&settings.http)?,
            scripts: script::ScriptRunner::new(settings.script)?,
        })
    }

    /// Runs one attempt to its end. Dropping the future ends the attempt: the connection is closed and the
    /// processes are killed.
    pub async fn run(&self, call: &Call<'_>) -> Outcome {
        self.run_at(call, Timestamp::now()).await
    }

    /// Like [`Runner::run`], with `called_at` as the time of the call.
    async fn run_at(&self, call: &Call<'_>, called_at: Timestamp) -> Outcome {
        match &call.handler.spec.task {
            Task::Http { url, headers } => self.http.run(call, url, headers, called_at).await,
            Task::Script { path, args } => self.scripts.run(call, path, args).await,
        }
    }
}
