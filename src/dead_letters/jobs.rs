//! Replay jobs that run in the background of a process that serves: begun, watched, stopped and resumed by requests.
//!
//! How far a job is stands in the database, so that any process can tell; what is kept here is only what this process
//! itself runs. A job that is stopped by the end of its process can be resumed by another.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{DeadLetters, Progress};
use crate::{
    domain::replay::{JobState, ReplayLimits},
    store::{NewReplay, Replay, Selection, StoreError},
};

/// Jobs that run at a time in one process: each holds a connection to the database while it runs.
const AT_A_TIME: usize = 3;

/// The jobs of this process. Clones are the same.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    letters: DeadLetters,
    running: Mutex<HashMap<i64, Running>>,
    turns: Arc<Semaphore>,
    tasks: TaskTracker,
    /// The process ends.
    end: CancellationToken,
}

struct Running {
    stop: CancellationToken,
    progress: Progress,
}

impl Jobs {
    pub fn new(letters: DeadLetters, end: CancellationToken) -> Self {
        let turns = Arc::new(Semaphore::new(AT_A_TIME));
        Self(Arc::new(Inner { letters, running: Mutex::default(), turns, tasks: TaskTracker::new(), end }))
    }

    /// Makes a job and begins to run it.
    pub async fn begin(&self, new: &NewReplay, chosen: &Selection) -> Result<Replay, StoreError> {
        let job = self.0.letters.store.create_replay(new, chosen).await?;
        info!(replay = job.id, by = new.by, asked = new.asked, "a replay begins");
        self.spawn(job.id, false);
        Ok(job)
    }

    /// As [`Jobs::begin`]; then waits until the job has ended, or for so long. Of one letter that is mostly soon.
    pub async fn begin_and_wait(
        &self,
        new: &NewReplay,
        chosen: &Selection,
        patience: Duration,
    ) -> Result<Replay, StoreError> {
        let store = &self.0.letters.store;
        let job = store.create_replay(new, chosen).await?;
        let running = self.spawn(job.id, false);
        let _ = tokio::time::timeout(patience, running).await;
        store.replay(job.id).await
    }

    /// Goes on with a job.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is finished, or this process runs it. (That another one does is found out when its
    /// turn comes.)
    pub async fn resume(&self, id: i64, caution: Option<ReplayLimits>) -> Result<Replay, StoreError> {
        let store = &self.0.letters.store;
        let job = store.replay(id).await?;
        if job.state == JobState::Finished {
            return Err(StoreError::Refused(format!("replay {id} is finished")));
        }
        if self.progress(id).is_some() || store.is_replay_running(id).await? {
            return Err(StoreError::Refused(format!("replay {id} is running already")));
        }
        if let Some(caution) = caution {
            store.set_caution(id, caution).await?;
        }
        store.resume_replay(id).await?;
        self.spawn(id, true);
        store.replay(id).await
    }

    /// Asks a job to stop, whichever process runs it. It can be resumed.
    pub async fn stop(&self, id: i64, by: &str) -> Result<Replay, StoreError> {
        let replay = self.0.letters.store.stop_replay(id, by).await?;
        if let Some(running) = self.0.running.lock().get(&id) {
            running.stop.cancel();
        }
        Ok(replay)
    }

    /// How far a job of this process is.
    pub fn progress(&self, id: i64) -> Option<Progress> {
        self.0.running.lock().get(&id).map(|running| running.progress)
    }

    /// Waits until every job of this process has stopped, which the end of the process asks them to.
    pub async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn spawn(&self, id: i64, is_resumed: bool) -> tokio::task::JoinHandle<()> {
        let stop = self.0.end.child_token();
        self.0.running.lock().insert(id, Running { stop: stop.clone(), progress: Progress::default() });
        let jobs = self.clone();
        self.0.tasks.spawn(async move {
            jobs.run(id, is_resumed, &stop).await;
            jobs.0.running.lock().remove(&id);
        })
    }

    async fn run(&self, id: i64, is_resumed: bool, stop: &CancellationToken) {
        let turn = tokio::select! {
            turn = self.0.turns.acquire() => turn,
            () = stop.cancelled() => return,
        };
        let note = |progress: &Progress| {
            if let Some(running) = self.0.running.lock().get_mut(&id) {
                running.progress = *progress;
            }
        };
        match self.0.letters.run_replay(id, is_resumed, stop, note).await {
            Ok(report) => info!(replay = id, state = %report.replay.state, "a replay ended"),
            Err(error) => warn!(replay = id, error = format!("{error:#}"), "a replay was interrupted"),
        }
        drop(turn);
    }
}
