//! Publishes one event by hand, as the platform would.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    broker::{BrokerSettings, event, is_not_found, publish_all, queue_depth},
    domain::event::{EventId, EventName, ObjectId, compose_fitting},
};

/// An event to publish.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub name: EventName,
    pub object_id: ObjectId,
    /// A JSON object.
    pub data: Box<RawValue>,
    /// If absent: a random id.
    pub id: Option<EventId>,
}

/// An event that the broker has confirmed.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Published {
    pub event_id: EventId,
    pub event: EventName,
    /// Whether the event type has a queue. If not, the event becomes a dead letter (`unrouted`).
    pub has_queue: bool,
}

/// Publishes an event.
///
/// # Errors
/// [`Malformed`](crate::domain::event::Malformed): no worker would accept the event; nothing was published.
/// Else the broker is away or does not confirm: then it is unknown whether it has the event.
pub async fn publish_event(
    broker: &BrokerSettings,
    new: NewEvent,
    max_event_bytes: usize,
) -> anyhow::Result<Published> {
    let NewEvent { name, object_id, data, id } = new;
    let body = compose_fitting(&name, &object_id, &data, Timestamp::now(), max_event_bytes)?;
    let event_id = id.unwrap_or_else(|| EventId::from_message_id(&Uuid::now_v7().to_string()));
    let names = &broker.topology.names;
    let connection = broker.dial("publish").await?;
    let has_queue = queue_depth(&connection, &names.event_queue(&name)).await?.is_some();
    let message = event(names, &name, &event_id, body);
    publish_all(&connection, std::iter::once(message), || ()).await.map_err(|error| {
        if is_not_found(&error) {
            let exchange = names.events();
            return error
                .context(format!("the exchange {exchange} does not exist: it is declared when a worker starts"));
        }
        error.context(format!(
            "the broker did not confirm the event {event_id}, but may have stored it: look for its executions before you \
             publish it again, or publish it again with the same id"
        ))
    })?;
    Ok(Published { event_id, event: name, has_queue })
}
