//! The thread that checks adopted processes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, RwLock};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tracing::{info, warn};

use super::{
    super::working_dir::WorkingDir,
    process::{self, Adopted},
};

/// How often dead orphans are reaped while scripts run. Also the longest pause between two checks.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest pause between two checks. If a check is expensive (many processes on the machine), the pause
/// is [`PAUSE_FACTOR`] times the CPU time of the check.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const PAUSE_FACTOR: u32 = 30;

/// How long one sweep repeats its check while killed processes are still there.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct State {
    /// The running calls by number, with the process that was started.
    pub live: BTreeMap<u64, Option<Pid>>,
    pub next: u64,
    /// Working directories of calls that have ended.
    pub dirs: Vec<WorkingDir>,
    pub requested: u64,
    pub completed: u64,
}

pub(super) struct Watch {
    /// The beginning of each [`process::CALL_ID`] of this process.
    pub prefix: String,
    pub state: Mutex<State>,
    pub changed: Condvar,
    /// Locked for reading while a script is being started and its process id is not yet recorded.
    pub starts: RwLock<()>,
}

/// One for the process, because adoption is a property of the process. None where the system does not support
/// it.
static WATCH: OnceLock<Option<&'static Watch>> = OnceLock::new();

/// The watch. Its thread starts at the first use.
pub(super) fn watch() -> Option<&'static Watch> {
    *WATCH.get_or_init(|| {
        let started = process::adopt().and_then(|()| {
            let prefix = uuid::Uuid::new_v4().simple().to_string();
            let (state, changed, starts) = Default::default();
            let watch: &'static Watch = Box::leak(Box::new(Watch { prefix, state, changed, starts }));
            thread::Builder::new().name("script orphans".into()).spawn(|| watch.run()).map(|_| watch)
        });
        started
            .map_err(|error| warn!(%error, "cannot kill processes that leave a script's process group"))
            .ok()
    })
}

/// The watch, if it was ever started.
pub(super) fn existing_watch() -> Option<&'static Watch> {
    WATCH.get().copied().flatten()
}

impl Watch {
    fn run(&self) {
        let mut seen = HashMap::new();
        let mut has_survivors = false;
        loop {
            let (requested, dirs) = self.wait(has_survivors);
            let cpu_before = process::cpu_time();
            has_survivors = self.sweep(&mut seen);
            let cpu_used = process::cpu_time().saturating_sub(cpu_before);
            dirs.into_iter().for_each(WorkingDir::finish);
            self.state.lock().completed = requested;
            self.changed.notify_all();
            thread::sleep((cpu_used * PAUSE_FACTOR).clamp(POLL_INTERVAL, IDLE_INTERVAL));
        }
    }

    /// Waits until a check is due. Returns the number of the latest request, and the directories of calls
    /// that ended before the check.
    fn wait(&self, has_survivors: bool) -> (u64, Vec<WorkingDir>) {
        let mut state = self.state.lock();
        let idle = |state: &mut State| state.requested == state.completed && state.dirs.is_empty();
        while idle(&mut state) {
            if has_survivors || !state.live.is_empty() {
                self.changed.wait_while_for(&mut state, idle, IDLE_INTERVAL);
                break;
            }
            self.changed.wait(&mut state);
        }
        (state.requested, std::mem::take(&mut state.dirs))
    }

    /// Repeats the check until all processes that have to be killed are dead. Returns whether some are left
    /// that cannot be killed.
    fn sweep(&self, seen: &mut HashMap<Pid, u64>) -> bool {
        let (started_at, mut killed) = (Instant::now(), 0);
        loop {
            let strays = self.check(seen);
            if strays.is_empty() {
                if killed > 0 {
                    info!(killed, "killed processes that scripts left running");
                }
                return false;
            }
            if started_at.elapsed() > SWEEP_TIMEOUT {
                let pids: Vec<_> = strays.iter().map(|pid| pid.as_raw_nonzero()).collect();
                warn!(?pids, "cannot kill processes that a script left running; retrying every second");
                return true;
            }
            killed = killed.max(strays.len());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reaps dead adopted processes, and kills and returns those that belong to no running call.
    fn check(&self, seen: &mut HashMap<Pid, u64>) -> Vec<Pid> {
        let leaders: Vec<Pid> = self.state.lock().live.values().flatten().copied().collect();
        let mut adopted = process::children();
        adopted.retain(|process| !leaders.contains(&process.pid));
        seen.retain(|pid, _| adopted.iter().any(|process| process.pid == *pid));
        if adopted.is_empty() {
            return Vec::new();
        }
        // A process that is being started looks like an orphan until its id is recorded. With this lock no
        // process is being started.
        let _starts = self.starts.write();
        let mut strays = Vec::new();
        for process in adopted {
            let state = self.state.lock();
            if state.live.values().any(|leader| *leader == Some(process.pid)) {
                continue;
            }
            if process.is_dead() {
                process.reap();
            } else if !self.belongs_to_live_call(&state, &process, seen) {
                kill(&process);
                strays.push(process.pid);
            }
        }
        strays
    }

    /// Whether a running call may still need the process: by its call id, by the process group of the call's leader,
    /// or, for a process with neither, because the oldest running call began before the process was first seen.
    fn belongs_to_live_call(&self, state: &State, process: &Adopted, seen: &mut HashMap<Pid, u64>) -> bool {
        if let Some(call_id) = process.call_id() {
            let number =
                call_id.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
            return number.is_some_and(|number: u64| state.live.contains_key(&number));
        }
        if state.live.values().any(|leader| *leader == Some(process.group)) {
            return true;
        }
        let first_seen = *seen.entry(process.pid).or_insert(state.next);
        state.live.keys().next().is_some_and(|oldest| *oldest < first_seen)
    }
}

/// Kills a process, and its whole group so that it cannot escape by forking, if the group can only be the script's own:
/// it is in another session than ours, or the process leads it.
fn kill(process: &Adopted) {
    if process.in_other_session() || process.pid == process.group {
        kill_process_group(process.group, Signal::KILL).ok();
    }
    kill_process(process.pid, Signal::KILL).ok();
}
