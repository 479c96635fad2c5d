//! Replays: jobs that send dead letters or executions back to their queues.

use super::text_enum::text_enum;

text_enum! {
    /// What a job replays.
    Source { DeadLetters = "dead_letters", Executions = "executions" }
}

text_enum! {
    /// The state of a job.
    JobState {
        /// It runs, or its process was killed and it can be resumed.
        Running = "running",
        /// A person stopped it, its process ended, an error occurred, or too many attempts failed. It can be resumed.
        Stopped = "stopped",
        Finished = "finished",
    }
}

/// Which handlers run when an execution is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayScope {
    /// The handler of the execution, or the whole event if the execution has no handler.
    AsRecorded,
    /// The handler of the execution. Executions without a handler are ignored.
    HandlerOnly,
    /// All handlers that are enabled for the event now.
    WholeEvent,
}

/// The rate of a job, and when it stops itself.
#[derive(Clone, Copy, Debug)]
pub struct ReplayLimits {
    /// Maximum number of items per second: 1 to [`MAX_RATE`].
    pub rate: u32,
    /// The job stops if more than this percentage of its latest first attempts fails. 100: it never does.
    pub max_failures: u8,
}

pub const MAX_RATE: u32 = 1000;

impl Default for ReplayLimits {
    fn default() -> Self {
        Self { rate: 50, max_failures: 50 }
    }
}

/// Counts the first attempts of a job's items, and detects if too many of the latest ones fail.
#[derive(Debug, Default)]
pub struct FirstAttempts {
    /// One entry for each of the latest attempts: whether it failed.
    latest: std::collections::VecDeque<bool>,
    pub ended: u64,
    pub failed: u64,
}

/// How many of the latest attempts count. Without this limit, early successes would hide an endpoint that goes down
/// in the middle of a job.
const WINDOW: usize = 100;
/// With fewer attempts, a few chance failures would stop a job.
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

    /// The number of failures and of attempts among the latest, if more than `max_failures` percent failed.
    pub fn too_many_failures(&self, max_failures: u8) -> Option<(usize, usize)> {
        let (failed, total) = (self.latest.iter().filter(|failed| **failed).count(), self.latest.len());
        (total >= MIN_ATTEMPTS && failed * 100 > total * usize::from(max_failures)).then_some((failed, total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_attempts(ended: impl IntoIterator<Item = bool>) -> FirstAttempts {
        let mut attempts = FirstAttempts::default();
        ended.into_iter().for_each(|failed| attempts.note(failed));
        attempts
    }

    #[test]
    fn a_job_stops_if_more_than_the_allowed_percentage_fails() {
        let half = |n: usize| (0..n).map(|n| n % 2 == 0);
        assert_eq!(first_attempts([true; 19]).too_many_failures(50), None, "too few to tell");
        assert_eq!(first_attempts([true; 20]).too_many_failures(50), Some((20, 20)));
        assert_eq!(first_attempts(half(40)).too_many_failures(50), None, "half is not more than half");
        assert_eq!(first_attempts(half(40)).too_many_failures(49), Some((20, 40)));
        assert_eq!(first_attempts([true; 100]).too_many_failures(100), None);
        assert_eq!(first_attempts([false; 20].into_iter().chain([true])).too_many_failures(0), Some((1, 21)));
    }

    #[test]
    fn old_successes_do_not_hide_new_failures() {
        let attempts = first_attempts([false; 5000].into_iter().chain([true; 51]));
        assert_eq!(attempts.too_many_failures(50), Some((51, 100)));
        assert_eq!((attempts.ended, attempts.failed), (5051, 51));
    }
}
