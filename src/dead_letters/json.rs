//! Dead letters in JSON. The command line and the REST API return the same.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Shown, WouldRun};
use crate::{
    domain::execution::Execution,
    store::{DeadLetterRow, StoredDeadLetter},
};

/// A message body: as text, or in base64 if it is not UTF-8.
#[derive(Serialize, ToSchema)]
pub struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl<'a> Body<'a> {
    pub fn of(bytes: &'a [u8]) -> Self {
        let body = std::str::from_utf8(bytes).ok();
        Self { body, body_base64: body.is_none().then(|| BASE64_STANDARD.encode(bytes)) }
    }
}

/// A dead letter with its message.
#[derive(Serialize, ToSchema)]
pub struct ExportedLetter<'a> {
    #[serde(flatten)]
    row: &'a DeadLetterRow,
    #[serde(flatten)]
    body: Body<'a>,
    content_type: Option<&'a str>,
    /// The exchange that the message was published to, if known.
    exchange: Option<&'a str>,
    routing_key: Option<&'a str>,
    traceparent: Option<&'a str>,
    tracestate: Option<&'a str>,
}

impl<'a> ExportedLetter<'a> {
    pub fn of(stored: &'a StoredDeadLetter) -> Self {
        Self {
            row: &stored.row,
            body: Body::of(&stored.body),
            content_type: stored.content_type.as_deref(),
            exchange: stored.exchange.as_deref(),
            routing_key: stored.routing_key.as_deref(),
            traceparent: stored.trace.parent.as_deref(),
            tracestate: stored.trace.state.as_deref(),
        }
    }
}

/// A dead letter, its executions, and what a replay would run.
#[derive(Serialize, ToSchema)]
pub struct WholeLetter<'a> {
    #[serde(flatten)]
    letter: ExportedLetter<'a>,
    /// Executions of its handler, or of all handlers if the whole event was given up: the latest hundred,
    /// oldest first.
    executions: &'a [Execution],
    replay: &'a WouldRun,
}

impl<'a> WholeLetter<'a> {
    pub fn of(shown: &'a Shown) -> Self {
        let letter = ExportedLetter::of(&shown.letter);
        Self { letter, executions: &shown.attempts, replay: &shown.replay }
    }
}
