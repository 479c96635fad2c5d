//! The options of `handlers create` and `handlers update`.

use super::task_args::TaskArgs;
use crate::{
    cli::{context::read_text, error::CliError},
    domain::{
        event::EventName,
        handler::{HandlerId, HandlerName, HandlerSpec, SETTINGS, Setting, SettingKind},
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
    settings: Settings,
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
    settings: Settings,
}

/// The given settings. `None`: the default.
#[derive(Clone, Default)]
struct Settings(Vec<(&'static Setting, Option<String>)>);

impl clap::Args for Settings {
    fn augment_args(command: clap::Command) -> clap::Command {
        SETTINGS.iter().fold(command, |command, setting| command.arg(option(setting)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Settings {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let value_of = |setting: &'static Setting| {
            matches.get_one::<Option<String>>(setting.name).map(|value| (setting, value.clone()))
        };
        Ok(Self(SETTINGS.iter().filter_map(value_of).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The option of a setting. Its value is checked alone first, so that the error names the option.
fn option(setting: &'static Setting) -> clap::Arg {
    let value_name = match setting.kind {
        SettingKind::Choice(words) => words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join("|"),
        SettingKind::Text(word) | SettingKind::Number(word) => format!("{word}|default"),
    };
    let parse = |text: &str| -> Result<Option<String>, String> {
        let value = (text != "default").then(|| text.to_owned());
        setting.set(&mut HandlerSpec::blank(), value.as_deref())?;
        Ok(value)
    };
    clap::Arg::new(setting.name)
        .long(setting.name.replace('_', "-"))
        .value_name(value_name)
        .help(setting.help)
        .value_parser(parse)
}

/// Reads a secret from a file or stdin. An argument would be visible to all users of the machine, and the shell would
/// store it.
pub(super) fn read_secret(source: &str) -> Result<SigningSecret, CliError> {
    if source != "-" && !source.starts_with('@') {
        return Err(CliError::usage(
            "a secret is read from a file (@FILE) or from stdin (-), not given as an argument",
        ));
    }
    read_text(source)?.trim().parse().map_err(CliError::usage)
}

impl Create {
    pub(super) fn spec(&self) -> Result<HandlerSpec, CliError> {
        let task = self.task.task().map_err(CliError::usage)?.ok_or_else(|| {
            CliError::usage(
                "a handler needs a task: give --http URL or --script PATH (provisiond handlers create --help)",
            )
        })?;
        let spec = HandlerSpec::new(self.name.clone(), self.event.clone(), task);
        self.settings.apply(spec).map_err(CliError::usage)
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
        self.settings.apply(spec)
    }
}

impl Settings {
    fn apply(&self, mut spec: HandlerSpec) -> Result<HandlerSpec, String> {
        let values = self.0.iter().map(|(setting, value)| (*setting, value.as_deref()));
        match spec.set_all(values).into_iter().next() {
            Some((name, why)) => Err(format!("--{} {why}", name.replace('_', "-"))),
            None => Ok(spec),
        }
    }
}
