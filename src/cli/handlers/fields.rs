//! The fields of a handler, as they are typed.

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use crate::{
    cli::{context::read_text, error::CliError},
    domain::{
        event::EventName,
        handler::{HandlerId, HandlerName, HandlerSpec, Mode, OnFailure, Priority, Status, Timeout},
        retry::RetryOverrides,
        secret::SigningSecret,
        task::{HeaderName, HeaderValue, HttpTarget, ScriptPath, Task},
    },
};

pub(super) const EXAMPLES: &str = "\
Examples:
  provisiond handlers create --name CRM --event clients.create --http 127.0.0.1:5000/api --priority 1
  provisiond handlers create --name Switch --event clients.balance_zero --script sync.py --timeout 20s
  provisiond handlers create --name ERP --event clients.update --http https://erp.example/hook \\
      --header 'Authorization: Bearer …' --max-attempts 3 --sign";

#[derive(clap::Args)]
pub(in crate::cli) struct Create {
    /// What people call it
    #[arg(long)]
    name: HandlerName,
    /// The event it runs on (provisiond events list)
    #[arg(long)]
    event: EventName,
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    rest: Fields,
    /// Sign its requests with a new secret, which is printed once
    #[arg(long, conflicts_with = "signing_secret")]
    sign: bool,
    /// Sign its requests with this secret (whsec_…), read from a file or from stdin (-)
    #[arg(long, value_name = "@FILE|-")]
    signing_secret: Option<String>,
}

#[derive(clap::Args, Clone)]
pub(in crate::cli) struct Update {
    pub(super) id: HandlerId,
    /// Refuse the update if the handler has another version by now
    #[arg(long, value_name = "N")]
    pub(super) if_version: Option<i64>,
    #[arg(long)]
    name: Option<HandlerName>,
    #[arg(long)]
    event: Option<EventName>,
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    rest: Fields,
}

/// What it does; one of `--http` and `--script`.
#[derive(clap::Args, Clone)]
struct TaskArgs {
    /// POST the event to this url; http:// may be left out
    #[arg(long, value_name = "URL", conflicts_with = "script")]
    http: Option<HttpTarget>,
    /// Run this script with the event on its stdin: an absolute path, or one below script.roots
    #[arg(long, value_name = "PATH")]
    script: Option<ScriptPath>,
    /// A header of the request; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header, conflicts_with = "script")]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// An argument of the script; may be given several times
    #[arg(long = "arg", value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "http")]
    args: Vec<String>,
}

#[derive(clap::Args, Clone)]
struct Fields {
    /// 1 goes first; equal priorities run by id [default: 100]
    #[arg(long)]
    priority: Option<Priority>,
    /// Whether it takes part [default: enabled]
    #[arg(long, value_name = "enabled|disabled|archived")]
    status: Option<Status>,
    /// Whether its answer may change or forbid the event (intercept) [default: notify]
    #[arg(long, value_name = "notify|intercept")]
    mode: Option<Mode>,
    /// Whether the handlers after it wait until it succeeded (halt) [default: continue]
    #[arg(long, value_name = "continue|halt")]
    on_failure: Option<OnFailure>,
    /// The longest one attempt may take, at most 10m; `default`: 30s for http, 60s for scripts (configurable)
    #[arg(long, value_name = "DURATION|default")]
    timeout: Option<OrDefault<Timeout>>,
    /// Attempts at a time, per worker; `default`: no limit of its own
    #[arg(long, value_name = "N|default")]
    max_concurrency: Option<OrDefault<NonZeroU32>>,
    /// Attempts in all, the first included; `default`: section retry of the configuration
    #[arg(long, value_name = "N|default")]
    max_attempts: Option<OrDefault<u32>>,
    /// Between the first attempt and the second
    #[arg(long, value_name = "DURATION|default")]
    initial_interval: Option<OrDefault<humantime::Duration>>,
    /// Each further interval is this many times the one before
    #[arg(long, value_name = "X|default")]
    multiplier: Option<OrDefault<f64>>,
    /// The longest interval
    #[arg(long, value_name = "DURATION|default")]
    max_interval: Option<OrDefault<humantime::Duration>>,
    /// The share by which an interval may differ, 0 to below 1
    #[arg(long, value_name = "X|default")]
    jitter: Option<OrDefault<f64>>,
}

/// A value, or the word `default`, which takes the handler's own value away.
#[derive(Clone, Copy)]
struct OrDefault<T>(Option<T>);

impl<T: FromStr> FromStr for OrDefault<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "default" { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

/// A secret is not typed as an argument: those are seen by everybody on the machine, and kept by the shell.
pub(super) fn read_secret(from: &str) -> Result<SigningSecret, CliError> {
    if from != "-" && !from.starts_with('@') {
        return Err(CliError::usage(
            "a secret is read from a file (@FILE) or from stdin (-), not given as an argument",
        ));
    }
    read_text(from)?.trim().parse().map_err(CliError::usage)
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is NAME: VALUE")?;
    let name = name.trim().parse().map_err(|e| format!("{e}"))?;
    Ok((name, value.trim().parse().map_err(|e| format!("{e}"))?))
}

impl Create {
    pub(super) fn spec(&self) -> Result<HandlerSpec, CliError> {
        let task = self.task.task().ok_or_else(|| {
            CliError::usage(
                "what shall it do? Give --http URL or --script PATH (provisiond handlers create --help)",
            )
        })?;
        let spec = HandlerSpec {
            name: self.name.clone(),
            event: self.event.clone(),
            task,
            status: Status::default(),
            priority: Priority::default(),
            mode: Mode::default(),
            on_failure: OnFailure::default(),
            timeout: None,
            retry: RetryOverrides::default(),
            max_concurrency: None,
        };
        self.rest.apply(spec).map_err(CliError::usage)
    }

    /// The secret it signs with from now on.
    pub(super) fn secret(&self) -> Result<Option<SigningSecret>, CliError> {
        if self.sign {
            return Ok(Some(SigningSecret::generate()));
        }
        self.signing_secret.as_deref().map(read_secret).transpose()
    }

    /// Whether the secret is a new one, which its owner has to see.
    pub(super) const fn shows_secret(&self) -> bool {
        self.sign
    }
}

impl Update {
    /// # Errors
    /// A sentence about the field that does not fit.
    pub(super) fn apply(self, mut spec: HandlerSpec) -> Result<HandlerSpec, String> {
        spec.name = self.name.unwrap_or(spec.name);
        spec.event = self.event.unwrap_or(spec.event);
        match (self.task.task(), &mut spec.task) {
            (Some(task), _) => spec.task = task,
            (None, Task::Http { headers, .. }) if self.task.args.is_empty() => {
                headers.extend(self.task.headers);
            }
            (None, Task::Script { args, .. }) if self.task.headers.is_empty() => {
                if !self.task.args.is_empty() {
                    *args = self.task.args;
                }
            }
            (None, Task::Http { .. }) => {
                return Err("--arg is for scripts, and this handler calls a url".into());
            }
            (None, Task::Script { .. }) => {
                return Err("--header is for urls, and this handler runs a script".into());
            }
        }
        self.rest.apply(spec)
    }
}

impl TaskArgs {
    fn task(&self) -> Option<Task> {
        let Self { http, script, headers, args } = self;
        match (http, script) {
            (Some(url), _) => {
                Some(Task::Http { url: url.clone(), headers: headers.iter().cloned().collect() })
            }
            (None, Some(path)) => Some(Task::Script { path: path.clone(), args: args.clone() }),
            (None, None) => None,
        }
    }
}

impl Fields {
    fn apply(&self, mut spec: HandlerSpec) -> Result<HandlerSpec, String> {
        spec.priority = self.priority.unwrap_or(spec.priority);
        spec.status = self.status.unwrap_or(spec.status);
        spec.mode = self.mode.unwrap_or(spec.mode);
        spec.on_failure = self.on_failure.unwrap_or(spec.on_failure);
        set(&mut spec.timeout, self.timeout);
        set(&mut spec.max_concurrency, self.max_concurrency);
        let interval = |given: Option<OrDefault<humantime::Duration>>| {
            given.map(|OrDefault(value)| OrDefault(value.map(|d| -> Duration { d.into() })))
        };
        set(&mut spec.retry.max_attempts, self.max_attempts);
        set(&mut spec.retry.initial_interval, interval(self.initial_interval));
        set(&mut spec.retry.multiplier, self.multiplier);
        set(&mut spec.retry.max_interval, interval(self.max_interval));
        set(&mut spec.retry.jitter, self.jitter);
        spec.retry.validate().map_err(|e| e.to_string())?;
        Ok(spec)
    }
}

fn set<T>(field: &mut Option<T>, given: Option<OrDefault<T>>) {
    if let Some(OrDefault(value)) = given {
        *field = value;
    }
}
