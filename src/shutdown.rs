//! The end of the process: first it drains, then, if it must, it cuts.

use std::{future::pending, io};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells every part of the process when to end. Clones are the same shutdown.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    cut: CancellationToken,
}

impl Shutdown {
    /// A shutdown that SIGTERM, SIGINT or SIGHUP begins, and that a second one of them turns into a cut. SIGHUP is left alone
    /// where whoever started this (nohup) has it ignored.
    ///
    /// # Errors
    /// If the signals cannot be listened to. Must be called within a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let shutdown = Self::default();
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) },
        };
        tokio::spawn(shutdown.clone().obey(signals));
        Ok(shutdown)
    }

    async fn obey(self, mut signals: Signals) {
        // Signals are counted, not states: a SIGTERM while we drain because of an error cuts nothing.
        let signal = signals.next().await;
        tracing::info!(signal, "draining: running handlers may end; a second signal cuts them");
        self.begin();
        let signal = signals.next().await;
        tracing::warn!(signal, "a second signal: what runs is cut");
        self.cut.cancel();
    }

    /// Begins to drain, for a reason other than a signal.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// Cancelled when the drain begins.
    pub fn token(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Resolves when what runs is to be cut at once.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }
}

/// Those that end the process.
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

/// Whether SIGHUP was ignored when this process began. Where the system does not tell, it was not.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Of signal 1, the lowest bit.
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
    async fn a_signal_drains_and_a_second_one_cuts() {
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
