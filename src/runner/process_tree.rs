//! All processes that one call of a script starts, and their end, also of those that left the script's
//! process group.
//!
//! A process that forks twice and calls `setsid` is in no group that this process knows, and its parent is
//! gone. So this process adopts the orphans of its scripts (`PR_SET_CHILD_SUBREAPER`: otherwise the first
//! process of the machine does), and a thread checks the adopted processes. It kills those that belong to no
//! running call, and reaps dead ones. That costs a script nothing; a launcher that stays above each script
//! would cost a second process for each.
//!
//! [`CALL_ID`], inherited in the environment, identifies the call that a process belongs to. A process that
//! has removed it from its environment is killed when all calls have ended that ran when it was first seen.
//! Processes that others start for a script are out of reach: cron, at, systemd, a container engine.
//!
//! On systems without such adoption (macOS), only the process group is killed.

mod process;
mod watch;

use std::time::Duration;

use parking_lot::RwLockReadGuard;
use rustix::process::Pid;

use watch::{existing_watch, watch};

use super::working_dir::WorkingDir;

pub use process::CALL_ID;

/// The processes of one call of a script. When it is dropped, all that is left of them is killed; after that
/// the working directory is released.
pub struct ProcessTree {
    number: u64,
    id: String,
    dir: Option<WorkingDir>,
}

impl ProcessTree {
    /// Begins a call that works in `dir`.
    pub fn begin(dir: WorkingDir) -> Self {
        let Some(watch) = watch() else { return Self { number: 0, id: String::new(), dir: Some(dir) } };
        let mut state = watch.state.lock();
        let number = state.next;
        state.next += 1;
        state.live.insert(number, None);
        drop(state);
        // The watch thread sleeps while no call runs.
        watch.changed.notify_all();
        Self { number, id: format!("{}-{number}", watch.prefix), dir: Some(dir) }
    }

    /// The value of [`CALL_ID`] for the processes of this call.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A guard to hold from before the process is started until after [`ProcessTree::started`]. While it is
    /// held, the watch thread kills nothing.
    pub fn starting() -> Option<RwLockReadGuard<'static, ()>> {
        watch().map(|watch| watch.starts.read())
    }

    /// Records the process of this call. Whoever started the process also waits for it and reaps it.
    pub fn started(&self, leader: Pid) {
        if let Some(watch) = watch() {
            watch.state.lock().live.insert(self.number, Some(leader));
        }
    }

    /// Call this when the process of this call has ended. The watch thread then kills what is left of the
    /// call, mostly within milliseconds.
    pub fn finish(&self) {
        if let Some(watch) = watch() {
            let mut state = watch.state.lock();
            state.live.remove(&self.number);
            state.requested += 1;
            drop(state);
            watch.changed.notify_all();
        }
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        self.finish();
        match watch() {
            Some(watch) => watch.state.lock().dirs.extend(self.dir.take()),
            None => self.dir.take().into_iter().for_each(WorkingDir::finish),
        }
    }
}

/// Waits until nothing is left of the calls that have ended, at most `limit`.
pub fn reap_all(limit: Duration) {
    let Some(watch) = existing_watch() else { return };
    let mut state = watch.state.lock();
    state.requested += 1;
    let requested = state.requested;
    watch.changed.notify_all();
    watch.changed.wait_while_for(&mut state, |state| state.completed < requested, limit);
}
