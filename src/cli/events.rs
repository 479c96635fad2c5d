//! `events`: the catalogue of event types.

use clap::Subcommand;

use super::{context::Context, error::CliError, output::table};
use crate::{
    domain::event::EventName,
    operations::{NewEventType, add_event_type, remove_event_type},
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the event types that handlers can be created for
    List,
    /// Add an event type; workers consume it without a restart
    Add {
        /// Name such as clients.suspend: segments of a-z, 0-9 and _, joined by dots
        name: EventName,
        /// Group in lists; default: the group of event types with the same name up to the last dot
        #[arg(long, allow_hyphen_values = true)]
        group: Option<String>,
        /// Title in lists; default: derived from the name
        #[arg(long, allow_hyphen_values = true)]
        title: Option<String>,
    },
    /// Remove an event type that no handler uses; workers consume its queue until you delete that
    Remove {
        /// Name of the event type
        name: EventName,
    },
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::List => context.output.value(&context.store()?.list_event_types(false).await?, |types| {
            table(
                ["Group", "Title", "Name"],
                types.iter().map(|t| [t.group_title.clone(), t.title.clone(), t.name.to_string()]),
            )
        }),
        Command::Add { name, group, title } => add(context, NewEventType { name, group, title }).await,
        Command::Remove { name } => remove(context, &name).await,
    }
}

async fn add(context: &Context, new: NewEventType) -> Result<(), CliError> {
    let added = add_event_type(&context.store()?, &context.broker()?, new).await.map_err(CliError::of)?;
    context.output.value(&added, |t| format!("added {} ({}: {})\n", t.name, t.group_title, t.title))
}

async fn remove(context: &Context, name: &EventName) -> Result<(), CliError> {
    let broker = context.broker()?;
    let removed = remove_event_type(&context.store()?, &broker, name).await.map_err(CliError::of)?;
    let queue = broker.topology.names.event_queue(name);
    context.output.value(&removed, |t| {
        format!("removed {}; workers still consume the events in the queue {queue}; delete it when it is empty (rabbitmqctl delete_queue {queue})\n", t.name)
    })
}
