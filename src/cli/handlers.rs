//! `handlers`: which task runs for which event.

mod fields;
mod show;
mod task_args;
mod test;

use std::time::Duration;

use clap::Subcommand;

use super::{context::Context, error::CliError, settings, time::parse_duration};
use crate::{
    domain::{
        event::EventName,
        handler::{Handler, HandlerId, HandlerSpec, Status},
        secret::SigningSecret,
        task::{HttpTarget, TaskType},
    },
    runner::check_target,
    store::{HandlerFilter, Store},
};
use fields::{Create, Update};

/// The limit for queries that read every handler.
pub(super) const ALL_HANDLERS: usize = 1_000_000;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List handlers, ordered by id
    List(List),
    /// Show the settings of a handler
    Show {
        /// Id of the handler
        id: HandlerId,
    },
    /// Create a handler: --http for a POST, --script for a local program
    #[command(after_help = fields::EXAMPLES)]
    Create(Box<Create>),
    /// Change the given fields of a handler, and keep the others
    Update(Box<Update>),
    /// Enable a handler
    Enable {
        /// Id of the handler
        id: HandlerId,
    },
    /// Disable a handler; its pending retries are skipped
    Disable {
        /// Id of the handler
        id: HandlerId,
    },
    /// Archive a handler: it does not run, and lists omit it
    Archive {
        /// Id of the handler
        id: HandlerId,
    },
    /// Delete a handler; its executions and its history stay
    Delete {
        /// Id of the handler
        id: HandlerId,
    },
    /// Call a handler once, from this machine, with a sample event; nothing is recorded or retried
    Test(test::Test),
    /// Show every change of a handler: who, when, before and after
    History {
        /// Id of the handler
        id: HandlerId,
    },
    /// Give a handler a new signing secret, printed once; the old one stays valid for a day
    RotateSecret {
        /// Id of the handler
        id: HandlerId,
        /// The new secret (whsec_…), read from a file or from stdin (-); default: a random one
        #[arg(long, value_name = "@FILE|-")]
        secret: Option<String>,
        /// How long requests are signed with the old secret too
        #[arg(long, default_value = "24h", value_parser = parse_duration)]
        keep_old: Duration,
        /// Remove the secret: requests are not signed any more
        #[arg(long, conflicts_with_all = ["secret", "keep_old"])]
        remove: bool,
    },
}

#[derive(clap::Args)]
pub(super) struct List {
    /// Only of this event type
    #[arg(long)]
    event: Option<EventName>,
    /// Only with this type of task
    #[arg(long, value_name = "http|script")]
    task: Option<TaskType>,
    /// Only with this status; default: enabled and disabled
    #[arg(long, value_name = "enabled|disabled|archived")]
    status: Option<Status>,
    /// Only with this text in the name, url, path or arguments
    #[arg(long, allow_hyphen_values = true)]
    text: Option<String>,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    let store = context.store()?;
    let by = Context::operator();
    match command {
        Command::List(list) => {
            let List { event, task, status, text } = list;
            let filter = HandlerFilter { event, task_type: task, status, text, ..HandlerFilter::default() };
            let is_unfiltered = filter.event.is_none()
                && filter.task_type.is_none()
                && filter.status.is_none()
                && filter.text.is_none();
            context.output.value(&store.list_handlers(&filter, ALL_HANDLERS).await?, |handlers| {
                show::list(handlers, is_unfiltered)
            })
        }
        Command::Show { id } => {
            let handler = store.handler(id).await?;
            let counts = store.handler_counts(&[id]).await?.remove(&id).unwrap_or_default();
            context
                .output
                .value(&handler, |handler| show::details(handler, &context.config.handler_defaults(), counts))
        }
        Command::Create(create) => self::create(context, &create).await,
        Command::Update(update) => {
            if let Some(url) = update.new_url() {
                check_url(context, url).await?;
            }
            let handler = change(&store, *update, &by).await?;
            context.output.value(&handler, |h| format!("updated handler {}: {}\n", h.id, show::line(h)))
        }
        Command::Enable { id } => set_status(context, id, Status::Enabled).await,
        Command::Disable { id } => set_status(context, id, Status::Disabled).await,
        Command::Archive { id } => set_status(context, id, Status::Archived).await,
        Command::Delete { id } => {
            let handler = store.delete_handler(id, None, &by, None).await?;
            context.output.value(&handler, |h| format!("deleted handler {}: {}\n", h.id, show::line(h)))
        }
        Command::Test(test) => test::run(context, test).await,
        Command::History { id } => {
            let history = store.handler_history(id).await?;
            if history.is_empty() {
                // A deleted handler keeps its history. Without history, the handler never existed.
                return Err(CliError::NotFound(format!("there is no handler {id}")));
            }
            context.output.value(&history, |h| show::history(h))
        }
        Command::RotateSecret { id, remove: true, .. } => {
            let handler = store.remove_secret(id, None, &by).await?;
            context.output.value(&handler, |h| format!("handler {}: requests are no longer signed\n", h.id))
        }
        Command::RotateSecret { id, secret, keep_old, .. } => {
            rotate_secret(context, id, secret, keep_old).await
        }
    }
}

async fn create(context: &Context, create: &Create) -> Result<(), CliError> {
    let spec = create.spec()?;
    warn_script(context, &spec);
    if let Some(url) = spec.task.url() {
        check_url(context, url).await?;
    }
    let secret = create.secret()?;
    let stored = secret.as_ref().map(SigningSecret::stored);
    let handler = context.store()?.create_handler(&spec, stored.as_ref(), &Context::operator()).await?;
    let shown = secret.filter(|_| create.shows_secret());
    show::with_secret(context, &handler, shown.as_ref(), |h| {
        format!("created handler {}: {}\n", h.id, show::line(h))
    })
}

async fn rotate_secret(
    context: &Context,
    id: HandlerId,
    secret_arg: Option<String>,
    keep_old: Duration,
) -> Result<(), CliError> {
    let is_new = secret_arg.is_none();
    let secret = match secret_arg {
        Some(secret_arg) => fields::read_secret(&secret_arg)?,
        None => SigningSecret::generate(),
    };
    let handler =
        context.store()?.rotate_secret(id, None, &secret.stored(), keep_old, &Context::operator()).await?;
    let overlap = humantime::format_duration(keep_old);
    show::with_secret(context, &handler, is_new.then_some(&secret), |h| {
        format!("handler {} signs with the new secret; the old one stays valid for {overlap}\n", h.id)
    })
}

/// Warns if a script cannot run here. It may run on another machine, but a typing error is best found now.
fn warn_script(context: &Context, spec: &HandlerSpec) {
    if let Some(path) = spec.task.script()
        && let Err(why) = settings::script_rules(&context.config).and_then(|rules| Ok(rules.examine(path)?))
    {
        Context::hint(&format!("warning: the script cannot run with the configuration here: {why:#}"));
    }
}

/// Checks the address rules now, not only at the first event.
async fn check_url(context: &Context, url: &HttpTarget) -> Result<(), CliError> {
    check_target(&context.config.http.rules, url).await.map_err(|why| CliError::failed(why.to_string()))
}

async fn change(store: &Store, update: Update, by: &str) -> Result<Handler, CliError> {
    let (id, version) = (update.id, update.if_version);
    let mut refusal = None;
    let change = |spec: HandlerSpec| {
        update.apply(spec.clone()).unwrap_or_else(|why| {
            refusal = Some(why);
            // An unchanged handler is not written.
            spec
        })
    };
    let handler = store.update_handler(id, version, change, by, None).await?;
    refusal.map_or(Ok(handler), |why| Err(CliError::usage(why)))
}

async fn set_status(context: &Context, id: HandlerId, status: Status) -> Result<(), CliError> {
    let handler = context.store()?.set_handler_status(id, None, status, &Context::operator(), None).await?;
    context.output.value(&handler, |h| format!("handler {} is {status}: {}\n", h.id, show::line(h)))
}
