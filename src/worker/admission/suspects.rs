//! Deliveries that may be what takes workers down: they run alone, and are counted.
//!
//! How often the broker delivered one says little: each lost connection counts against everything that was in hand,
//! called or not. So what is begun alone is counted in the database before it runs, and forgotten when it ends. What
//! is left there after a crash is what crashed.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::batched::Batched;
use crate::{
    broker::Delivery,
    store::{RunKey, Store},
    worker::event_run::EventRun,
};

/// A delivery that came this often before may be what takes workers down. Fewer cuts and restarts than
/// that happen to any delivery.
const SUSPECT: u32 = 3;
/// Suspects that came together take their turns in the order of a wait of up to this long: with one
/// order for all, those behind the culprit would never have their turn.
const MAX_SHUFFLE_DELAY: Duration = Duration::from_millis(500);

/// Whether it came so often that it is to run alone.
pub(super) const fn is_suspect(delivery: &Delivery) -> bool {
    delivery.earlier_deliveries >= SUSPECT
}

pub(super) struct Suspects {
    /// One at a time: what takes the worker down then takes no other suspect along.
    alone: Semaphore,
    begun: Batched<RunKey, u32>,
    limit: u32,
    store: Store,
    tasks: TaskTracker,
}

/// The turn of a suspect, until this is dropped.
pub(super) struct SuspectPermit<'a> {
    /// How often it was begun before and never ended, if it is to be given up for that.
    pub too_often: Option<u32>,
    suspects: &'a Suspects,
    run: RunKey,
    _alone: Option<SemaphorePermit<'a>>,
}

impl Suspects {
    /// `limit`: what was begun that often is given up. `tasks`: what is to end before the process does.
    pub(super) fn new(store: &Store, limit: u32, tasks: &TaskTracker) -> Self {
        let of = store.clone();
        let begin = move |runs: Vec<RunKey>| {
            let store = of.clone();
            async move {
                let mut before = Vec::with_capacity(runs.len());
                for run in &runs {
                    before.push(store.begin_suspect(run).await?);
                }
                Ok(before)
            }
        };
        let without = "running, without counting it, what may take the worker down";
        Self {
            alone: Semaphore::new(1),
            begun: Batched::start(1, without, begin),
            limit,
            store: store.clone(),
            tasks: tasks.clone(),
        }
    }

    /// Waits until `run` may run alone. Without the database it runs, and is not counted.
    pub(super) async fn turn<'a>(&'a self, run: &EventRun<'_>) -> SuspectPermit<'a> {
        tokio::time::sleep(MAX_SHUFFLE_DELAY.mul_f64(rand::random())).await;
        let alone = self.alone.acquire().await.ok();
        let key = run.key();
        // Made before it is counted: what is cancelled meanwhile has ended as well.
        let mut turn = SuspectPermit { too_often: None, suspects: self, run: key.clone(), _alone: alone };
        let begun = self.begun.ask(key).await.unwrap_or(0);
        turn.too_often = Some(begun).filter(|begun| *begun >= self.limit);
        debug!(begun, "a suspect has its turn");
        turn
    }
}

impl Drop for SuspectPermit<'_> {
    fn drop(&mut self) {
        let (store, run) = (self.suspects.store.clone(), self.run.clone());
        self.suspects.tasks.spawn(async move {
            // What cannot be deleted now is counted once too often, and only if it comes again as a suspect.
            if let Err(error) = store.end_suspect(&run).await {
                debug!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "the end of a suspect cannot be noted"
                );
            }
        });
    }
}
