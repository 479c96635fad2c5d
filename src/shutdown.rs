//! Ends the process: a first signal drains it, a second one aborts what still runs.

use std::{future::pending, io};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Signals the end of the process to all its parts. Clones are the same shutdown.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    cut: CancellationToken,
}

impl Shutdown {
    /// Starts listening for SIGTERM, SIGINT and SIGHUP: the first one starts the drain, the second one aborts
    /// what runs.
    ///
    /// A SIGHUP that the process was started to ignore (nohup) stays ignored.
    ///
    /// # Errors
    /// If a signal handler cannot be installed. Must be called within a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let shutdown = Self::default();
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) },
        };
        tokio::spawn(shutdown.clone().handle_signals(signals));
        Ok(shutdown)
    }

    async fn handle_signals(self, mut signals: Signals) {
        // Count signals, not states: after a drain that an error started, a first SIGTERM must not abort
        // anything.
        let signal = signals.next().await;
        tracing::info!(signal, "draining: waiting for running handlers; a second signal stops them at once");
        self.begin();
        let signal = signals.next().await;
        tracing::warn!(signal, "second signal: stopping running handlers at once");
        self.cut.cancel();
    }

    /// Starts the drain for a reason other than a signal.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// Cancelled when the drain begins.
    pub fn token(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Resolves when everything that runs must be aborted at once.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hangup => "SIGHUP",
        }
    }
}

/// Whether SIGHUP was ignored when this process started. False where `/proc` does not say.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is signal 1: the lowest bit.
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    const FORCE_AFTER: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_signal_drains_and_a_second_one_aborts() {
        let shutdown = Shutdown::listen().expect("signals");
        let clone = shutdown.clone();
        shutdown.begin();
        timeout(FORCE_AFTER, clone.token().cancelled_owned()).await.expect("clones drain together");
        kill_process(getpid(), Signal::TERM).expect("sent");
        let early = timeout(Duration::from_millis(100), shutdown.cut()).await;
        assert!(early.is_err(), "the first signal cuts nothing, though it was draining already");
        kill_process(getpid(), Signal::INT).expect("sent");
        timeout(FORCE_AFTER, clone.cut()).await.expect("the second one cuts");
        assert!(shutdown.token().is_cancelled());
    }
}
