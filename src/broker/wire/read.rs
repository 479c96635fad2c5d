//! Reading: a delivery's facts, a copy's plan, a dead letter.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use lapin::types::{AMQPValue, FieldTable};

use super::{
    super::{delay, delivery::Delivery, design::Names, publisher::Outgoing},
    ATTEMPT, EVENT_ID, FIRST_FAILED_AT, LETTER, PLAN, TRACEPARENT, TRACESTATE, Trace, number_header,
    text_header,
};
use crate::domain::{
    dead_letter::{DeadLetter, Reason},
    event::{EventId, EventName, RunId},
    plan::Plan,
};

/// What any delivery says of itself.
#[derive(Debug)]
pub struct Facts {
    pub content_type: Option<String>,
    pub message_id: Option<String>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    pub header_bytes: usize,
    pub trace: Trace,
}

impl Facts {
    pub fn of(delivery: &Delivery) -> Self {
        let properties = &delivery.properties;
        let headers = properties.headers().as_ref();
        Self {
            content_type: properties.content_type().as_ref().map(ToString::to_string),
            message_id: properties.message_id().as_ref().map(ToString::to_string),
            timestamp: *properties.timestamp(),
            header_bytes: headers.map_or(0, table_bytes),
            trace: Trace {
                parent: text_header(headers, TRACEPARENT),
                state: text_header(headers, TRACESTATE),
            },
        }
    }
}

/// What a copy of ours carries beside the event.
#[derive(Debug)]
pub struct Copy {
    pub event_id: EventId,
    pub run_id: RunId,
    /// None: it is planned afresh.
    pub plan: Option<Plan>,
    pub first_failed_at: Option<Timestamp>,
}

/// The copy that `delivery` is, if it came by the ladder; on anything else our headers are not
/// believed, since any publisher can set them.
///
/// # Errors
/// Says what a copy lacks.
pub fn copy_of(delivery: &Delivery, names: &Names) -> Result<Option<Copy>, String> {
    if !delivery.exchange.starts_with(&names.delay_prefix()) {
        return Ok(None);
    }
    let headers = delivery.properties.headers().as_ref();
    let missing = |name: &str| format!("it came by the delay ladder without a usable {name}");
    let event_id = text_header(headers, EVENT_ID).and_then(|id| EventId::try_from(id).ok());
    let run_id =
        delivery.properties.message_id().as_ref().and_then(|id| EventId::try_from(id.to_string()).ok());
    let plan = match text_header(headers, PLAN) {
        None => None,
        Some(handlers) => {
            let attempt = number_header(headers, ATTEMPT).and_then(|n| u32::try_from(n).ok());
            let plan = Plan::from_headers(&handlers, attempt.unwrap_or_default());
            Some(plan.map_err(|_| missing(PLAN))?)
        }
    };
    Ok(Some(Copy {
        event_id: event_id.ok_or_else(|| missing(EVENT_ID))?,
        run_id: run_id.ok_or_else(|| missing("message_id"))?.into(),
        plan,
        first_failed_at: text_header(headers, FIRST_FAILED_AT).and_then(|t| t.parse().ok()),
    }))
}

/// A dead letter with its body, as it is stored.
#[derive(Debug)]
pub struct Letter {
    pub facts: DeadLetter,
    pub body: Bytes,
    pub content_type: Option<String>,
    pub exchange: String,
    pub routing_key: String,
    pub trace: Trace,
}

/// The dead letter in the dead-letter queue: one of ours, or one that the broker made.
pub fn dead_letter_of(delivery: &Delivery, names: &Names) -> Letter {
    let headers = delivery.properties.headers().as_ref();
    let ours = text_header(headers, LETTER).and_then(|json| serde_json::from_str(&json).ok());
    let facts = ours.unwrap_or_else(|| died_in_the_broker(delivery, names));
    Letter::of(delivery, facts)
}

/// The dead letter for an event that no queue took.
pub fn unrouted_event(delivery: &Delivery) -> Letter {
    let error = format!(
        "no queue takes {:?}: it is not in the catalogue (add it: provisiond events add)",
        delivery.routing_key
    );
    let facts = unseen(delivery, &delivery.routing_key, Reason::Unrouted, &error);
    Letter::of(delivery, facts)
}

/// What the broker itself dead-lettered is told by its `x-death`.
fn died_in_the_broker(delivery: &Delivery, names: &Names) -> DeadLetter {
    let death = newest_death(delivery.properties.headers().as_ref());
    let why = text_header(death, "reason").unwrap_or_default();
    let queue = text_header(death, "queue").unwrap_or_default();
    let (reason, error) = match why.as_str() {
        "delivery_limit" => (
            Reason::CrashLoop,
            "it was delivered more often than the queue allows and never settled".to_owned(),
        ),
        "expired" => (Reason::Expired, format!("it waited in {queue} for longer than a policy allows")),
        "" => (Reason::Malformed, "it was published to the dead letters without saying why".to_owned()),
        other => (Reason::Expired, format!("the broker took it out of {queue}: {other}")),
    };
    let name = queue.strip_prefix(&format!("{}.", names.events())).unwrap_or(&delivery.routing_key);
    unseen(delivery, name, reason, &error)
}

/// The facts of a letter that no worker wrote.
fn unseen(delivery: &Delivery, name: &str, reason: Reason, error: &str) -> DeadLetter {
    let headers = delivery.properties.headers().as_ref();
    let message_id = delivery.properties.message_id().as_ref().map(ToString::to_string);
    let whole = DeadLetter::of_whole(reason, error, name, message_id, &delivery.body, Timestamp::now());
    let plan = text_header(headers, PLAN).and_then(|plan| plan.parse::<Plan>().ok());
    DeadLetter {
        event_id: text_header(headers, EVENT_ID).or_else(|| whole.event_id.clone()),
        plan: plan.map(|plan| plan.handlers().collect()).unwrap_or_default(),
        ..whole
    }
}

fn newest_death(headers: Option<&FieldTable>) -> Option<&FieldTable> {
    match headers?.inner().get("x-death")? {
        AMQPValue::FieldArray(deaths) => match deaths.as_slice().first()? {
            AMQPValue::FieldTable(death) => Some(death),
            _ => None,
        },
        _ => None,
    }
}

/// What a table takes on the wire, near enough to bound it.
fn table_bytes(table: &FieldTable) -> usize {
    table.inner().iter().map(|(name, value)| name.as_str().len() + 2 + value_bytes(value)).sum()
}

fn value_bytes(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => 4 + text.len(),
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldTable(table) => 4 + table_bytes(table),
        AMQPValue::FieldArray(values) => {
            4 + values.as_slice().iter().map(|v| 1 + value_bytes(v)).sum::<usize>()
        }
        _ => 8,
    }
}

impl Letter {
    /// The letter with these facts for `delivery`.
    pub fn of(delivery: &Delivery, facts: DeadLetter) -> Self {
        let Facts { content_type, trace, .. } = Facts::of(delivery);
        Self {
            facts,
            body: delivery.body.clone(),
            content_type,
            exchange: delivery.exchange.clone(),
            routing_key: delivery.routing_key.clone(),
            trace,
        }
    }
}

/// A copy that left the ladder and found no queue, to be sent to the queue of its event at once.
pub fn resent(delivery: &Delivery, names: &Names) -> Option<(EventName, Outgoing)> {
    let event: EventName = after_delay_words(&delivery.routing_key)?.parse().ok()?;
    let entry = delay::entry(names, &event, Duration::ZERO);
    let mut properties = delivery.properties.clone();
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().as_ref()?.inner() {
        if !name.as_str().starts_with("x-death") && !name.as_str().contains("-death-") {
            headers.insert(name.clone(), value.clone());
        }
    }
    properties = properties.with_headers(headers);
    let (exchange, routing_key) = (entry.exchange, entry.routing_key);
    Some((event, Outgoing { exchange, routing_key, properties, body: delivery.body.clone() }))
}

/// The event name in a routing key of the ladder.
fn after_delay_words(routing_key: &str) -> Option<&str> {
    routing_key.splitn(delay::LEVELS as usize + 1, '.').nth(delay::LEVELS as usize)
}
