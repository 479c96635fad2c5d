//! How a process is asked to stop: SIGTERM and SIGINT drain it, a second signal cuts it short.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The wish to stop, shared by all that must hear of it.
#[derive(Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    cut: CancellationToken,
}

impl Shutdown {
    /// Listens for signals from now on.
    pub fn listen() -> anyhow::Result<Self> {
        let shutdown = Self::default();
        let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        tokio::spawn(shutdown.clone().hear(terminate, interrupt));
        Ok(shutdown)
    }

    async fn hear(self, mut terminate: Signal, mut interrupt: Signal) {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if self.draining.is_cancelled() {
                warn!("asked again to stop: what still runs is abandoned");
                self.cut.cancel();
            } else {
                info!("asked to stop: draining; a second signal stops at once");
                self.begin();
            }
        }
    }

    /// Begins the drain, as a signal would.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// Resolves when the drain begins.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Resolves when even the drain is to end.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// Cancelled when the drain begins.
    pub fn token(&self) -> CancellationToken {
        self.draining.clone()
    }
}
