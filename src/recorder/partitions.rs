//! Partitions of the executions: made ahead, and dropped when their retention is over.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::store::Store;

const DAYS_AHEAD: u16 = 3;
const INTERVAL: Duration = Duration::from_hours(1);
const PAUSE: Duration = Duration::from_secs(30);

/// Keeps the partitions until `stop`. Any number of recorders may do it at the same time.
pub(super) async fn keep(store: Store, retention_days: u16, stop: CancellationToken) {
    loop {
        let pause = match tidy(&store, retention_days).await {
            Ok(()) => INTERVAL,
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "partitions of the executions are not kept, trying again"
                );
                PAUSE
            }
        };
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
    }
}

async fn tidy(store: &Store, retention_days: u16) -> anyhow::Result<()> {
    store.ensure_partitions(DAYS_AHEAD).await?;
    let old = store.drop_partitions_older_than(retention_days).await?;
    for day in old.dropped {
        info!(%day, retention_days, "executions older than their retention are dropped");
    }
    for day in old.busy {
        info!(%day, "executions older than their retention are in use and are dropped later");
    }
    Ok(())
}
