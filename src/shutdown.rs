//! The end of the process: first it drains, then, if it must, it cuts.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells every part of the process when to end. Clones are the same shutdown.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    cut: CancellationToken,
}

impl Shutdown {
    /// A shutdown that SIGTERM or SIGINT begins, and that a second one of them turns into a cut.
    ///
    /// # Errors
    /// If the signals cannot be listened to. Must be called within a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let shutdown = Self::default();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(shutdown.clone().obey(terminate, interrupt));
        Ok(shutdown)
    }

    async fn obey(self, mut terminate: Signal, mut interrupt: Signal) {
        // Signals are counted, not states: a SIGTERM while we drain because of an error cuts nothing.
        let signal = next(&mut terminate, &mut interrupt).await;
        tracing::info!(signal, "draining: running handlers may end; a second signal cuts them");
        self.begin();
        let signal = next(&mut terminate, &mut interrupt).await;
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

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_signal_drains_and_a_second_one_cuts() {
        let shutdown = Shutdown::listen().expect("signals");
        let clone = shutdown.clone();
        shutdown.begin();
        timeout(SOON, clone.token().cancelled_owned()).await.expect("clones drain together");
        kill_process(getpid(), Signal::TERM).expect("sent");
        let early = timeout(Duration::from_millis(100), shutdown.cut()).await;
        assert!(early.is_err(), "the first signal cuts nothing, though it was draining already");
        kill_process(getpid(), Signal::INT).expect("sent");
        timeout(SOON, clone.cut()).await.expect("the second one cuts");
        assert!(shutdown.token().is_cancelled());
    }
}
