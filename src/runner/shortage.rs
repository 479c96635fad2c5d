//! When this machine lacks what a call needs: descriptors, memory, processes, ports, space on disk, a directory for
//! scripts to work in, or the one that holds them.
//!
//! The handler was not called, and it is not its failure: the attempt waits, and does not count.

use std::{
    io,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::io::Errno;
use tracing::warn;

use crate::domain::outcome::Outcome;

/// Mostly there is enough again when other calls have ended.
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// Whether it is this machine that has not enough of something.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
                | Errno::AGAIN
                | Errno::NOBUFS
                | Errno::ADDRNOTAVAIL
                | Errno::NOSPC
                | Errno::DQUOT
        )
    )
}

/// Between two warnings: there may be thousands of calls a second that are not made.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

static WARNED_AT: Mutex<Option<Instant>> = Mutex::new(None);

/// The outcome of a call that was not made.
pub fn not_called(cause: &str) -> Outcome {
    let mut warned_at = WARNED_AT.lock();
    if warned_at.is_none_or(|at| at.elapsed() > WARNING_INTERVAL) {
        *warned_at = Some(Instant::now());
        warn!(
            error = cause,
            "handlers are not called for want of something on this machine; their attempts wait"
        );
    }
    Outcome::PutOff {
        error: format!("not called, for want of something on the worker's machine: {cause}"),
        wait: RETRY_DELAY.mul_f64(rand::random_range(0.5..1.5)),
        is_failing: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_from_a_failure() {
        for (errno, expected) in
            [(Errno::MFILE, true), (Errno::NOMEM, true), (Errno::CONNREFUSED, false), (Errno::NOENT, false)]
        {
            assert_eq!(is_shortage(&errno.into()), expected, "{errno}");
        }
        assert!(!is_shortage(&io::Error::other("anything")));
    }
}
