//! Handlers and event types in memory, as they are in the database within a second.
//!
//! Read at the start, when Postgres notifies, after every reconnect and every minute; without Postgres the last one serves.

#[cfg(test)]
mod lookup;

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    domain::{
        event::EventName,
        execution::HandlerRef,
        handler::{Handler, HandlerId, Status, Timeout},
        plan::Plan,
        retry::RetryPolicy,
        secret::{InvalidSecret, SigningSecret},
        task::TaskType,
    },
    store::{self, RegisteredHandler, Store, StoreError},
};

const REFRESH: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_millis(50);

/// What holds where a handler says nothing itself.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub retry: RetryPolicy,
    pub http_timeout: Duration,
    pub script_timeout: Duration,
}

/// A handler with everything that an attempt needs.
pub(super) struct Registered {
    pub handler: Handler,
    pub secrets: Vec<SigningSecret>,
    /// Why this worker must not call it: it would be called without its signature or a header.
    pub unusable: Option<String>,
    pub policy: RetryPolicy,
    pub timeout: Duration,
}

/// The registry at one moment.
#[derive(Default)]
pub(super) struct Snapshot {
    handlers: HashMap<HandlerId, Arc<Registered>>,
    plans: HashMap<EventName, Plan>,
    event_types: Vec<(EventName, bool)>,
    longest_timeout: Duration,
    /// Never, of the one before the first.
    read_at: Option<Timestamp>,
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
            let handlers = self.current.load().handlers.len();
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
        debug!(handlers = snapshot.handlers.len(), "registry loaded");
        self.current.store(Arc::new(snapshot));
        self.loads.send_modify(|loads| *loads += 1);
    }
}

impl Snapshot {
    fn new(rows: store::Registry, defaults: &Defaults) -> Self {
        let mut enabled: HashMap<EventName, Vec<_>> = HashMap::new();
        let mut handlers = HashMap::with_capacity(rows.handlers.len());
        let mut longest_timeout = Duration::ZERO;
        for RegisteredHandler { handler, secrets, unusable } in rows.handlers {
            let (secrets, unusable) = match (unusable, readable(&secrets)) {
                (None, Ok(secrets)) => (secrets, None),
                (Some(why), _) | (None, Err(why)) => (Vec::new(), Some(why)),
            };
            if let Some(why) = &unusable {
                warn!(handler = %handler.id, why, "a handler cannot be called by this worker; its attempts are put off");
            }
            let spec = &handler.spec;
            if spec.status == Status::Enabled {
                enabled.entry(spec.event.clone()).or_default().push((spec.priority, handler.id));
            }
            let default_timeout = match spec.task.kind() {
                TaskType::Http => defaults.http_timeout,
                TaskType::Script => defaults.script_timeout,
            };
            let registered = Registered {
                policy: defaults.retry.with(&spec.retry),
                timeout: spec.timeout.map_or(default_timeout, Timeout::duration),
                secrets,
                unusable,
                handler,
            };
            if registered.handler.spec.status == Status::Enabled {
                longest_timeout = longest_timeout.max(registered.timeout);
            }
            handlers.insert(registered.handler.id, Arc::new(registered));
        }
        let plan_of = |(event, mut handlers): (EventName, Vec<_>)| {
            handlers.sort_unstable();
            (event, Plan::new(handlers.into_iter().map(|(_, id)| id)))
        };
        let event_types = rows.event_types.into_iter().map(|t| (t.name, t.removed_at.is_some())).collect();
        let plans = enabled.into_iter().map(plan_of).collect();
        Self { handlers, plans, event_types, longest_timeout, read_at: Some(Timestamp::now()) }
    }

    /// The enabled handlers of `event`, by priority and id.
    pub(super) fn plan(&self, event: &EventName) -> Plan {
        self.plans.get(event).cloned().unwrap_or_else(|| Plan::new([]))
    }

    pub(super) fn enabled_count(&self) -> usize {
        self.plans.values().map(|plan| plan.handlers().count()).sum()
    }

    /// The longest that an attempt of an enabled handler may take.
    pub(super) const fn longest_timeout(&self) -> Duration {
        self.longest_timeout
    }

    /// When it was read from the database.
    pub(super) const fn read_at(&self) -> Option<Timestamp> {
        self.read_at
    }

    pub(super) fn get(&self, id: HandlerId) -> Option<&Registered> {
        self.handlers.get(&id).map(Arc::as_ref)
    }

    /// The version of a handler that is enabled.
    pub(super) fn version_of_enabled(&self, id: HandlerId) -> Option<i64> {
        let handler = &self.handlers.get(&id)?.handler;
        (handler.spec.status == Status::Enabled).then_some(handler.version)
    }

    /// The handler, if it is enabled for `event` now.
    pub(super) fn enabled(&self, id: HandlerId, event: &EventName) -> Option<Arc<Registered>> {
        let registered = self.handlers.get(&id)?;
        let spec = &registered.handler.spec;
        (spec.status == Status::Enabled && spec.event == *event).then(|| Arc::clone(registered))
    }

    /// The handler as a record names it; of a deleted one only the id is known.
    pub(super) fn handler_ref(&self, id: HandlerId) -> HandlerRef {
        match self.handlers.get(&id) {
            Some(registered) => HandlerRef::from(&registered.handler),
            None => HandlerRef { id, name: None, priority: None, mode: None, task: None },
        }
    }

    /// Every event type, and whether it was removed.
    pub(super) fn event_types(&self) -> impl Iterator<Item = (&EventName, bool)> {
        self.event_types.iter().map(|(name, removed)| (name, *removed))
    }

    pub(super) fn active_events(&self) -> Vec<EventName> {
        self.event_types().filter(|(_, removed)| !removed).map(|(name, _)| name.clone()).collect()
    }
}

/// What it signs with. The database holds no text that is no secret, unless by hand.
fn readable(secrets: &[SecretString]) -> Result<Vec<SigningSecret>, String> {
    let parse = |secret: &SecretString| secret.expose_secret().parse();
    let parsed: Result<_, InvalidSecret> = secrets.iter().map(parse).collect();
    parsed.map_err(|why| format!("its signing secret cannot be used: {why}"))
}
