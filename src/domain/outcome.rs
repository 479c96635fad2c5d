//! The outcome of an attempt.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Maximum number of bytes of an answer that the record keeps; for scripts, of each of stdout and stderr.
pub const KEPT_BYTES: usize = 64 * 1024;

/// How one attempt ended.
#[derive(Debug)]
pub enum Outcome {
    Succeeded {
        response: Response,
        /// The whole answer, if a verdict must be read from it.
        answer: Option<Bytes>,
    },
    Failed {
        failure: Failure,
        /// The answer, if there was one.
        response: Option<Response>,
    },
    /// An `intercept` handler forbade the event without a verdict in its answer: a script exited with 77.
    Forbidden { reason: String, response: Response },
    /// Deferred: no call was made and no attempt is counted, because no slot was free, the circuit was open, or a
    /// resource was missing. Try again after `wait`.
    PutOff {
        error: String,
        wait: Duration,
        /// Whether the circuit is open, so that the time counts as a time in which the handler fails.
        is_failing: bool,
    },
}

/// Why a task failed. The fault is the task's, not provisiond's.
#[derive(Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// What went wrong and why, on one line.
    pub error: String,
    /// The delay that the handler asked for (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// The endpoint answered 410 Gone, so the handler is to be disabled.
    pub gone: bool,
}

/// Whether a retry can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    Transient,
    Permanent,
}

impl Outcome {
    pub fn failed(kind: FailureKind, error: impl Into<String>, response: Option<Response>) -> Self {
        let failure = Failure { kind, error: error.into(), retry_after: None, gone: false };
        Self::Failed { failure, response }
    }

    /// The name of the outcome in logs and traces.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "success",
            Self::Forbidden { .. } => "forbidden",
            Self::Failed { .. } => "fail",
            Self::PutOff { .. } => "put off",
        }
    }
}

/// The answer of a task, cut to what the record keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = HandlerAnswer)]
pub struct Response {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// Whether a part of the answer was cut off.
    pub truncated: bool,
}
