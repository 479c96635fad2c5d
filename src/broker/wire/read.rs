//! Reads the metadata of a delivery, and the plan of a copy.

use jiff::Timestamp;
use lapin::types::{AMQPValue, FieldTable};

use super::{
    super::{delivery::Delivery, inbound::UNREADABLE, names::Names},
    ATTEMPT, EVENT_ID, FIRST_FAILED_AT, HANDLERS, PLAN, PLAN_CREATED, PUT_OFF_IN, PUT_OFF_SINCE, REPUBLISHED,
    TRACEPARENT, TRACESTATE, number_header, text_header,
};
use crate::domain::{
    event::{EventId, RunId},
    handler::HandlerVersions,
    plan::Plan,
    trace::Trace,
};

/// Metadata of a delivery.
#[derive(Debug)]
pub struct MessageMeta {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub message_id: Option<String>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    pub header_bytes: usize,
    /// The queue in which the publisher awaits a reply.
    pub reply_to: Option<String>,
    pub correlation_id: Option<String>,
    pub trace: Trace,
    /// Which parts of the message could not be read, and were replaced.
    pub unreadable: Option<String>,
}

impl MessageMeta {
    pub fn of(delivery: &Delivery) -> Self {
        let properties = &delivery.properties;
        let headers = properties.headers().as_ref();
        Self {
            content_type: properties.content_type().as_ref().map(ToString::to_string),
            content_encoding: properties.content_encoding().as_ref().map(ToString::to_string),
            // Some client libraries send an empty id instead of none.
            message_id: properties.message_id().as_ref().map(ToString::to_string).filter(|id| !id.is_empty()),
            timestamp: *properties.timestamp(),
            reply_to: properties
                .reply_to()
                .as_ref()
                .map(ToString::to_string)
                .filter(|queue| !queue.is_empty()),
            correlation_id: properties.correlation_id().as_ref().map(ToString::to_string),
            header_bytes: headers.map_or(0, table_bytes),
            trace: Trace::of(text_header(headers, TRACEPARENT), text_header(headers, TRACESTATE)),
            unreadable: headers.and_then(|headers| headers.inner().get(UNREADABLE)).map(|_| {
                // A publisher that sets it may leave it empty, or use a type that is not text.
                let description =
                    text_header(headers, UNREADABLE).filter(|description| !description.is_empty());
                description.unwrap_or_else(|| format!("the header {UNREADABLE} is reserved for provisiond"))
            }),
        }
    }
}

/// The run in which an attempt was deferred.
#[derive(Clone, Debug)]
pub struct Deferred {
    pub run_id: RunId,
    /// When that run took its delivery.
    pub since: Timestamp,
}

/// What a copy carries besides the event.
#[derive(Debug)]
pub struct Retry {
    pub event_id: EventId,
    pub run_id: RunId,
    /// `None`: the worker makes a new plan.
    pub plan: Option<Plan>,
    pub first_failed_at: Option<Timestamp>,
    /// Set if its attempt was deferred, and was not made.
    pub put_off_in: Option<Deferred>,
    /// It was published again: the other copy may have run already, or may still arrive.
    pub is_again: bool,
}

/// Reads `delivery` as a copy, if it came through the delay ladder. On any other message our headers are not trusted,
/// because any publisher can set them.
///
/// # Errors
/// Says what the copy lacks.
pub fn retry_of(delivery: &Delivery, names: &Names) -> Result<Option<Retry>, String> {
    if !came_by_ladder(delivery, names) {
        return Ok(None);
    }
    let headers = delivery.properties.headers().as_ref();
    let missing = |name: &str| format!("it came through the delay ladder without a valid {name}");
    let event_id = text_header(headers, EVENT_ID).and_then(|id| EventId::try_from(id).ok());
    let run_id =
        delivery.properties.message_id().as_ref().and_then(|id| EventId::try_from(id.to_string()).ok());
    let plan = match text_header(headers, PLAN) {
        None => None,
        Some(handlers) => {
            let attempt = number_header(headers, ATTEMPT).and_then(|n| u32::try_from(n).ok());
            let plan = Plan::from_headers(&handlers, attempt.unwrap_or_default());
            let created = text_header(headers, PLAN_CREATED).unwrap_or_default();
            Some(plan.map_err(|_| missing(PLAN))?.with_created(&created))
        }
    };
    Ok(Some(Retry {
        event_id: event_id.ok_or_else(|| missing(EVENT_ID))?,
        run_id: run_id.ok_or_else(|| missing("message_id"))?.into(),
        plan,
        first_failed_at: text_header(headers, FIRST_FAILED_AT).and_then(|t| t.parse().ok()),
        put_off_in: deferred_in(headers),
        is_again: headers.is_some_and(|headers| headers.inner().contains_key(REPUBLISHED)),
    }))
}

fn deferred_in(headers: Option<&FieldTable>) -> Option<Deferred> {
    let run_id = EventId::try_from(text_header(headers, PUT_OFF_IN)?).ok()?.into();
    Some(Deferred { run_id, since: text_header(headers, PUT_OFF_SINCE)?.parse().ok()? })
}

/// The handler versions that the sender of this copy knew; `None` if they do not matter.
pub fn handlers_seen(delivery: &Delivery, names: &Names) -> Option<HandlerVersions> {
    let headers = delivery.properties.headers().as_ref();
    text_header(headers, HANDLERS).filter(|_| came_by_ladder(delivery, names))?.parse().ok()
}

/// Whether it came through the delay ladder, into which only provisiond publishes.
pub(super) fn came_by_ladder(delivery: &Delivery, names: &Names) -> bool {
    delivery.exchange.starts_with(&names.delay_prefix())
}

/// The approximate size of a table on the wire.
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
