//! `take-over`: assigns everything under the prefix on the broker to this database's installation.

use anyhow::Context as _;
use serde::Serialize;

use super::{context::Context, error::CliError};
use crate::{
    broker::{
        BrokerSettings, OtherInstallation, QueueDepth, QueueWatch, installation_name, look_at_mark, take_over,
    },
    store::Store,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Take over even while processes of the other installation consume messages
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct TakenOver {
    installation: String,
    /// The previous owner, if it was another one.
    before: Option<String>,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let store = context.store()?;
    let id = store.installation().await.context("cannot read the installation id from the database")?;
    let installation = id.ok_or_else(|| {
        CliError::failed("the tables are missing or from an older version: run provisiond migrate")
    })?;
    let broker = context.broker()?;
    let connection = broker.dial("take over").await?;
    let names = &broker.topology.names;
    let before = match look_at_mark(&connection, names, installation).await {
        Ok(_) => None,
        Err(error) => Some(error.downcast::<OtherInstallation>()?.other()),
    };
    if let Some(other) = before.as_ref().filter(|_| !args.force) {
        let consumed = consumed(broker.clone(), &store).await?;
        if !consumed.is_empty() {
            return Err(CliError::failed(format!(
                "nothing was changed: processes of {other} still consume {}. Stop them first, or take over with --force",
                consumed.join(", ")
            )));
        }
    }
    take_over(&connection, names, installation).await?;
    let result = TakenOver { installation: installation_name(installation), before };
    context.output.value(&result, |result| {
        let (prefix, installation) = (names.prefix(), &result.installation);
        match &result.before {
            Some(before) => format!(
                "the exchanges and queues {prefix}.* now belong to installation {installation}; they belonged to \
                 {before}. Processes of the old installation that still run are refused within half a minute: stop \
                 them\n"
            ),
            None => format!("the exchanges and queues {prefix}.* belong to installation {installation}\n"),
        }
    })
}

/// The queues that have consumers.
async fn consumed(broker: BrokerSettings, store: &Store) -> anyhow::Result<Vec<String>> {
    let events: Vec<_> =
        store.list_event_types(false).await?.into_iter().map(|event_type| event_type.name).collect();
    let depths = QueueWatch::new(broker).look(&events).await?;
    let is_consumed = |queue: &&QueueDepth| queue.depth.is_some_and(|depth| depth.consumers > 0);
    Ok(depths.queues.iter().filter(is_consumed).map(|queue| queue.queue.clone()).collect())
}
