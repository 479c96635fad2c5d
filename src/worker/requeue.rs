//! Why a delivery is requeued.

use crate::broker::Unconfirmed;

/// A problem of provisiond, not of a handler.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequeueReason {
    #[error("the worker is draining and did not start this event")]
    NotStarted,
    #[error("the event was still running at the end of worker.drain_timeout")]
    Cut,
    /// The watchdog logs it once for all deliveries of the queue.
    #[error("the consumer was stuck")]
    Stuck,
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
    #[error("cannot encode a message of this event")]
    Unwritable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<anyhow::Error> for RequeueReason {
    fn from(error: anyhow::Error) -> Self {
        Self::Unwritable(error.into())
    }
}
