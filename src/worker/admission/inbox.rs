//! Detects events that were published twice (`worker.deduplicate`).

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::batched::Batched;
use crate::{
    domain::event::Event,
    store::{Arrived, InboxClaim, Store, StoreError},
    telemetry::metrics::id_reused,
};

const BATCH: usize = 100;
const PURGE_INTERVAL: Duration = Duration::from_mins(10);

/// Claims each event for its first delivery.
pub(super) struct Inbox(Batched<InboxClaim, Arrived>);

impl Inbox {
    /// Remembers events for `window`, and deletes older ones until `stop`.
    pub(super) fn start(store: &Store, window: Duration, stop: CancellationToken) -> Self {
        tokio::spawn(purge(store.clone(), window, stop));
        let store = store.clone();
        Self(Batched::start(BATCH, "running possible duplicates", move |claims: Vec<InboxClaim>| {
            let store = store.clone();
            async move {
                match store.claim(&claims, window).await {
                    // A pooled connection may have died unnoticed, and the statement may have been committed
                    // or not. The claim has a random id, so a second try finds out which.
                    Err(StoreError::Unavailable(_)) => store.claim(&claims, window).await,
                    claimed => claimed,
                }
            }
        }))
    }

    /// Whether another delivery claimed `event` before. False without the database, and false if that
    /// delivery had the same id but another body.
    pub(super) async fn is_duplicate(&self, event: &Event) -> bool {
        let claim = InboxClaim {
            event_id: event.id.to_string(),
            event_name: event.name.to_string(),
            id: Uuid::new_v4(),
            body_hash: Sha256::digest(&event.body).to_vec(),
        };
        let arrived = self.0.query(claim).await;
        if arrived == Some(Arrived::WithOtherBody) {
            id_reused(&event.name);
            warn!(
                "event id was used before with a different body: not a duplicate, running the event (worker.deduplicate)"
            );
        }
        arrived == Some(Arrived::Again)
    }
}

async fn purge(store: Store, window: Duration, stop: CancellationToken) {
    loop {
        // Every worker purges; the random interval spreads them.
        let delay = PURGE_INTERVAL.mul_f64(rand::random_range(0.5..1.5));
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(delay) => {} }
        loop {
            match store.purge_inbox(window).await {
                Ok(0) => break,
                Ok(rows) => debug!(rows, "inbox purged"),
                Err(error) => {
                    warn!(
                        error = format!("{:#}", anyhow::Error::new(error)),
                        "cannot purge old event ids from the inbox, trying again later"
                    );
                    break;
                }
            }
        }
    }
}
