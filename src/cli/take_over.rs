//! `take-over`: what is under the prefix in the broker is this database's from now on.

use anyhow::Context as _;
use serde::Serialize;

use super::{context::Context, error::CliError};
use crate::{
    broker::{Connection, Names, OtherInstallation, installation_name, look_at_mark, queue_depth, take_over},
    store::Store,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Even while processes of the other installation take events
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct TakenOver {
    installation: String,
    /// Whose it was, if that is known and another.
    before: Option<String>,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let store = context.store()?;
    let id = store.installation().await.context("asking the database which installation this is")?;
    let installation = id.ok_or_else(|| {
        CliError::failed("the database has no tables of this version: run provisiond migrate")
    })?;
    let broker = context.broker()?;
    let connection = broker.dial("take over").await?;
    let names = &broker.topology.names;
    let before = match look_at_mark(&connection, names, installation).await {
        Ok(_) => None,
        Err(error) => Some(error.downcast::<OtherInstallation>()?.other()),
    };
    if let Some(other) = before.as_ref().filter(|_| !args.force) {
        let consumed = consumed(&connection, names, &store).await?;
        if !consumed.is_empty() {
            return Err(CliError::failed(format!(
                "nothing was changed: processes of {other} take messages from {}. End them first, or take over with --force",
                consumed.join(", ")
            )));
        }
    }
    take_over(&connection, names, installation).await?;
    let taken = TakenOver { installation: installation_name(installation), before };
    context.output.value(&taken, |taken| {
        let (prefix, installation) = (names.prefix(), &taken.installation);
        match &taken.before {
            Some(before) => format!(
                "everything called {prefix}.* belongs to installation {installation} now; it belonged to {before}. \
                 Processes of that one that still run are refused within half a minute: end them\n"
            ),
            None => format!("everything called {prefix}.* belongs to installation {installation}\n"),
        }
    })
}

/// The queues from which somebody takes messages.
async fn consumed(connection: &Connection, names: &Names, store: &Store) -> anyhow::Result<Vec<String>> {
    let types = store.list_event_types(false).await?;
    let events = types.iter().map(|known| names.event_queue(&known.name));
    let shared = [names.execution_log(), names.dead_letters(), names.unrouted()];
    let mut consumed = Vec::new();
    for queue in events.chain(shared) {
        let depth = queue_depth(connection, &queue).await?;
        if depth.is_some_and(|depth| depth.consumers > 0) {
            consumed.push(queue);
        }
    }
    Ok(consumed)
}
