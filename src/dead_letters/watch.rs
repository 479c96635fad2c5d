//! Watches the results of a replay: the first attempts of its runs, as workers publish them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::{
    broker::{Connection, Names, ResultWatch},
    domain::{
        event::{EventName, RunId},
        execution::{Execution, Status},
        replay::FirstAttempts,
    },
};

/// Collects the results of the expected runs.
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

#[derive(Default)]
struct Seen {
    /// The expected runs, and whether a result of each has arrived.
    runs: HashMap<RunId, bool>,
    pending: u64,
    attempts: FirstAttempts,
}

impl Watch {
    pub(super) async fn open(
        connection: &Connection,
        names: &Names,
        events: &[EventName],
    ) -> anyhow::Result<Self> {
        let mut results = ResultWatch::open(connection, names, events).await?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let seen_by_task = Arc::clone(&seen);
        // The task ends with the connection. Then publishing fails too, and reports the error.
        let task = tokio::spawn(async move {
            while let Ok(execution) = results.next().await {
                seen_by_task.lock().note(&execution);
            }
        });
        Ok(Self { seen, task: task.abort_handle() })
    }

    /// Expects results of `run`. Call it before the run is published: a result may arrive before the confirm.
    pub(super) fn expect(&self, run: RunId) {
        let mut seen = self.seen.lock();
        if seen.runs.insert(run, false).is_none() {
            seen.pending += 1;
        }
    }

    pub(super) fn too_many_failures(&self, max_failures: u8) -> Option<(usize, usize)> {
        self.seen.lock().attempts.too_many_failures(max_failures)
    }

    /// Counts: first attempts that ended, those of them that failed, and runs without a result yet.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let seen = self.seen.lock();
        (seen.attempts.ended, seen.attempts.failed, seen.pending)
    }
}

impl Seen {
    fn note(&mut self, execution: &Execution) {
        let Some(has_result) = self.runs.get_mut(&execution.run_id) else { return };
        if !std::mem::replace(has_result, true) {
            self.pending -= 1;
        }
        // A skipped handler neither succeeded nor failed.
        if execution.attempt == 1 && execution.status != Status::Skipped {
            self.attempts.note(execution.status == Status::Fail);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
