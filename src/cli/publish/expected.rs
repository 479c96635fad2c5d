//! What `publish --wait` still waits for, and why.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    cli::{context::Context, error::CliError, output::format_time},
    domain::{
        event::{EventId, EventName},
        execution::{Disposition, Execution},
        handler::{HandlerId, OnFailure, Status},
    },
    store::HandlerFilter,
};

/// Within this time every worker uses a changed handler.
const LIVE_WITHIN: Duration = Duration::from_secs(1);

/// The handlers that have not ended yet, by event.
pub(super) struct Expected {
    /// The enabled handlers of the event type, and whether the handlers after each one wait for it.
    pub handlers: HashMap<HandlerId, OnFailure>,
    pub dead_lettered: usize,
    pub open: HashMap<EventId, HashSet<HandlerId>>,
    /// Handlers that failed and wait for a retry, with the text to print.
    retrying: HashMap<(EventId, HandlerId), String>,
}

impl Expected {
    /// Reads the enabled handlers. If one was changed just now, waits until every worker uses the change.
    pub async fn of(context: &Context, name: &EventName, ids: &[EventId]) -> Result<Self, CliError> {
        let (event, status) = (Some(name.clone()), Some(Status::Enabled));
        let filter = HandlerFilter { event, status, ..HandlerFilter::default() };
        let handlers = context.store()?.list_handlers(&filter, 10_000).await?;
        let age = handlers.iter().map(|h| Timestamp::now().duration_since(h.updated_at)).min();
        let age = age.map(|age| Duration::try_from(age).unwrap_or_default());
        tokio::time::sleep(LIVE_WITHIN.saturating_sub(age.unwrap_or(LIVE_WITHIN))).await;
        let handlers: HashMap<_, _> = handlers.into_iter().map(|h| (h.id, h.spec.on_failure())).collect();
        let open = ids.iter().map(|id| (id.clone(), handlers.keys().copied().collect())).collect();
        Ok(Self { handlers, dead_lettered: 0, open, retrying: HashMap::new() })
    }

    /// The likely reason why not everything has ended.
    pub fn likely_reason(&self) -> String {
        let mut retrying = self.retrying.iter().filter(|((id, _), _)| self.open.contains_key(id));
        match (retrying.next(), retrying.count()) {
            (None, _) => "is a worker running?".to_owned(),
            (Some((_, text)), 0) => format!("{text}."),
            (Some((_, text)), others) => format!("{text}, and {others} more are being retried."),
        }
    }

    /// Updates the state with `execution`. Returns false if it belongs to another event.
    pub fn record(&mut self, execution: &Execution) -> bool {
        let id = &execution.event.id;
        let Some(open) = self.open.get_mut(id) else { return false };
        let handler = execution.handler.as_ref().map(|handler| handler.id);
        let ends_all = match execution.disposition {
            Disposition::NoHandler | Disposition::Duplicate => true,
            Disposition::DeadLettered => {
                self.dead_lettered += 1;
                handler.and_then(|id| self.handlers.get(&id)) == Some(&OnFailure::Halt)
            }
            Disposition::Retrying => {
                if let Some(handler) = handler {
                    self.retrying.insert((id.clone(), handler), retrying(execution));
                }
                return true;
            }
            _ => false,
        };
        if let Some(handler) = handler {
            open.remove(&handler);
            self.retrying.remove(&(id.clone(), handler));
        }
        if ends_all || open.is_empty() {
            self.open.remove(id);
        }
        true
    }
}

/// `CRM failed at attempt 1 of 8 and is tried again at 2026-01-31 12:00:00 UTC`.
fn retrying(execution: &Execution) -> String {
    let handler = execution.handler.as_ref();
    let name = handler.and_then(|handler| handler.name.as_ref()).map(ToString::to_string);
    let name = name.or_else(|| handler.map(|handler| format!("handler {}", handler.id))).unwrap_or_default();
    let when = execution.retry_at.map(|at| format!(" at {}", format_time(at))).unwrap_or_default();
    let (attempt, max) = (execution.attempt, execution.max_attempts);
    format!("{name} failed at attempt {attempt} of {max} and is tried again{when}")
}
