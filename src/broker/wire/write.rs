//! Writes events, retry copies, results, replies and dead letters.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use super::{
    super::{
        delay,
        names::{Names, text},
        publisher::Outgoing,
    },
    ATTEMPT, DEAD_LETTER, DEAD_LETTER_HANDLER, DEAD_LETTER_ID, DEAD_LETTER_REASON, Deferred, EVENT_ID,
    FIRST_FAILED_AT, HANDLERS, PLAN, PLAN_CREATED, PUT_OFF_IN, PUT_OFF_SINCE, REPUBLISHED, TRACEPARENT,
    TRACESTATE,
};
use crate::domain::{
    dead_letter::DeadLetter,
    event::{Event, EventId, EventName, RunId},
    execution::Execution,
    handler::HandlerVersions,
    plan::Plan,
    reply::Reply,
    trace::Trace,
};

const PERSISTENT: u8 = 2;

/// An event, as the platform publishes it.
pub fn event(names: &Names, name: &EventName, id: &EventId, body: Bytes) -> Outgoing {
    let properties = json_properties(id.as_str()).with_timestamp(now_seconds());
    Outgoing { exchange: names.events(), routing_key: name.as_str().to_owned(), properties, body }
}

/// `message` with the header that says that it is published again.
pub fn mark_republished(message: Outgoing) -> Outgoing {
    let mut headers = message.properties.headers().clone().unwrap_or_default();
    headers.insert(REPUBLISHED.into(), AMQPValue::Boolean(true));
    Outgoing { properties: message.properties.with_headers(headers), ..message }
}

/// The content of a copy.
pub struct CopyOf<'a> {
    pub event: &'a Event,
    /// Empty: the worker that receives it makes a new plan.
    pub plan: &'a Plan,
    pub run_id: &'a RunId,
    pub first_failed_at: Option<Timestamp>,
    /// The run in which its attempt was deferred.
    pub put_off_in: Option<Deferred>,
    /// Handler versions that the sender knows. Empty: the receiver need not wait for them.
    pub seen: &'a HandlerVersions,
    pub trace: &'a Trace,
}

/// A copy that arrives in the queue of its event after `delay`, in whole seconds.
pub fn retry_copy(names: &Names, copy: &CopyOf<'_>, delay: Duration) -> Outgoing {
    let mut headers = trace_headers(copy.trace);
    headers.insert(EVENT_ID.into(), text(copy.event.id.as_str()));
    if !copy.plan.is_empty() {
        headers.insert(PLAN.into(), text(&copy.plan.to_string()));
        headers.insert(PLAN_CREATED.into(), text(&copy.plan.created_text()));
        headers.insert(ATTEMPT.into(), AMQPValue::LongLongInt(copy.plan.first_attempt().number().into()));
    }
    if let Some(at) = copy.first_failed_at {
        headers.insert(FIRST_FAILED_AT.into(), text(&at.to_string()));
    }
    if let Some(Deferred { run_id, since }) = &copy.put_off_in {
        headers.insert(PUT_OFF_IN.into(), text(run_id.as_str()));
        headers.insert(PUT_OFF_SINCE.into(), text(&since.to_string()));
    }
    if !copy.seen.is_empty() {
        headers.insert(HANDLERS.into(), text(&copy.seen.to_string()));
    }
    let entry = delay::entry(names, &copy.event.name, delay);
    Outgoing {
        exchange: entry.exchange,
        routing_key: entry.routing_key,
        properties: json_properties(copy.run_id.as_str()).with_timestamp(now_seconds()).with_headers(headers),
        body: copy.event.body.clone(),
    }
}

/// An execution result. `trace` is that of the attempt.
///
/// # Errors
/// If the record cannot be written as JSON, which would be a bug.
pub fn result(names: &Names, execution: &Execution, trace: &Trace) -> anyhow::Result<Outgoing> {
    let body = serde_json::to_vec(execution).context("cannot serialize an execution result")?;
    Ok(Outgoing {
        exchange: names.results(),
        routing_key: format!("{}.{}", execution.event.name, execution.status),
        properties: json_properties(&execution.id.to_string()).with_headers(trace_headers(trace)),
        body: body.into(),
    })
}

/// A reply, published to the default exchange, which routes it to the queue `to`. The broker drops it if that queue is
/// gone.
///
/// # Errors
/// If it cannot be written as JSON, which would be a bug.
pub fn reply(to: &str, correlation_id: Option<&str>, reply: &Reply) -> anyhow::Result<Outgoing> {
    let mut properties = BasicProperties::default().with_content_type("application/json".into());
    if let Some(id) = correlation_id {
        properties = properties.with_correlation_id(id.into());
    }
    Ok(Outgoing {
        exchange: String::new(),
        routing_key: to.to_owned(),
        properties,
        body: serde_json::to_vec(reply).context("cannot serialize a reply")?.into(),
    })
}

/// A dead letter to publish: its facts, and the body as it was received or as handlers changed it.
pub struct NewDeadLetter<'a> {
    pub letter: &'a DeadLetter,
    pub body: Bytes,
    pub content_type: Option<&'a str>,
    pub trace: &'a Trace,
}

/// The message of a dead letter. Its routing key is the event name.
///
/// # Errors
/// If the facts cannot be written as JSON, which would be a bug.
pub fn dead_letter(names: &Names, message: NewDeadLetter<'_>) -> anyhow::Result<Outgoing> {
    let details = message.letter;
    let json = serde_json::to_string(details).context("cannot serialize a dead letter")?;
    let mut headers = trace_headers(message.trace);
    headers.insert(DEAD_LETTER_ID.into(), text(&details.id.to_string()));
    headers.insert(DEAD_LETTER_REASON.into(), text(details.reason.as_str()));
    headers.insert(DEAD_LETTER.into(), text(&json));
    if let Some(id) = &details.event_id {
        headers.insert(EVENT_ID.into(), text(id));
    }
    if let Some(id) = details.handler_id {
        headers.insert(DEAD_LETTER_HANDLER.into(), AMQPValue::LongLongInt(id.0));
    }
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(details.id.to_string().into())
        .with_timestamp(now_seconds())
        .with_headers(headers);
    if let Some(content_type) = message.content_type {
        properties = properties.with_content_type(content_type.into());
    }
    Ok(Outgoing {
        exchange: names.dead_letters(),
        routing_key: details.event_name.clone(),
        properties,
        body: message.body,
    })
}

fn json_properties(message_id: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_message_id(message_id.into())
}

fn trace_headers(trace: &Trace) -> FieldTable {
    let mut headers = FieldTable::default();
    for (name, value) in [(TRACEPARENT, &trace.parent), (TRACESTATE, &trace.state)] {
        if let Some(value) = value {
            headers.insert(name.into(), text(value));
        }
    }
    headers
}

fn now_seconds() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or_default()
}
