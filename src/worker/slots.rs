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
    script_share: usize,
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
            script_share: script_concurrency.div_ceil(2),
            handlers: Mutex::default(),
        }
    }

    /// Waits for a slot: at most [`SLOT_TIMEOUT`] for one of the handler's `max_concurrency`, without a limit
    /// for a script slot. The caller limits the whole wait.
    pub(super) async fn acquire(&self, handler: &Handler) -> Slot {
        let is_script = handler.spec.task.kind().is_process();
        let own = handler.spec.max_concurrency.map(NonZeroU32::get).map(|n| n as usize);
        let own_slot = match (own, is_script) {
            (None, false) => return Slot::Free([None, None]),
            (Some(limit), false) => self.own_slot(handler.id, limit, Some(SLOT_TIMEOUT)).await,
            (own, true) => {
                let limit = own.map_or(self.script_share, |n| n.min(self.script_share));
                self.own_slot(handler.id, limit, own.map(|_| SLOT_TIMEOUT)).await
            }
        };
        let Some(own_slot) = own_slot else { return Slot::Busy };
        let script_slot = if is_script { Arc::clone(&self.scripts).acquire_owned().await.ok() } else { None };
        Slot::Free([Some(own_slot), script_slot])
    }

    async fn own_slot(
        &self,
        id: HandlerId,
        limit: usize,
        patience: Option<Duration>,
    ) -> Option<OwnedSemaphorePermit> {
        let waiting = self.semaphore(id, limit).acquire_owned();
        match patience {
            None => waiting.await.ok(),
            Some(patience) => timeout(patience, waiting).await.ok()?.ok(),
        }
    }

    /// The semaphore of a handler. A changed limit gets a new one.
    fn semaphore(&self, id: HandlerId, limit: usize) -> Arc<Semaphore> {
        let mut handlers = self.handlers.lock();
        let fresh = || (limit, Arc::new(Semaphore::new(limit)));
        let entry = handlers.entry(id).or_insert_with(fresh);
        if entry.0 != limit {
            *entry = fresh();
        }
        Arc::clone(&entry.1)
    }
}
