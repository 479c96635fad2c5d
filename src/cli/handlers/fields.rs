//! The options of `handlers create` and `handlers update`.

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use super::task_args::TaskArgs;
use crate::{
    cli::{context::read_text, error::CliError},
    domain::{
        event::EventName,
        handler::{HandlerId, HandlerName, HandlerSpec, Mode, OnFailure, Priority, Status, Timeout},
        retry::RetryOverrides,
        secret::SigningSecret,
        task::HttpTarget,
    },
};

pub(super) const EXAMPLES: &str = "\
Defaults: priority 100, enabled, notify, continue; everything else as configured.

Examples:
  provisiond handlers create --name CRM --event clients.create --http 127.0.0.1:5000/api --priority 1
  provisiond handlers create --name Switch --event clients.balance_zero --script sync.py --timeout 20s
  provisiond handlers create --name ERP --event clients.update --http https://erp.example/hook \\
      --header 'Authorization: Bearer …' --max-attempts 3 --sign";

#[derive(clap::Args)]
pub(in crate::cli) struct Create {
    /// Name of the handler, for people
    #[arg(long, allow_hyphen_values = true)]
    name: HandlerName,
    /// Event type that the handler runs for (provisiond events list)
    #[arg(long)]
    event: EventName,
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    rest: Fields,
    /// Sign its requests with a new secret, which is printed once
    #[arg(long, conflicts_with_all = ["signing_secret", "script"])]
    sign: bool,
    /// Sign its requests with this secret (whsec_…), read from a file or from stdin (-)
    #[arg(long, value_name = "@FILE|-", conflicts_with = "script")]
    signing_secret: Option<String>,
}

#[derive(clap::Args, Clone)]
pub(in crate::cli) struct Update {
    /// Id of the handler
    pub(super) id: HandlerId,
    /// Update only if the handler still has this version
    #[arg(long, value_name = "N")]
    pub(super) if_version: Option<i64>,
    /// Name of the handler, for people
    #[arg(long, allow_hyphen_values = true)]
    name: Option<HandlerName>,
    /// Event type that the handler runs for
    #[arg(long)]
    event: Option<EventName>,
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    rest: Fields,
}

#[derive(clap::Args, Clone)]
struct Fields {
    /// Run order: 1 runs first; equal priorities run by id
    #[arg(long)]
    priority: Option<Priority>,
    /// Whether the handler runs
    #[arg(long, value_name = "enabled|disabled|archived")]
    status: Option<Status>,
    /// With intercept, its answer may change or forbid the event
    #[arg(long, value_name = "notify|intercept")]
    mode: Option<Mode>,
    /// With halt, the handlers after it wait until it succeeds
    #[arg(long, value_name = "continue|halt")]
    on_failure: Option<OnFailure>,
    /// Longest duration of one attempt, at most 10m; `default`: 30s for http, 60s for scripts (configurable)
    #[arg(long, value_name = "DURATION|default")]
    timeout: Option<OrDefault<Timeout>>,
    /// Maximum number of concurrent attempts in each worker; `default`: no limit for this handler
    #[arg(long, value_name = "N|default", value_parser = parse_concurrency)]
    max_concurrency: Option<OrDefault<NonZeroU32>>,
    /// Number of attempts, including the first; `default`: section retry of the configuration
    #[arg(long, value_name = "N|default")]
    max_attempts: Option<OrDefault<u32>>,
    /// Delay between the first attempt and the second
    #[arg(long, value_name = "DURATION|default")]
    initial_interval: Option<OrDefault<humantime::Duration>>,
    /// Each further delay is this many times the previous one
    #[arg(long, value_name = "X|default")]
    multiplier: Option<OrDefault<f64>>,
    /// Longest delay
    #[arg(long, value_name = "DURATION|default")]
    max_interval: Option<OrDefault<humantime::Duration>>,
    /// Random variation of each delay, as a fraction from 0 to below 1
    #[arg(long, value_name = "X|default")]
    jitter: Option<OrDefault<f64>>,
}

/// A value, or the word `default`, which removes the handler's own value.
#[derive(Clone, Copy)]
struct OrDefault<T>(Option<T>);

impl<T: FromStr> FromStr for OrDefault<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "default" { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

/// Reads a secret from a file or stdin. An argument would be visible to all users of the machine, and the shell would
/// store it.
pub(super) fn read_secret(from: &str) -> Result<SigningSecret, CliError> {
    if from != "-" && !from.starts_with('@') {
        return Err(CliError::usage(
            "a secret is read from a file (@FILE) or from stdin (-), not given as an argument",
        ));
    }
    read_text(from)?.trim().parse().map_err(CliError::usage)
}

impl Create {
    pub(super) fn spec(&self) -> Result<HandlerSpec, CliError> {
        let task = self.task.task().map_err(CliError::usage)?.ok_or_else(|| {
            CliError::usage(
                "a handler needs a task: give --http URL or --script PATH (provisiond handlers create --help)",
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

    /// The signing secret of the new handler.
    pub(super) fn secret(&self) -> Result<Option<SigningSecret>, CliError> {
        if self.sign {
            return Ok(Some(SigningSecret::generate()));
        }
        self.signing_secret.as_deref().map(read_secret).transpose()
    }

    /// Whether the secret was generated here, so that its owner has to see it.
    pub(super) const fn shows_secret(&self) -> bool {
        self.sign
    }
}

impl Update {
    /// The new url, if the update changes it.
    pub(super) const fn new_url(&self) -> Option<&HttpTarget> {
        self.task.url()
    }

    /// # Errors
    /// Which field is wrong, and why.
    pub(super) fn apply(self, mut spec: HandlerSpec) -> Result<HandlerSpec, String> {
        spec.name = self.name.unwrap_or(spec.name);
        spec.event = self.event.unwrap_or(spec.event);
        self.task.apply(&mut spec.task)?;
        self.rest.apply(spec)
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

fn parse_concurrency(text: &str) -> Result<OrDefault<NonZeroU32>, &'static str> {
    text.parse().map_err(|_| "must be a number, 1 or more, or the word default")
}

fn set<T>(field: &mut Option<T>, given: Option<OrDefault<T>>) {
    if let Some(OrDefault(value)) = given {
        *field = value;
    }
}
