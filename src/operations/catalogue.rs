//! Changing the catalogue, and the queues with it.

use crate::{
    broker::BrokerSettings,
    domain::event::EventName,
    store::{EventType, Store, StoreError},
};

/// An event type to be added.
#[derive(Clone, Debug)]
pub struct NewEventType {
    pub name: EventName,
    /// What it is listed under; if absent, as its neighbours.
    pub group: Option<String>,
    /// What people call it; if absent, from its name.
    pub title: Option<String>,
}

/// The queue is declared before the type is committed: whoever sees the type can publish to it.
///
/// # Errors
/// [`StoreError::Refused`] if it is in the catalogue already, or a title is none; that the broker or the database is away.
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

/// The group of an event type whose name begins alike.
async fn guessed_group(store: &Store, name: &EventName) -> Result<String, StoreError> {
    let parent = |name: &EventName| name.as_str().rsplit_once('.').map(|(parent, _)| parent.to_owned());
    let types = store.list_event_types(false).await?;
    let neighbour = types.into_iter().find(|t| parent(&t.name) == parent(name));
    Ok(neighbour.map_or_else(|| "Other".to_owned(), |t| t.group_title))
}

/// What its queue holds is still consumed.
///
/// # Errors
/// [`StoreError::Refused`] while handlers name it; that the broker or the database is away.
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
            // It is in the catalogue still: its events must reach it.
            broker.topology.declare_event(&connection, name).await?;
            return Err(error.into());
        }
    };
    // A worker that connected meanwhile knew it still, and bound it again.
    broker.topology.unbind_event(&connection, name).await?;
    Ok(removed)
}
