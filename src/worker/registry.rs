//! Handlers and event types in memory, as they are in the database within a second.
//!
//! Read at the start, when Postgres notifies, after every reconnect and every minute; without Postgres the last one serves.

#[cfg(test)]
mod lookup;
mod snapshot;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    domain::{handler::SeenHandlers, retry::RetryPolicy},
    store::{self, Store, StoreError},
};
use snapshot::Snapshot;

pub(super) use snapshot::Registered;

const REFRESH: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_millis(50);
/// What was seen elsewhere is here within a second, or Postgres is away.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What holds where a handler says nothing itself.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub retry: RetryPolicy,
    pub http_timeout: Duration,
    pub script_timeout: Duration,
}

/// The live registry.
pub(super) struct Registry {
    defaults: Defaults,
    current: ArcSwap<Snapshot>,
    /// Counts the loads.
    loads: watch::Sender<u64>,
}

impl Registry {
    pub(super) fn new(defaults: Defaults) -> Arc<Self> {
        Arc::new(Self { defaults, current: ArcSwap::default(), loads: watch::Sender::new(0) })
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Sees every load from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.loads.subscribe()
    }

    /// Waits for the first load; false if `stop` came first.
    pub(super) async fn loaded(&self, stop: &CancellationToken) -> bool {
        let mut loads = self.changes();
        tokio::select! {
            loaded = loads.wait_for(|loads| *loads > 0) => loaded.is_ok(),
            () = stop.cancelled() => false,
        }
    }

    /// Waits until the registry is as new as what somebody saw, and no longer than that may take.
    pub(super) async fn catch_up_with(&self, seen: &SeenHandlers) {
        let mut loads = self.changes();
        let caught_up = async { while !self.snapshot().has_all(seen) && loads.changed().await.is_ok() {} };
        if tokio::time::timeout(CATCH_UP, caught_up).await.is_err() {
            debug!(%seen, "handlers are not as somebody saw them: deleted since, or Postgres is away");
        }
    }

    /// Keeps the registry as the database is, until `stop`.
    pub(super) async fn keep(self: Arc<Self>, store: Store, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = async {
                let mut away = false;
                loop {
                    let Err(error) = self.follow(&store, &mut away).await;
                    if !away {
                        away = true;
                        self.tell_away(error);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            } => {}
        }
    }

    fn tell_away(&self, error: StoreError) {
        let error = format!("{:#}", anyhow::Error::new(error));
        if *self.loads.borrow() == 0 {
            warn!(error, "waiting for Postgres; no event is taken before its handlers are known");
        } else {
            let handlers = self.current.load().handler_count();
            warn!(error, handlers, "Postgres is away; the last known handlers serve");
        }
    }

    /// Follows the changes on one connection. Listening comes before reading, so that no change falls between.
    async fn follow(&self, store: &Store, away: &mut bool) -> Result<std::convert::Infallible, StoreError> {
        let mut changes = store.listen().await?;
        loop {
            self.load(store.load_registry().await?);
            if std::mem::take(away) {
                info!("Postgres is back, handlers are read again");
            }
            if let Ok(changed) = tokio::time::timeout(REFRESH, changes.changed()).await {
                changed?;
                // Changes come in flocks: one load for all of them.
                tokio::time::sleep(SETTLE).await;
            }
        }
    }

    fn load(&self, rows: store::Registry) {
        for handler in &rows.unreadable {
            warn!(handler = %handler.id, why = handler.why, "a handler makes no sense and takes no part");
        }
        let snapshot = Snapshot::new(rows, &self.defaults);
        debug!(handlers = snapshot.handler_count(), "registry loaded");
        self.current.store(Arc::new(snapshot));
        self.loads.send_modify(|loads| *loads += 1);
    }
}
