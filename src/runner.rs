//! Runs one attempt of a task: an HTTP POST or a script.
//!
//! All of reqwest and of processes is here. A task that fails is an `Outcome`, whatever went wrong
//! with it; what follows from an outcome is decided elsewhere, as are retries, concurrency and
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
    /// For the whole attempt, the answer included.
    pub timeout: Duration,
    /// Given where a verdict is read from the answer (an `intercept` handler): at most so many bytes
    /// are read for it, and an answer that is not whole is a failure.
    pub answer_limit: Option<usize>,
    pub traceparent: Option<&'a str>,
    pub tracestate: Option<&'a str>,
}

impl Call<'_> {
    /// The same on every attempt, so that a receiver can tell a repetition.
    fn delivery_id(&self) -> String {
        format!("{}_{}", self.event.id, self.handler.id)
    }
}

/// How tasks are run, by configuration.
pub struct RunnerSettings {
    pub http: HttpSettings,
    pub script: ScriptSettings,
}

/// `http.*`.
pub struct HttpSettings {
    /// For name, connection and TLS handshake together.
    pub connect_timeout: Duration,
    /// Where a handler may point.
    pub rules: AddressRules,
    /// Certificates (PEM) that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Certificate, chain and key (PEM) that are shown to who asks.
    pub client_cert: Option<PathBuf>,
}

/// `script.*`.
pub struct ScriptSettings {
    /// Directories that scripts must lie under. None: scripts are refused.
    pub roots: Vec<PathBuf>,
    /// Users, by name or number, whose scripts are run beside root's, our own and `user`'s; `%name` is a group that may
    /// write to scripts.
    pub owners: Vec<String>,
    /// `NAME` passes a variable on, `NAME=value` sets one.
    pub env: Vec<String>,
    /// From TERM to KILL.
    pub kill_grace: Duration,
    /// Who scripts run as; none: who provisiond runs as.
    pub user: Option<String>,
    pub limits: ScriptLimits,
}

/// `script.limits`: what one process of a script may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptLimits {
    /// Bytes.
    pub address_space: Option<u64>,
    pub open_files: Option<u64>,
    pub cpu_seconds: Option<u64>,
    /// Of the user that it runs as, in all.
    pub processes: Option<u64>,
}

/// Whether calls over HTTP can be made as `settings` say: their files can be read and used.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn check_http(settings: &HttpSettings) -> anyhow::Result<()> {
    http::HttpRunner::new(settings).map(drop)
}

/// Runs attempts. Holds the connection pool: one for the process, shared.
pub struct Runner {
    http: http::HttpRunner,
    scripts: script::ScriptRunner,
}

impl Runner {
    /// # Errors
    /// Says which setting cannot be used, or why TLS is not available.
    pub fn new(settings: RunnerSettings) -> anyhow::Result<Self> {
        Ok(Self {
            http: http::HttpRunner::new(&settings.http)?,
            scripts: script::ScriptRunner::new(settings.script)?,
        })
    }

    /// Runs one attempt to its end. Dropping the future ends the attempt: the connection is closed,
    /// the processes are killed.
    pub async fn run(&self, call: &Call<'_>) -> Outcome {
        self.run_at(call, Timestamp::now()).await
    }

    /// As [`Runner::run`], for which it is `at` now.
    async fn run_at(&self, call: &Call<'_>, at: Timestamp) -> Outcome {
        match &call.handler.spec.task {
            Task::Http { url, headers } => self.http.run(call, url, headers, at).await,
            Task::Script { path, args } => self.scripts.run(call, path, args).await,
        }
    }
}
