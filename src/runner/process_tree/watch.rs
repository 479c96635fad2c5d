//! The thread that looks at what was adopted.

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

/// While scripts run, orphans that are dead are reaped this often.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Between two looks; and where a look costs much (many processes on the machine), so many times what it took of a core.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const SHARE: u32 = 30;

/// For so long what is killed is looked after at a stretch.
const PERSIST: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct State {
    /// The calls that run, by number, with the process that was started.
    pub live: BTreeMap<u64, Option<Pid>>,
    pub next: u64,
    /// Directories whose call is over.
    pub dirs: Vec<WorkingDir>,
    pub asked: u64,
    pub done: u64,
}

pub(super) struct Watch {
    /// What begins the marks of this process.
    pub prefix: String,
    pub state: Mutex<State>,
    pub changed: Condvar,
    /// Held for reading while a script is started and not yet known by its process id.
    pub starts: RwLock<()>,
}

/// One for the process, as adoption is. None where the system does not have it.
static WATCH: OnceLock<Option<&'static Watch>> = OnceLock::new();

/// The one watch, which begins with its first use.
pub(super) fn watch() -> Option<&'static Watch> {
    *WATCH.get_or_init(|| {
        let begun = process::adopt().and_then(|()| {
            let prefix = uuid::Uuid::new_v4().simple().to_string();
            let (state, changed, starts) = Default::default();
            let watch: &'static Watch = Box::leak(Box::new(Watch { prefix, state, changed, starts }));
            thread::Builder::new().name("script orphans".into()).spawn(|| watch.run()).map(|_| watch)
        });
        begun.map_err(|error| warn!(%error, "what leaves a script's process group cannot be killed")).ok()
    })
}

/// The watch, if it was ever used.
pub(super) fn begun() -> Option<&'static Watch> {
    WATCH.get().copied().flatten()
}

impl Watch {
    fn run(&self) {
        let mut seen = HashMap::new();
        let mut left = false;
        loop {
            let (asked, dirs) = self.wait(left);
            let before = process::cpu_time();
            left = self.sweep(&mut seen);
            let took = process::cpu_time().saturating_sub(before);
            dirs.into_iter().for_each(WorkingDir::finish);
            self.state.lock().done = asked;
            self.changed.notify_all();
            thread::sleep((took * SHARE).clamp(POLL_INTERVAL, IDLE_INTERVAL));
        }
    }

    /// Waits until a look is due. The directories are those of calls that were over before it.
    fn wait(&self, left: bool) -> (u64, Vec<WorkingDir>) {
        let mut state = self.state.lock();
        let idle = |state: &mut State| state.asked == state.done && state.dirs.is_empty();
        while idle(&mut state) {
            if left || !state.live.is_empty() {
                self.changed.wait_while_for(&mut state, idle, IDLE_INTERVAL);
                break;
            }
            self.changed.wait(&mut state);
        }
        (state.asked, std::mem::take(&mut state.dirs))
    }

    /// Looks until all is dead that has to be. Whether something is left that cannot be killed.
    fn sweep(&self, seen: &mut HashMap<Pid, u64>) -> bool {
        let (begun, mut killed) = (Instant::now(), 0);
        loop {
            let strays = self.look(seen);
            if strays.is_empty() {
                if killed > 0 {
                    info!(killed, "what scripts left running was killed");
                }
                return false;
            }
            if begun.elapsed() > PERSIST {
                let pids: Vec<_> = strays.iter().map(|pid| pid.as_raw_nonzero()).collect();
                warn!(?pids, "what a script left running cannot be killed; it is tried again every second");
                return true;
            }
            killed = killed.max(strays.len());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reaps the dead among what was adopted and kills what belongs to no call that runs; those are returned.
    fn look(&self, seen: &mut HashMap<Pid, u64>) -> Vec<Pid> {
        let leaders: Vec<Pid> = self.state.lock().live.values().flatten().copied().collect();
        let mut adopted = process::children();
        adopted.retain(|process| !leaders.contains(&process.pid));
        seen.retain(|pid, _| adopted.iter().any(|process| process.pid == *pid));
        if adopted.is_empty() {
            return Vec::new();
        }
        // One that was being started looks like an orphan until its id is known: from here on none is.
        let _starts = self.starts.write();
        let mut strays = Vec::new();
        for process in adopted {
            let state = self.state.lock();
            if state.live.values().any(|leader| *leader == Some(process.pid)) {
                continue;
            }
            if process.is_dead() {
                process.reap();
            } else if !self.is_of_a_live_call(&state, &process, seen) {
                kill(&process);
                strays.push(process.pid);
            }
        }
        strays
    }

    fn is_of_a_live_call(&self, state: &State, process: &Adopted, seen: &mut HashMap<Pid, u64>) -> bool {
        if let Some(mark) = process.mark() {
            let number =
                mark.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
            return number.is_some_and(|number: u64| state.live.contains_key(&number));
        }
        if state.live.values().any(|leader| *leader == Some(process.group)) {
            return true;
        }
        let first_seen = *seen.entry(process.pid).or_insert(state.next);
        state.live.keys().next().is_some_and(|oldest| *oldest < first_seen)
    }
}

/// With its whole group, so that it cannot outrun this by forking, if that is sure to hold nothing else: a group of
/// another session than ours can only be its own, one of ours may have been joined.
fn kill(process: &Adopted) {
    if process.in_other_session() || process.pid == process.group {
        kill_process_group(process.group, Signal::KILL).ok();
    }
    kill_process(process.pid, Signal::KILL).ok();
}
