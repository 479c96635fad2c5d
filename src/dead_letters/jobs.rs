//! Replay jobs that run in the background of a console process. Requests start, watch, stop and resume them.
//!
//! The database holds the progress of every job, so any process can report it. This module only keeps the
//! jobs that this process runs. If the process ends, another one can resume them.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{DeadLetters, Progress};
use crate::{
    domain::replay::{JobState, ReplayLimits},
    store::{NewReplay, Replay, Selection, StoreError},
};

/// How many jobs one process runs at a time: each holds a database connection while it runs.
const MAX_RUNNING_JOBS: usize = 3;

/// The jobs of this process. Clones share them.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    dead_letters: DeadLetters,
    running: Mutex<HashMap<i64, Running>>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Cancelled when the process ends.
    end: CancellationToken,
}

struct Running {
    stop: CancellationToken,
    progress: Progress,
}

/// A job that this process has. Dropping it gives the job up, so that it can be resumed.
struct Claim {
    jobs: Jobs,
    id: i64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.jobs.0.running.lock().remove(&self.id);
    }
}

impl Jobs {
    pub fn new(dead_letters: DeadLetters, end: CancellationToken) -> Self {
        let slots = Arc::new(Semaphore::new(MAX_RUNNING_JOBS));
        Self(Arc::new(Inner {
            dead_letters,
            running: Mutex::default(),
            slots,
            tasks: TaskTracker::new(),
            end,
        }))
    }

    /// Creates a job and starts it.
    pub async fn begin(&self, new: &NewReplay, selection: &Selection) -> Result<Replay, StoreError> {
        let job = self.0.dead_letters.store.create_replay(new, selection).await?;
        info!(replay = job.id, by = new.by, asked = new.asked, "replay started");
        self.spawn(self.claim(job.id)?, false);
        Ok(job)
    }

    /// Like [`Jobs::begin`], but waits until the job has ended, at most for the given time. A job of one dead
    /// letter usually ends soon.
    pub async fn begin_and_wait(
        &self,
        new: &NewReplay,
        selection: &Selection,
        max_wait: Duration,
    ) -> Result<Replay, StoreError> {
        let store = &self.0.dead_letters.store;
        let job = store.create_replay(new, selection).await?;
        let running = self.spawn(self.claim(job.id)?, false);
        let _ = tokio::time::timeout(max_wait, running).await;
        store.replay(job.id).await
    }

    /// Resumes a job.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the job is finished, is in this process already, or runs in another one. A
    /// job that waits for its turn in another process is not detected here; then the second of the two fails
    /// when it starts.
    pub async fn resume(&self, id: i64, limits: Option<ReplayLimits>) -> Result<Replay, StoreError> {
        let store = &self.0.dead_letters.store;
        let job = store.replay(id).await?;
        if job.state == JobState::Finished {
            return Err(StoreError::Refused(format!("replay {id} is finished")));
        }
        // Claimed before the database is asked: of two that resume it at the same time, one is refused.
        let claim = self.claim(id)?;
        if store.is_replay_running(id).await? {
            return Err(is_running(id));
        }
        if let Some(limits) = limits {
            store.set_caution(id, limits).await?;
        }
        store.resume_replay(id).await?;
        self.spawn(claim, true);
        store.replay(id).await
    }

    /// Asks a job to stop, in whichever process it runs. It can be resumed.
    pub async fn stop(&self, id: i64, by: &str) -> Result<Replay, StoreError> {
        let replay = self.0.dead_letters.store.stop_replay(id, by).await?;
        if let Some(running) = self.0.running.lock().get(&id) {
            running.stop.cancel();
        }
        Ok(replay)
    }

    /// The progress of a job that this process runs, or that waits for its turn here.
    pub fn progress(&self, id: i64) -> Option<Progress> {
        self.0.running.lock().get(&id).map(|running| running.progress)
    }

    /// Waits until every job of this process has stopped. The end of the process asks them to stop.
    pub async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Claims a job for this process.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if this process has it already.
    fn claim(&self, id: i64) -> Result<Claim, StoreError> {
        match self.0.running.lock().entry(id) {
            Entry::Occupied(_) => Err(is_running(id)),
            Entry::Vacant(vacant) => {
                vacant.insert(Running { stop: self.0.end.child_token(), progress: Progress::default() });
                Ok(Claim { jobs: self.clone(), id })
            }
        }
    }

    fn spawn(&self, claim: Claim, is_resumed: bool) -> tokio::task::JoinHandle<()> {
        // A stop that was asked for before the job was resumed is over.
        let stop = self.0.end.child_token();
        if let Some(running) = self.0.running.lock().get_mut(&claim.id) {
            running.stop = stop.clone();
        }
        self.0.tasks.spawn(async move { claim.jobs.run(claim.id, is_resumed, &stop).await })
    }

    async fn run(&self, id: i64, is_resumed: bool, stop: &CancellationToken) {
        let slot = tokio::select! {
            slot = self.0.slots.acquire() => slot,
            () = stop.cancelled() => return,
        };
        let on_progress = |progress: &Progress| {
            if let Some(running) = self.0.running.lock().get_mut(&id) {
                running.progress = *progress;
            }
        };
        match self.0.dead_letters.run_replay(id, is_resumed, stop, on_progress).await {
            Ok(report) => info!(replay = id, state = %report.replay.state, "replay ended"),
            Err(error) => warn!(replay = id, error = format!("{error:#}"), "replay interrupted"),
        }
        drop(slot);
    }
}

fn is_running(id: i64) -> StoreError {
    StoreError::Refused(format!("replay {id} is running already"))
}
