//! CPU time and memory of processes.

use std::{collections::BTreeMap, fs};

/// Seconds of CPU time.
pub type Seconds = f64;

/// The CPU time that each part of a run has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// All workers together, with the processes that they spawned.
    pub worker: Seconds,
    /// The part of `worker` that the workers used themselves.
    pub worker_itself: Seconds,
    pub recorder: Seconds,
    pub broker: Seconds,
    pub postgres: Seconds,
    pub target: Seconds,
}

impl Used {
    /// What was used since `before`, for each 10,000 of `count`.
    pub fn since(self, before: Self, count: u64) -> Self {
        let per_10k = |part: fn(&Self) -> Seconds| (part(&self) - part(&before)) * 10_000.0 / count as f64;
        Self {
            worker: per_10k(|used| used.worker),
            worker_itself: per_10k(|used| used.worker_itself),
            recorder: per_10k(|used| used.recorder),
            broker: per_10k(|used| used.broker),
            postgres: per_10k(|used| used.postgres),
            target: per_10k(|used| used.target),
        }
    }
}

struct Stat {
    parent: u32,
    own: u64,
    waited_for: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The fields after the name in brackets, which may contain any character: state, parent, … `utime` is the
    // 14th field of the line.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(14)? + ticks(15)?,
        waited_for: ticks(16)? + ticks(17)?,
    })
}

fn seconds(ticks: u64) -> Seconds {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// CPU time of a process alone.
pub fn of_itself(pid: u32) -> Seconds {
    seconds(stat(pid).map_or(0, |stat| stat.own))
}

/// CPU time of a process and of those of its children that have ended.
pub fn of(pid: u32) -> Seconds {
    seconds(stat(pid).map_or(0, |stat| stat.own + stat.waited_for))
}

/// CPU time of a process and of all its descendants, running or ended.
pub fn of_tree(root: u32) -> Seconds {
    let numbers = fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let all: BTreeMap<u32, Stat> = numbers.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let is_descendant = |pid: &u32| {
        let mut ancestor = Some(*pid);
        while let Some(pid) = ancestor {
            if pid == root {
                return true;
            }
            ancestor = all.get(&pid).map(|stat| stat.parent).filter(|parent| *parent != 0);
        }
        false
    };
    seconds(
        all.iter().filter(|(pid, _)| is_descendant(pid)).map(|(_, stat)| stat.own + stat.waited_for).sum(),
    )
}

/// Resident memory in MiB: now, and at most so far.
pub fn memory(pid: u32) -> (f64, f64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    (field("VmRSS:").unwrap_or_default() / 1024.0, field("VmHWM:").unwrap_or_default() / 1024.0)
}
