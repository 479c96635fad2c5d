//! A snapshot of the registry: the enabled handlers of each event type, and what their attempts need.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tracing::warn;

use crate::{
    domain::{
        event::EventName,
        execution::HandlerRef,
        handler::{Handler, HandlerDefaults, HandlerId, HandlerVersions, Status},
        plan::{Created, Plan, Planned},
        retry::RetryPolicy,
        secret::{InvalidSecret, SigningSecret},
    },
    store::{self, RegisteredHandler},
};

/// A handler with everything that an attempt needs.
pub(in crate::worker) struct Registered {
    pub handler: Handler,
    pub secrets: Vec<SigningSecret>,
    /// Why this worker must not call the handler: a secret cannot be read, so the signature or a header would
    /// be missing.
    pub unusable: Option<String>,
    pub policy: RetryPolicy,
    pub timeout: Duration,
}

/// An immutable snapshot of the registry.
#[derive(Default)]
pub(in crate::worker) struct Snapshot {
    handlers: HashMap<HandlerId, Arc<Registered>>,
    plans: HashMap<EventName, Plan>,
    event_types: Vec<(EventName, bool)>,
    longest_timeout: Duration,
    /// When it was read from the database; None for the empty snapshot before the first load.
    read_at: Option<Timestamp>,
}

impl Snapshot {
    pub(super) fn new(rows: store::Registry, defaults: &HandlerDefaults) -> Self {
        let mut enabled: HashMap<EventName, Vec<_>> = HashMap::new();
        let mut handlers = HashMap::with_capacity(rows.handlers.len());
        let mut longest_timeout = Duration::ZERO;
        for RegisteredHandler { handler, secrets, unusable } in rows.handlers {
            let (secrets, unusable) = match (unusable, parse_secrets(&secrets)) {
                (None, Ok(secrets)) => (secrets, None),
                (Some(why), _) | (None, Err(why)) => (Vec::new(), Some(why)),
            };
            if let Some(why) = &unusable {
                warn!(handler = %handler.id, why, "this worker cannot call a handler: its attempts are deferred");
            }
            let spec = &handler.spec;
            if spec.status == Status::Enabled {
                enabled.entry(spec.event.clone()).or_default().push((
                    spec.priority,
                    handler.id,
                    Created::at(handler.created_at),
                ));
            }
            let registered = Registered {
                policy: defaults.retry_of(spec),
                timeout: defaults.timeout_of(spec),
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
            handlers.sort_unstable_by_key(|(priority, id, _)| (*priority, *id));
            (event, Plan::new(handlers.into_iter().map(|(_, id, created)| Planned { id, created })))
        };
        let event_types = rows.event_types.into_iter().map(|t| (t.name, t.removed_at.is_some())).collect();
        let plans = enabled.into_iter().map(plan_of).collect();
        Self { handlers, plans, event_types, longest_timeout, read_at: Some(Timestamp::now()) }
    }

    /// The enabled handlers of `event`, by priority and id.
    pub(in crate::worker) fn plan(&self, event: &EventName) -> Plan {
        self.plans.get(event).cloned().unwrap_or_else(|| Plan::new([]))
    }

    pub(super) fn handler_count(&self) -> usize {
        self.handlers.len()
    }

    pub(in crate::worker) fn enabled_count(&self) -> usize {
        self.plans.values().map(|plan| plan.handlers().count()).sum()
    }

    /// The longest timeout of an enabled handler.
    pub(in crate::worker) const fn longest_timeout(&self) -> Duration {
        self.longest_timeout
    }

    pub(in crate::worker) const fn read_at(&self) -> Option<Timestamp> {
        self.read_at
    }

    pub(in crate::worker) fn get(&self, id: HandlerId) -> Option<&Registered> {
        self.handlers.get(&id).map(Arc::as_ref)
    }

    /// The version of the handler, if it is enabled.
    pub(in crate::worker) fn version_of_enabled(&self, id: HandlerId) -> Option<i64> {
        let handler = &self.handlers.get(&id)?.handler;
        (handler.spec.status == Status::Enabled).then_some(handler.version)
    }

    /// Whether the snapshot has at least the handler versions in `seen`.
    pub(super) fn has_all(&self, seen: &HandlerVersions) -> bool {
        let known = |id| self.get(id).map(|registered| registered.handler.version);
        seen.iter().all(|(id, version)| known(id) >= Some(version))
    }

    /// The handler, if it is enabled for `event` in this snapshot.
    pub(in crate::worker) fn enabled(&self, id: HandlerId, event: &EventName) -> Option<Arc<Registered>> {
        let registered = self.handlers.get(&id)?;
        let spec = &registered.handler.spec;
        (spec.status == Status::Enabled && spec.event == *event).then(|| Arc::clone(registered))
    }

    /// The handler as records name it; of a deleted handler only the id is known.
    pub(in crate::worker) fn handler_ref(&self, id: HandlerId) -> HandlerRef {
        match self.handlers.get(&id) {
            Some(registered) => HandlerRef::from(&registered.handler),
            None => HandlerRef { id, name: None, priority: None, mode: None, task: None },
        }
    }

    /// Every event type, and whether it was removed from the catalogue.
    pub(in crate::worker) fn event_types(&self) -> impl Iterator<Item = (&EventName, bool)> {
        self.event_types.iter().map(|(name, removed)| (name, *removed))
    }

    pub(in crate::worker) fn active_events(&self) -> Vec<EventName> {
        self.event_types().filter(|(_, removed)| !removed).map(|(name, _)| name.clone()).collect()
    }
}

/// Parses the signing secrets. Only a manual change of the table can make one invalid.
fn parse_secrets(secrets: &[SecretString]) -> Result<Vec<SigningSecret>, String> {
    let parse = |secret: &SecretString| secret.expose_secret().parse();
    let parsed: Result<_, InvalidSecret> = secrets.iter().map(parse).collect();
    parsed.map_err(|why| format!("its signing secret cannot be used: {why}"))
}
