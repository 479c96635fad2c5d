//! A replay: a job that sends dead letters or executions back into their queues.

use super::text_enum::text_enum;

text_enum! {
    /// What is replayed.
    Source { DeadLetters = "dead_letters", Executions = "executions" }
}

text_enum! {
    /// How far a job is.
    JobState {
        /// It runs; or its process was killed, and it can be resumed.
        Running = "running",
        /// It was stopped, by a person or by itself, and can be resumed.
        Stopped = "stopped",
        Finished = "finished",
    }
}

/// How much of an event runs again when one of its executions is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayScope {
    /// The handler of the execution; the event, where it had none.
    AsRecorded,
    /// The same, but executions without a handler do not matter.
    HandlerOnly,
    /// What is enabled for the event now.
    WholeEvent,
}

/// How fast a job goes, and when it stops by itself.
#[derive(Clone, Copy, Debug)]
pub struct ReplayLimits {
    /// A second, at most: 1 to [`MAX_RATE`].
    pub rate: u32,
    /// Percent of the first attempts: with more failures than that it stops. 100: it never does.
    pub max_failures: u8,
}

pub const MAX_RATE: u32 = 1000;

impl Default for ReplayLimits {
    fn default() -> Self {
        Self { rate: 50, max_failures: 50 }
    }
}

/// The first attempts of a job as they end: whether too many of the latest fail.
#[derive(Debug, Default)]
pub struct FirstAttempts {
    /// Whether each of the latest failed.
    latest: std::collections::VecDeque<bool>,
    pub ended: u64,
    pub failed: u64,
}

/// An endpoint that goes down in the middle of a job must not hide behind what succeeded before.
const WINDOW: usize = 100;
/// With fewer, one that fails by chance would stop a job.
const MIN_ATTEMPTS: usize = 20;

impl FirstAttempts {
    pub fn note(&mut self, failed: bool) {
        self.ended += 1;
        self.failed += u64::from(failed);
        self.latest.push_back(failed);
        if self.latest.len() > WINDOW {
            self.latest.pop_front();
        }
    }

    /// How many of how many of the latest failed, if that is more than `max_failures` percent.
    pub fn too_many_failures(&self, max_failures: u8) -> Option<(usize, usize)> {
        let (failed, of) = (self.latest.iter().filter(|failed| **failed).count(), self.latest.len());
        (of >= MIN_ATTEMPTS && failed * 100 > of * usize::from(max_failures)).then_some((failed, of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ended: impl IntoIterator<Item = bool>) -> FirstAttempts {
        let mut attempts = FirstAttempts::default();
        ended.into_iter().for_each(|failed| attempts.note(failed));
        attempts
    }

    #[test]
    fn a_job_stops_when_more_than_the_share_fails() {
        let half = |n: usize| (0..n).map(|n| n % 2 == 0);
        assert_eq!(of([true; 19]).too_many_failures(50), None, "too few to tell");
        assert_eq!(of([true; 20]).too_many_failures(50), Some((20, 20)));
        assert_eq!(of(half(40)).too_many_failures(50), None, "half is not more than half");
        assert_eq!(of(half(40)).too_many_failures(49), Some((20, 40)));
        assert_eq!(of([true; 100]).too_many_failures(100), None);
        assert_eq!(of([false; 20].into_iter().chain([true])).too_many_failures(0), Some((1, 21)));
    }

    #[test]
    fn what_succeeded_long_ago_hides_nothing() {
        let attempts = of([false; 5000].into_iter().chain([true; 51]));
        assert_eq!(attempts.too_many_failures(50), Some((51, 100)));
        assert_eq!((attempts.ended, attempts.failed), (5051, 51));
    }
}
