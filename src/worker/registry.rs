//! Handlers and event types in memory, at most about a second behind the database.
//!
//! The registry reads the database at the start, on each notification, when a message names a handler version
//! that the registry does not have, after each reconnect, and every minute. Without Postgres the last
//! snapshot stays in use.

#[cfg(test)]
mod lookup;
mod snapshot;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    domain::handler::{HandlerDefaults, HandlerVersions},
    store::{self, Store, StoreError},
};

pub(super) use snapshot::{Registered, Snapshot};

const REFRESH_INTERVAL: Duration = Duration::from_mins(1);
const RETRY_DELAY: Duration = Duration::from_secs(1);
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Longest wait for a newer snapshot; if it takes longer, Postgres is away.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// The registry, kept up to date with the database.
pub(super) struct Registry {
    defaults: HandlerDefaults,
    current: ArcSwap<Snapshot>,
    /// The number of loads so far.
    loads: watch::Sender<u64>,
    /// Requests a load: a message names a handler version that is not in the snapshot.
    reload: Notify,
    /// Since when Postgres is away.
    unavailable_since: Mutex<Option<Instant>>,
}

impl Registry {
    pub(super) fn new(defaults: HandlerDefaults) -> Arc<Self> {
        Arc::new(Self {
            defaults,
            current: ArcSwap::default(),
            loads: watch::Sender::new(0),
            reload: Notify::new(),
            unavailable_since: Mutex::default(),
        })
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Notifies of every load from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.loads.subscribe()
    }

    /// Waits for the first load; false if `stop` comes first.
    pub(super) async fn loaded(&self, stop: &CancellationToken) -> bool {
        let mut loads = self.changes();
        tokio::select! {
            loaded = loads.wait_for(|loads| *loads > 0) => loaded.is_ok(),
            () = stop.cancelled() => false,
        }
    }

    /// Waits until the registry has at least the handler versions in `seen`.
    ///
    /// A handler in `seen` may have been deleted since, so two loads are enough. While Postgres is away,
    /// deliveries wait a few seconds in all, counted from the moment it went away.
    pub(super) async fn wait_for_versions(&self, seen: &HandlerVersions) {
        let mut loads = self.changes();
        let caught_up = async {
            // A load in progress may have read too early; the load after it has not.
            for _ in 0..2 {
                if self.snapshot().has_all(seen) {
                    return;
                }
                self.reload.notify_one();
                if loads.changed().await.is_err() {
                    return;
                }
            }
        };
        let since = self.unavailable_since.lock().unwrap_or_else(Instant::now);
        if timeout_at(since + CATCH_UP_TIMEOUT, caught_up).await.is_err() {
            debug!(%seen, "using older handler versions than the message names: PostgreSQL did not answer in time");
        }
    }

    /// Keeps the registry up to date until `stop`.
    pub(super) async fn keep_up_to_date(self: Arc<Self>, store: Store, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = async {
                loop {
                    let Err(error) = self.follow(&store).await;
                    if self.note_unavailable() {
                        self.log_unavailable(error);
                    }
                    sleep(RETRY_DELAY).await;
                }
            } => {}
        }
    }

    /// Records that Postgres is away; true if it was not known before.
    fn note_unavailable(&self) -> bool {
        let mut unavailable_since = self.unavailable_since.lock();
        let is_new = unavailable_since.is_none();
        unavailable_since.get_or_insert_with(Instant::now);
        is_new
    }

    fn log_unavailable(&self, error: StoreError) {
        let error = format!("{:#}", anyhow::Error::new(error));
        if *self.loads.borrow() == 0 {
            warn!(error, "waiting for PostgreSQL: taking no events until the handlers are loaded");
        } else {
            let handlers = self.current.load().handler_count();
            warn!(error, handlers, "cannot read handlers from PostgreSQL: using the last known handlers");
        }
    }

    /// Follows changes on one connection. It listens before it reads, so that no change is missed.
    async fn follow(&self, store: &Store) -> Result<std::convert::Infallible, StoreError> {
        let mut changes = store.listen().await?;
        loop {
            self.load(store.load_registry().await?);
            if self.unavailable_since.lock().take().is_some() {
                info!("PostgreSQL is available again: reloaded handlers");
            }
            let change = async {
                tokio::select! {
                    result = changes.changed() => result,
                    () = self.reload.notified() => Ok(()),
                }
            };
            if let Ok(result) = timeout(REFRESH_INTERVAL, change).await {
                result?;
                // Changes often come in groups: load once for all of them.
                sleep(DEBOUNCE).await;
            }
        }
    }

    fn load(&self, rows: store::Registry) {
        for handler in &rows.unreadable {
            warn!(handler = %handler.id, why = handler.why, "ignoring handler with an invalid definition");
        }
        let snapshot = Snapshot::new(rows, &self.defaults);
        debug!(handlers = snapshot.handler_count(), "registry loaded");
        self.current.store(Arc::new(snapshot));
        self.loads.send_modify(|loads| *loads += 1);
    }
}
