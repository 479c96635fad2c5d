//! `events`: the catalogue.

use clap::Subcommand;

use super::{context::Context, error::CliError, output::table};
use crate::domain::event::EventName;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the events that handlers can be created for
    List,
    /// Add an event; workers take it up without restart
    Add {
        /// Such as clients.suspend: segments of a-z, 0-9 and _, joined by dots
        name: EventName,
        /// What it is listed under; if absent, as its neighbours
        #[arg(long)]
        group: Option<String>,
        /// What people call it; if absent, from its name
        #[arg(long)]
        title: Option<String>,
    },
    /// Remove an event that no handler names; what its queue holds is still consumed
    Remove { name: EventName },
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::List => context.output.value(&context.store()?.list_event_types(false).await?, |types| {
            table(
                ["Group", "Title", "Name"],
                types.iter().map(|t| [t.group_title.clone(), t.title.clone(), t.name.to_string()]),
            )
        }),
        Command::Add { name, group, title } => add(context, name, group, title).await,
        Command::Remove { name } => remove(context, name).await,
    }
}

/// The queue is declared before the type is committed: whoever sees the type can publish to it.
async fn add(
    context: &Context,
    name: EventName,
    group: Option<String>,
    title: Option<String>,
) -> Result<(), CliError> {
    let store = context.store()?;
    let group = match group {
        Some(group) => group,
        None => guessed_group(context, &name).await?,
    };
    let title =
        title.unwrap_or_else(|| name.as_str().rsplit('.').next().unwrap_or_default().replace('_', " "));
    let broker = context.broker()?;
    let connection = broker.dial("events add").await?;
    let pending = store.add_event_type(&name, &group, &title).await?;
    broker.topology.declare(&connection).await?;
    broker.topology.declare_event(&connection, &name).await?;
    let added = pending.commit().await?;
    context.output.value(&added, |t| format!("added {} ({}: {})\n", t.name, t.group_title, t.title))
}

/// The group of an event type whose name begins alike.
async fn guessed_group(context: &Context, name: &EventName) -> Result<String, CliError> {
    let parent = |name: &EventName| name.as_str().rsplit_once('.').map(|(parent, _)| parent.to_owned());
    let types = context.store()?.list_event_types(false).await?;
    let neighbour = types.into_iter().find(|t| parent(&t.name) == parent(name));
    Ok(neighbour.map_or_else(|| "Other".to_owned(), |t| t.group_title))
}

async fn remove(context: &Context, name: EventName) -> Result<(), CliError> {
    let broker = context.broker()?;
    let connection = broker.dial("events remove").await?;
    let pending = context.store()?.remove_event_type(&name).await?;
    broker.topology.unbind_event(&connection, &name).await?;
    let removed = match pending.commit().await {
        Ok(removed) => removed,
        Err(error) => {
            // It is in the catalogue still: its events must reach it.
            broker.topology.declare_event(&connection, &name).await?;
            return Err(error.into());
        }
    };
    // A worker that connected meanwhile knew it still, and bound it again.
    broker.topology.unbind_event(&connection, &name).await?;
    let queue = broker.topology.names.event_queue(&name);
    context.output.value(&removed, |t| {
        format!("removed {}; workers consume what is left in the queue {queue}, then delete it (rabbitmqctl delete_queue {queue})\n", t.name)
    })
}
