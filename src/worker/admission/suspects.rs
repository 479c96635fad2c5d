//! Suspects: deliveries that may crash workers. They run alone, and each start is counted.
//!
//! The broker's delivery count proves little: a lost connection raises it for every unacknowledged delivery,
//! whether its handlers ran or not. So a suspect is counted in the database before it runs, and deleted there
//! when it ends. A count that remains after a crash belongs to the event that ran during the crash.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug};

use super::batched::Batched;
use crate::{
    broker::Delivery,
    store::{RunKey, Store},
};

/// A message with this many earlier deliveries is a suspect. Lost connections and restarts rarely cause so
/// many.
const SUSPECT: u32 = 3;
/// Suspects of one restart start in random order, each after a delay of up to this long. In a fixed order,
/// the suspects behind the one that crashes the worker would never run.
const MAX_SHUFFLE_DELAY: Duration = Duration::from_millis(500);

/// Whether a message was delivered so often that it must run alone.
pub(super) const fn is_suspect(delivery: &Delivery) -> bool {
    delivery.earlier_deliveries >= SUSPECT
}

pub(super) struct Suspects {
    /// One permit: a suspect that crashes the worker then interrupts no other suspect.
    alone: Semaphore,
    starts: Batched<RunKey, u32>,
    limit: u32,
    store: Store,
    tasks: TaskTracker,
}

/// Permission for a suspect to run alone, valid until it is dropped.
pub(super) struct SuspectPermit<'a> {
    /// How often the suspect started before and never ended, if that reaches the limit.
    pub too_many_starts: Option<u32>,
    suspects: &'a Suspects,
    run: RunKey,
    _alone: Option<SemaphorePermit<'a>>,
}

impl Suspects {
    /// `limit`: how many starts without an end make a dead letter. `tasks`: tracks the tasks that must end
    /// before the process does.
    pub(super) fn new(store: &Store, limit: u32, tasks: &TaskTracker) -> Self {
        let query_store = store.clone();
        let count_start = move |runs: Vec<RunKey>| {
            let store = query_store.clone();
            async move {
                let mut starts = Vec::with_capacity(runs.len());
                for run in &runs {
                    starts.push(store.begin_suspect(run).await?);
                }
                Ok(starts)
            }
        };
        let fallback = "running suspect events without counting their starts";
        Self {
            alone: Semaphore::new(1),
            starts: Batched::start(1, fallback, count_start),
            limit,
            store: store.clone(),
            tasks: tasks.clone(),
        }
    }

    /// Waits until `run` may run alone. Without the database it runs and is not counted.
    pub(super) async fn permit(&self, run: RunKey) -> SuspectPermit<'_> {
        tokio::time::sleep(MAX_SHUFFLE_DELAY.mul_f64(rand::random())).await;
        let alone = self.alone.acquire().await.ok();
        // Create the permit before the start is counted: if this future is dropped meanwhile, the count is
        // deleted.
        let mut permit =
            SuspectPermit { too_many_starts: None, suspects: self, run: run.clone(), _alone: alone };
        let starts = self.starts.query(run).await.unwrap_or(0);
        permit.too_many_starts = Some(starts).filter(|starts| *starts >= self.limit);
        debug!(begun = starts, "suspect event may run alone now");
        permit
    }
}

impl Drop for SuspectPermit<'_> {
    fn drop(&mut self) {
        let (store, run) = (self.suspects.store.clone(), self.run.clone());
        let delete = async move {
            // A row that cannot be deleted counts one start too many, which matters only if the run becomes a
            // suspect again.
            if let Err(error) = store.end_suspect(&run).await {
                debug!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "cannot delete the start count of a suspect event"
                );
            }
        };
        self.suspects.tasks.spawn(delete.in_current_span());
    }
}
