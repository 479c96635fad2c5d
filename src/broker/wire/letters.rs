//! Reads dead letters of provisiond, dead letters of the broker, and unrouted messages.

use std::time::Duration;

use jiff::Timestamp;
use lapin::types::{AMQPValue, FieldTable};

use super::{
    super::{delay, delivery::Delivery, inbound::UNREADABLE, names::Names, publisher::Outgoing},
    DEAD_LETTER, EVENT_ID, MessageMeta, PLAN, PLAN_CREATED,
    read::came_by_ladder,
    text_header,
};
use crate::domain::{
    dead_letter::{DeadLetter, DeadLetterMessage, Reason},
    event::{EventId, EventName, object_id_in, readable},
    plan::Plan,
};

/// A compressed body stays compressed if it expands to more bytes than this.
const MAX_READABLE: usize = 4 << 20;

/// The message of `dead_letter`, for `delivery`. Its body is expanded, so that it can be shown, searched and edited.
pub fn dead_letter_message(delivery: &Delivery, dead_letter: DeadLetter) -> DeadLetterMessage {
    let MessageMeta { content_type, content_encoding, trace, .. } = MessageMeta::of(delivery);
    let body = readable(&delivery.body, content_encoding.as_deref(), MAX_READABLE);
    DeadLetterMessage {
        facts: DeadLetter { object_id: dead_letter.object_id.or_else(|| object_id_in(&body)), ..dead_letter },
        body,
        content_type,
        exchange: Some(delivery.exchange.clone()),
        routing_key: Some(delivery.routing_key.clone()),
        trace,
    }
}

/// The dead letter in a message of the dead-letter queue: published by provisiond, or dead-lettered by the broker.
pub fn dead_letter_of(delivery: &Delivery, names: &Names) -> DeadLetterMessage {
    let headers = delivery.properties.headers().as_ref();
    let dead_letter = match newest_death(headers) {
        // Any publisher can set our header on an event that the broker dead-lettered, so it is not read.
        Some(death) => dead_lettered_by_broker(delivery, death, names),
        None => text_header(headers, DEAD_LETTER)
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_else(|| without_reason(delivery)),
    };
    dead_letter_message(delivery, dead_letter)
}

/// The dead letter of an event that no queue took, or of a copy whose event type was removed.
pub fn unrouted_event(delivery: &Delivery, names: &Names) -> DeadLetterMessage {
    let is_copy = came_by_ladder(delivery, names);
    let name = if is_copy { event_name_in(&delivery.routing_key) } else { None };
    let name = name.unwrap_or(&delivery.routing_key);
    let error = match text_header(delivery.properties.headers().as_ref(), UNREADABLE) {
        Some(unreadable) => format!("no queue takes {name:?}: {unreadable}"),
        None => format!("no queue takes {name:?}: it is not in the catalogue (provisiond events add)"),
    };
    dead_letter_message(
        delivery,
        dead_letter_without_worker(delivery, name, Reason::Unrouted, &error, is_copy),
    )
}

/// The facts of a message that the broker dead-lettered, from its `x-death`.
fn dead_lettered_by_broker(delivery: &Delivery, death: &FieldTable, names: &Names) -> DeadLetter {
    let death_field = |name: &str| text_header(Some(death), name).unwrap_or_default();
    let (why, queue) = (death_field("reason"), death_field("queue"));
    let (reason, error) = match why.as_str() {
        "delivery_limit" => (
            Reason::Expired,
            format!(
                "{queue} delivered it as often as its delivery limit allows; each time the connection was lost or it was requeued"
            ),
        ),
        "expired" => (Reason::Expired, format!("it waited in {queue} for longer than a policy allows")),
        other => (Reason::Expired, format!("the broker removed it from {queue}: {other}")),
    };
    let name = names.event_of(&queue).unwrap_or(&delivery.routing_key);
    let is_copy = death_field("exchange").starts_with(&names.delay_prefix());
    let dead_letter = dead_letter_without_worker(delivery, name, reason, &error, is_copy);
    let died_at = match death.inner().get("time") {
        Some(AMQPValue::Timestamp(seconds)) => {
            i64::try_from(*seconds).ok().and_then(|s| Timestamp::from_second(s).ok())
        }
        _ => None,
    };
    DeadLetter { died_at: died_at.unwrap_or(dead_letter.died_at), ..dead_letter }
}

fn without_reason(delivery: &Delivery) -> DeadLetter {
    let error = "it was published to the dead-letter queue without a reason";
    dead_letter_without_worker(delivery, &delivery.routing_key, Reason::Malformed, error, false)
}

/// The facts of a dead letter that no worker wrote. Our headers are trusted only on a copy of ours.
fn dead_letter_without_worker(
    delivery: &Delivery,
    name: &str,
    reason: Reason,
    error: &str,
    is_copy: bool,
) -> DeadLetter {
    let MessageMeta { message_id, timestamp, .. } = MessageMeta::of(delivery);
    let run_id = EventId::of_message(message_id.as_deref(), name, timestamp, &delivery.body);
    let run_id = Some(run_id.to_string());
    let dead_letter = DeadLetter::of_whole(reason, error, name, run_id, &delivery.body, Timestamp::now());
    if !is_copy {
        return dead_letter;
    }
    let headers = delivery.properties.headers().as_ref();
    let plan = text_header(headers, PLAN).and_then(|plan| plan.parse::<Plan>().ok());
    let created = text_header(headers, PLAN_CREATED).unwrap_or_default();
    let plan = plan.map(|plan| plan.with_created(&created));
    DeadLetter {
        event_id: text_header(headers, EVENT_ID).or_else(|| dead_letter.event_id.clone()),
        plan_created: plan.as_ref().map(|plan| plan.created().collect()).unwrap_or_default(),
        plan: plan.map(|plan| plan.handlers().collect()).unwrap_or_default(),
        ..dead_letter
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

/// A copy that left the ladder and found no queue, ready to be published to the queue of its event without a delay.
pub fn resent(delivery: &Delivery, names: &Names) -> Option<(EventName, Outgoing)> {
    let event: EventName = event_name_in(&delivery.routing_key)?.parse().ok()?;
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

/// The event name in a routing key of the delay ladder.
fn event_name_in(routing_key: &str) -> Option<&str> {
    routing_key.splitn(delay::LEVELS as usize + 1, '.').nth(delay::LEVELS as usize)
}
