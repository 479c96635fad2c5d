//! How an attempt ended.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// At most this much of an answer (each of stdout and stderr, for scripts) is kept in the record.
pub const KEPT_BYTES: usize = 64 * 1024;

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    Succeeded {
        response: Response,
        /// The whole answer, where a verdict is to be read from it.
        answer: Option<Bytes>,
    },
    Failed {
        failure: Failure,
        /// What was answered, if it came to that.
        response: Option<Response>,
    },
    /// An `intercept` handler forbade the event without an answer to read: a script ended with 77.
    Forbidden { reason: String, response: Response },
    /// No call was made, and none is counted: there was no room for it, or its circuit is open. Try
    /// again after `wait`.
    PutOff {
        error: String,
        wait: Duration,
        /// The handler fails, as others found out: that does not go on for ever.
        is_failing: bool,
    },
}

/// Why a task failed: its fault, not ours.
#[derive(Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// One line that a person understands, with its cause.
    pub error: String,
    /// What the handler asked to wait (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// The endpoint says that it is gone for good (410): the handler is to be disabled.
    pub gone: bool,
}

/// Whether trying again can help.
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

    /// What it is called in the log and in traces.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "success",
            Self::Forbidden { .. } => "forbidden",
            Self::Failed { .. } => "fail",
            Self::PutOff { .. } => "put off",
        }
    }
}

/// What a task answered, as far as it is kept.
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
    /// Whether something was cut off.
    pub truncated: bool,
}
