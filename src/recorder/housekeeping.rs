//! Partitions of the executions, made ahead; what is deleted when its retention is over; the index of a day's text.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::store::Store;

/// Processes that were killed: nobody wants to see them after an hour.
const SILENT: Duration = Duration::from_hours(1);
const DAYS_AHEAD: u16 = 3;
const INTERVAL: Duration = Duration::from_hours(1);
const PAUSE: Duration = Duration::from_secs(30);

/// How long things are kept, in days.
#[derive(Clone, Copy)]
pub(super) struct Retention {
    pub executions: u16,
    /// That were replayed or discarded; open ones are kept for ever.
    pub dead_letters: u16,
}

/// Keeps house until `stop`. Any number of recorders may do it at the same time.
pub(super) async fn keep(store: Store, retention: Retention, index_text: bool, stop: CancellationToken) {
    loop {
        let done = async {
            tidy(&store, retention).await?;
            if index_text { index(&store).await } else { Ok(()) }
        };
        let done = tokio::select! { () = stop.cancelled() => return, done = done => done };
        let pause = match done {
            Ok(()) => INTERVAL,
            Err(error) => {
                let error = format!("{error:#}");
                warn!(
                    error,
                    "partitions are not made, old records not deleted, or text not indexed; trying again"
                );
                PAUSE
            }
        };
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
    }
}

/// Makes the text of ended days searchable, the latest first. At the first start, or after a long absence, that is many.
async fn index(store: &Store) -> anyhow::Result<()> {
    while let Some(day) = store.index_text_of_a_day().await? {
        info!(%day, "the text of executions is indexed");
    }
    Ok(())
}

async fn tidy(store: &Store, retention: Retention) -> anyhow::Result<()> {
    store.ensure_partitions(DAYS_AHEAD).await?;
    let old = store.drop_partitions_older_than(retention.executions).await?;
    let retention_days = retention.executions;
    for day in old.dropped {
        info!(%day, retention_days, "executions older than their retention are dropped");
    }
    for day in old.busy {
        info!(%day, "executions older than their retention are in use and are dropped later");
    }
    store.forget_counts().await?;
    store.forget_silent_processes(SILENT).await?;
    let letters = store.forget_closed_dead_letters(retention.dead_letters).await?;
    if letters > 0 {
        let retention_days = retention.dead_letters;
        info!(letters, retention_days, "dead letters closed longer ago than their retention are deleted");
    }
    Ok(())
}
