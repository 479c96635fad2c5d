//! Everything that one call of a script starts, and its end: also what left the script's process group.
//!
//! A process that forks twice and calls `setsid` is in no group of ours, and its parent is gone. So this process adopts
//! what its scripts orphan (`PR_SET_CHILD_SUBREAPER`: otherwise the first process of the machine does), and a thread
//! looks at what it adopted: what belongs to no call that still runs is killed, and what is dead is reaped. That costs a
//! script nothing; a launcher that stayed above each one would cost a second process each.
//!
//! Whose an adopted process is tells [`CALL_ID`], which it inherited in its environment. One that took care to lose it is
//! killed when every call has ended that ran when it was first seen. Beyond reach is what others start for a
//! script: cron, at, systemd, a container engine.
//!
//! Not on systems without that (macOS): there the group is all that is killed.

mod process;
mod watch;

use std::time::Duration;

use parking_lot::RwLockReadGuard;
use rustix::process::Pid;

use watch::{begun, watch};

use super::working_dir::WorkingDir;

pub use process::CALL_ID;

/// One call of a script. When it is dropped nothing of it may live any more; its directory is over after that.
pub struct ProcessTree {
    number: u64,
    id: String,
    dir: Option<WorkingDir>,
}

impl ProcessTree {
    /// A new call, which works in `dir`.
    pub fn begin(dir: WorkingDir) -> Self {
        let Some(watch) = watch() else { return Self { number: 0, id: String::new(), dir: Some(dir) } };
        let mut state = watch.state.lock();
        let number = state.next;
        state.next += 1;
        state.live.insert(number, None);
        drop(state);
        // While nothing ran nobody looked.
        watch.changed.notify_all();
        Self { number, id: format!("{}-{number}", watch.prefix), dir: Some(dir) }
    }

    /// The value of [`CALL_ID`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// To be held from before its process is started until after [`ProcessTree::started`].
    pub fn starting() -> Option<RwLockReadGuard<'static, ()>> {
        watch().map(|watch| watch.starts.read())
    }

    /// The process that is waited for, and reaped, by whoever started it.
    pub fn started(&self, leader: Pid) {
        if let Some(watch) = watch() {
            watch.state.lock().live.insert(self.number, Some(leader));
        }
    }

    /// Its process has ended: what else of it lives is killed, mostly within milliseconds.
    pub fn finish(&self) {
        if let Some(watch) = watch() {
            let mut state = watch.state.lock();
            state.live.remove(&self.number);
            state.asked += 1;
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

/// Waits until nothing is left of the calls that are over, at most `limit`.
pub fn reap_all(limit: Duration) {
    let Some(watch) = begun() else { return };
    let mut state = watch.state.lock();
    state.asked += 1;
    let asked = state.asked;
    watch.changed.notify_all();
    watch.changed.wait_while_for(&mut state, |state| state.done < asked, limit);
}
