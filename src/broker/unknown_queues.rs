//! Finds event queues whose event type is not in the catalogue.
//!
//! A database that was restored from an older backup lacks event types that RabbitMQ still has queues for. No worker
//! consumes these queues.

use std::fmt;

use lapin::Connection;
use serde::Serialize;

use super::{client::queue_depth, management::ManagedQueue, names::Names};
use crate::domain::event::EventName;

/// A queue of an event type that is not in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UnknownQueue {
    pub queue: String,
    pub event: EventName,
    /// Messages that wait in the queue.
    pub messages: u64,
}

impl fmt::Display for UnknownQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queue, event, messages } = self;
        write!(
            f,
            "{queue} receives events, but {event} is not in the catalogue: {messages} wait, and no worker takes them. To add \
             it: provisiond events add {event}"
        )
    }
}

/// The event queues among `queues`.
pub(super) fn event_queues(names: &Names, queues: &[ManagedQueue]) -> Vec<UnknownQueue> {
    let found = queues.iter().filter_map(|managed| {
        let (queue, messages) = (managed.name.clone(), managed.messages.unwrap_or_default());
        Some(UnknownQueue { event: names.event_of(&queue)?.parse().ok()?, queue, messages })
    });
    found.collect()
}

/// The queues of `events` that exist.
pub async fn queues_of(
    connection: &Connection,
    names: &Names,
    events: &[EventName],
) -> anyhow::Result<Vec<UnknownQueue>> {
    let mut found = Vec::new();
    for event in events {
        let queue = names.event_queue(event);
        if let Some(depth) = queue_depth(connection, &queue).await? {
            found.push(UnknownQueue { queue, event: event.clone(), messages: depth.messages.into() });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_queues_of_events_are_found() {
        let queues = [
            "p.events.a.b",
            "p.events.",
            "p.events.A",
            "p.dead-letters",
            "p.delay.v1.level-1",
            "px.events.a",
        ];
        let queues: Vec<ManagedQueue> = queues
            .iter()
            .map(|name| {
                serde_json::from_value(serde_json::json!({"name": name, "messages": 3})).expect("a queue")
            })
            .collect();
        let found = event_queues(&Names::new("p"), &queues);
        assert_eq!(found.len(), 1, "{found:?}");
        let text = found[0].to_string();
        assert!(text.contains("3 wait") && text.ends_with("provisiond events add a.b"), "{text}");
    }
}
