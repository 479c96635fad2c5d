//! Nothing is lost: faults under load, and a checker that asks the database, the handlers, the broker and the processes
//! what became of every event.
//!
//! Each fault is one function. Its short form (one injection, 500 events) belongs to the ordinary tests; its long form
//! (three injections, 5,000 events) runs with `script/test --faults`. What a fault came to is one line, on the test's
//! output and in `target/faults-short.md` or `target/faults.md`.

mod checker;
mod checker_tests;
mod facts;
mod fault_rig;
mod load;
mod receivers;
mod report;
mod rolling;

mod broken;
mod content;
mod links;
mod postgres;
mod processes;
mod queues;
mod steps;

use std::time::Duration;

use fault_rig::{MAX_IN_FLIGHT, PREFETCH};

/// How much of a fault is shown.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    is_long: bool,
}

impl Form {
    pub const SHORT: Self = Self { is_long: false };
    pub const LONG: Self = Self { is_long: true };

    /// Events that are published at least.
    const fn events(self) -> u64 {
        if self.is_long { 5000 } else { 500 }
    }

    const fn injections(self) -> usize {
        if self.is_long { 3 } else { 1 }
    }

    /// How long something is away.
    const fn outage(self) -> Duration {
        if self.is_long { Duration::from_secs(65) } else { Duration::from_secs(3) }
    }

    /// What a worker that is killed may repeat: of each delivery what ran, and what was not recorded a second later.
    /// The short form shares its machine, and once a recorder that got no core for seconds has recorded nothing of what
    /// was under way.
    const fn max_repeated_by_kill(self, times: usize) -> usize {
        let busy = if self.is_long { 0 } else { MAX_IN_FLIGHT };
        busy + 2 * PREFETCH * times
    }
}

/// Both forms of a fault as tests: `fault::short` and `fault::long`.
macro_rules! both_forms {
    ($($fault:ident),+ $(,)?) => {$(
        mod $fault {
            use crate::faults::Form;

            #[blocking_test]
            async fn short() {
                super::$fault(Form::SHORT).await;
            }

            #[blocking_test]
            #[ignore = "minutes long: script/test --faults"]
            async fn long() {
                super::$fault(Form::LONG).await;
            }
        }
    )+};
}
use both_forms;
