//! Calls that are not made because this machine lacks something: descriptors, memory, processes, ports, disk
//! space, a working directory for scripts, or the script root.
//!
//! The handler was not called, so it has not failed. The attempt is deferred and does not count.

use std::{
    io,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::io::Errno;
use tracing::warn;

use crate::domain::outcome::Outcome;

/// Usually there is enough again when other calls have ended.
const RETRY_DELAY: Duration = Duration::from_secs(10);

/// Whether `error` means that this machine lacks a resource.
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

/// Shortest time between two warnings. Thousands of calls a second may be deferred.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

static WARNED_AT: Mutex<Option<Instant>> = Mutex::new(None);

/// The outcome of a call that was not made.
pub fn not_called(cause: &str) -> Outcome {
    let mut warned_at = WARNED_AT.lock();
    if warned_at.is_none_or(|at| at.elapsed() > WARNING_INTERVAL) {
        *warned_at = Some(Instant::now());
        warn!(error = cause, "deferring attempts: this machine lacks a resource");
    }
    Outcome::PutOff {
        error: format!("not called, because the worker's machine lacks a resource: {cause}"),
        wait: RETRY_DELAY.mul_f64(rand::random_range(0.5..1.5)),
        is_failing: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_distinguished_from_a_failure() {
        for (errno, expected) in
            [(Errno::MFILE, true), (Errno::NOMEM, true), (Errno::CONNREFUSED, false), (Errno::NOENT, false)]
        {
            assert_eq!(is_shortage(&errno.into()), expected, "{errno}");
        }
        assert!(!is_shortage(&io::Error::other("anything")));
    }
}
