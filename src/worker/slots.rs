//! Limits how many attempts run at a time: of a handler with `max_concurrency`, and of all scripts.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::domain::handler::{Handler, HandlerId};

/// How long an attempt waits for a slot of its handler before it is deferred.
const SLOT_TIMEOUT: Duration = Duration::from_secs(30);

/// The slots of one worker.
pub(super) struct Slots {
    scripts: Arc<Semaphore>,
    /// How many script slots one handler may hold: half of them.
    scripts_per_handler: usize,
    handlers: Mutex<HashMap<HandlerId, (usize, Arc<Semaphore>)>>,
}

/// A slot for an attempt, given back when it is dropped.
pub(super) enum Slot {
    Free([Option<OwnedSemaphorePermit>; 2]),
    Busy,
}

impl Slots {
    pub(super) fn new(script_concurrency: usize) -> Self {
        Self {
            scripts: Arc::new(Semaphore::new(script_concurrency)),
            scripts_per_handler: script_concurrency.div_ceil(2),
            handlers: Mutex::default(),
        }
    }

    /// Waits for a slot: at most [`SLOT_TIMEOUT`] for one of the handler's `max_concurrency`, without a limit
    /// for a script slot. The caller limits the whole wait.
    pub(super) async fn acquire(&self, handler: &Handler) -> Slot {
        let is_script = handler.spec.task.kind().is_process();
        let handler_limit = handler.spec.max_concurrency.map(NonZeroU32::get).map(|n| n as usize);
        let handler_slot = match (handler_limit, is_script) {
            (None, false) => return Slot::Free([None, None]),
            (Some(limit), false) => self.handler_slot(handler.id, limit, Some(SLOT_TIMEOUT)).await,
            (handler_limit, true) => {
                let limit =
                    handler_limit.map_or(self.scripts_per_handler, |n| n.min(self.scripts_per_handler));
                self.handler_slot(handler.id, limit, handler_limit.map(|_| SLOT_TIMEOUT)).await
            }
        };
        let Some(handler_slot) = handler_slot else { return Slot::Busy };
        let script_slot = if is_script { Arc::clone(&self.scripts).acquire_owned().await.ok() } else { None };
        Slot::Free([Some(handler_slot), script_slot])
    }

    async fn handler_slot(
        &self,
        id: HandlerId,
        limit: usize,
        max_wait: Option<Duration>,
    ) -> Option<OwnedSemaphorePermit> {
        let waiting = self.semaphore(id, limit).acquire_owned();
        match max_wait {
            None => waiting.await.ok(),
            Some(max_wait) => timeout(max_wait, waiting).await.ok()?.ok(),
        }
    }

    /// The semaphore of a handler. A changed limit gets a new one.
    fn semaphore(&self, id: HandlerId, limit: usize) -> Arc<Semaphore> {
        let mut handlers = self.handlers.lock();
        let new_entry = || (limit, Arc::new(Semaphore::new(limit)));
        let entry = handlers.entry(id).or_insert_with(new_entry);
        if entry.0 != limit {
            *entry = new_entry();
        }
        Arc::clone(&entry.1)
    }
}
