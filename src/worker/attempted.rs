//! An attempt that was made or deferred.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::{
    outcome::{Outcome, Response},
    trace::Trace,
    verdict::Verdict,
};

pub(super) struct Attempted {
    pub outcome: Outcome,
    pub verdict: Verdict,
    pub started_at: Timestamp,
    pub duration: Duration,
    /// The trace context that the handler received. None: no call was made, or the handler got the event's
    /// own context.
    pub trace: Option<Trace>,
}

impl Attempted {
    pub(super) fn error(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Succeeded { .. } => None,
            Outcome::Forbidden { reason, .. } => Some(reason),
            Outcome::Failed { failure, .. } => Some(&failure.error),
            Outcome::PutOff { error, .. } => Some(error),
        }
    }

    pub(super) fn duration_ms(&self) -> u64 {
        u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn into_response(self) -> Option<Response> {
        match self.outcome {
            Outcome::Succeeded { response, .. } | Outcome::Forbidden { response, .. } => Some(response),
            Outcome::Failed { response, .. } => response,
            Outcome::PutOff { .. } => None,
        }
    }
}
