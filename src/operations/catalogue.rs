//! Adds and removes event types, together with their queues.

use crate::{
    broker::BrokerSettings,
    domain::event::EventName,
    store::{EventType, Store, StoreError},
};

/// An event type to add.
#[derive(Clone, Debug)]
pub struct NewEventType {
    pub name: EventName,
    /// The heading in lists and forms. If absent: that of an event type with the same beginning of the name,
    /// or `Other`.
    pub group: Option<String>,
    /// The name shown in lists and forms. If absent: the last part of the event name.
    pub title: Option<String>,
}

/// Adds an event type and declares its queue.
///
/// The queue is declared before the type is committed, so that nobody sees a type to which they cannot
/// publish.
///
/// # Errors
/// [`StoreError::Refused`] if the type is in the catalogue already or a text is not usable. Else the broker
/// or the database is away.
pub async fn add_event_type(
    store: &Store,
    broker: &BrokerSettings,
    new: NewEventType,
) -> anyhow::Result<EventType> {
    let NewEventType { name, group, title } = new;
    let group = match group {
        Some(group) => group,
        None => guessed_group(store, &name).await?,
    };
    let title =
        title.unwrap_or_else(|| name.as_str().rsplit('.').next().unwrap_or_default().replace('_', " "));
    let connection = broker.dial_for(store.installation().await?, "events add").await?;
    let pending = store.add_event_type(&name, &group, &title).await?;
    broker.topology.declare(&connection).await?;
    broker.topology.declare_event(&connection, &name).await?;
    Ok(pending.commit().await?)
}

/// The group of another event type with the same name up to the last dot.
async fn guessed_group(store: &Store, name: &EventName) -> Result<String, StoreError> {
    let parent = |name: &EventName| name.as_str().rsplit_once('.').map(|(parent, _)| parent.to_owned());
    let types = store.list_event_types(false).await?;
    let neighbour = types.into_iter().find(|t| parent(&t.name) == parent(name));
    Ok(neighbour.map_or_else(|| "Other".to_owned(), |t| t.group_title))
}

/// Removes an event type and unbinds its queue. Workers still consume what the queue holds.
///
/// # Errors
/// [`StoreError::Refused`] while handlers name the type. Else the broker or the database is away.
pub async fn remove_event_type(
    store: &Store,
    broker: &BrokerSettings,
    name: &EventName,
) -> anyhow::Result<EventType> {
    let connection = broker.dial_for(store.installation().await?, "events remove").await?;
    let pending = store.remove_event_type(name).await?;
    broker.topology.unbind_event(&connection, name).await?;
    let removed = match pending.commit().await {
        Ok(removed) => removed,
        Err(error) => {
            // The type is still in the catalogue: bind its queue again.
            broker.topology.declare_event(&connection, name).await?;
            return Err(error.into());
        }
    };
    // A worker that connected before the commit still knew the type and bound its queue again.
    broker.topology.unbind_event(&connection, name).await?;
    Ok(removed)
}
