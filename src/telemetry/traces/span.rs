//! One span: the attributes of an attempt, and the trace context for the handler.
//!
//! A span never contains a body, the value of a header, or more of a URL than host and port.

use opentelemetry::{
    KeyValue,
    trace::{Span as _, Status, TraceFlags},
};

use crate::domain::{
    handler::Handler,
    outcome::{FailureKind, Outcome, Response},
    plan::Attempt,
    trace::Trace,
};

/// A running span. If it is dropped, it ends without an outcome.
pub struct Span {
    inner: opentelemetry_sdk::trace::Span,
    trace: Trace,
}

impl Span {
    pub(super) fn new(inner: opentelemetry_sdk::trace::Span, state: Option<String>) -> Self {
        let context = inner.span_context();
        let (trace_id, span_id) = (context.trace_id(), context.span_id());
        let flags = context.trace_flags() & TraceFlags::SAMPLED;
        let parent = Some(format!("00-{trace_id}-{span_id}-{flags:02x}"));
        Self { inner, trace: Trace { parent, state } }
    }

    /// The trace context to pass on: this span, as the parent of what follows.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    pub fn end(mut self, outcome: &Outcome) {
        if !self.inner.is_recording() {
            return;
        }
        self.inner.set_attribute(KeyValue::new("provisiond.outcome", outcome.word()));
        let response = match outcome {
            Outcome::Succeeded { response, .. } | Outcome::Forbidden { response, .. } => Some(response),
            Outcome::Failed { failure, response } => {
                let error_type = error_type(failure.kind, response.as_ref());
                self.inner.set_attribute(KeyValue::new("error.type", error_type));
                self.inner.set_status(Status::error(failure.error.clone()));
                response.as_ref()
            }
            Outcome::PutOff { .. } => None,
        };
        if let Some(status) = response.and_then(|response| response.http_status) {
            self.inner.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        if let Some(code) = response.and_then(|response| response.exit_code) {
            self.inner.set_attribute(KeyValue::new("process.exit.code", i64::from(code)));
        }
        self.inner.end();
    }
}

/// The attributes of the handler, and the number of the attempt.
pub(super) fn attempt(handler: &Handler, attempt: Attempt) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("provisiond.handler.id", handler.id.0),
        KeyValue::new("provisiond.handler.name", handler.spec.name.to_string()),
        KeyValue::new("provisiond.task.type", handler.spec.task.kind().as_str()),
        KeyValue::new("provisiond.attempt", i64::from(attempt.number())),
    ];
    if let Some(url) = handler.spec.task.url() {
        let url = url.url();
        attributes.push(KeyValue::new("http.request.method", "POST"));
        attributes.extend(url.host_str().map(|host| KeyValue::new("server.address", host.to_owned())));
        attributes
            .extend(url.port_or_known_default().map(|port| KeyValue::new("server.port", i64::from(port))));
    }
    attributes
}

/// One of a few values, because backends group by it.
fn error_type(kind: FailureKind, response: Option<&Response>) -> String {
    let specific = response.and_then(|response| match response {
        Response { http_status: Some(status), .. } if *status >= 300 => Some(status.to_string()),
        Response { signal: Some(signal), .. } => Some(format!("signal {signal}")),
        Response { exit_code: Some(code), .. } if *code != 0 => Some(format!("exit code {code}")),
        _ => None,
    });
    specific.unwrap_or_else(|| match kind {
        FailureKind::Transient => "transient".to_owned(),
        FailureKind::Permanent => "permanent".to_owned(),
    })
}
