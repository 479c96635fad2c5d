//! The list of event types, with the depths of their queues.

use std::collections::HashMap;

use askama::Template;
use axum::extract::State;

use crate::{
    broker::{Depth, QueueDepth, QueueKind},
    console::{
        Console,
        access::Viewer,
        pages::{
            Answer,
            fields::Query,
            format::{grouped, typed},
            html,
            layout::{Frame, Section},
            lists::groups,
        },
    },
    domain::event::EventName,
};

/// A queue with more messages than this is highlighted.
const MANY_MESSAGES: u32 = 1000;

struct Row {
    title: String,
    name: EventName,
    /// The number of enabled handlers.
    handlers: String,
    depth: String,
    has_many_messages: bool,
    consumers: String,
    is_missing: bool,
}

struct Group {
    title: String,
    rows: Vec<Row>,
}

/// A queue that all event types share.
struct Shared {
    name: String,
    contents: String,
    depth: String,
    consumers: String,
    is_missing: bool,
}

#[derive(Template)]
#[template(path = "events/list.html")]
struct ListPage {
    frame: Frame,
    broker_problem: String,
    groups: Vec<Group>,
    shared: Vec<Shared>,
}

pub async fn list(Viewer(identity): Viewer, State(console): State<Console>, Query(query): Query) -> Answer {
    let store = console.store();
    let types = store.list_event_types(false).await?;
    let handlers = store.enabled_handlers().await?;
    let waiting = console.status.waiting().await?;
    let by_event: HashMap<&EventName, &QueueDepth> = waiting
        .queues
        .iter()
        .filter_map(|queue| match &queue.kind {
            QueueKind::Event { event } => Some((event, queue)),
            _ => None,
        })
        .collect();
    let groups = groups(types).into_iter().map(|group| {
        let rows = group.types.into_iter().map(|event_type| {
            let queue = by_event.get(&event_type.name).copied();
            let handlers = handlers.get(event_type.name.as_str()).copied().unwrap_or_default();
            row(event_type.title, event_type.name, handlers, queue)
        });
        Group { title: group.title, rows: rows.collect() }
    });
    let groups = groups.collect();
    let problem = waiting.error.as_deref();
    html(&ListPage {
        frame: Frame::in_section(Section::Events, "Events", &identity).with_notice(&query),
        shared: waiting.queues.iter().filter_map(shared).collect(),
        broker_problem: problem
            .map(|error| format!("Cannot read the queue depths from RabbitMQ: {error}."))
            .unwrap_or_default(),
        groups,
    })
}

fn row(title: String, name: EventName, handlers: u64, queue: Option<&QueueDepth>) -> Row {
    let depth = queue.and_then(|queue| queue.depth);
    Row {
        title,
        name,
        handlers: grouped(handlers),
        depth: depth_text(depth, |depth| depth.messages),
        has_many_messages: depth.is_some_and(|depth| depth.messages > MANY_MESSAGES),
        consumers: depth_text(depth, |depth| depth.consumers),
        is_missing: queue.is_some_and(|queue| queue.depth.is_none()),
    }
}

fn depth_text(depth: Option<Depth>, value: fn(Depth) -> u32) -> String {
    depth.map_or_else(|| "–".to_owned(), |depth| grouped(u64::from(value(depth))))
}

/// The row of a shared queue. Empty queues of the delay ladder are left out.
fn shared(queue: &QueueDepth) -> Option<Shared> {
    let contents = match &queue.kind {
        QueueKind::Event { .. } => return None,
        QueueKind::ExecutionLog => "Results, until a recorder has written them".to_owned(),
        QueueKind::DeadLetters => "Dead letters, until a recorder has written them".to_owned(),
        QueueKind::Unrouted => {
            "Events that no queue took, until a recorder makes dead letters of them".to_owned()
        }
        QueueKind::Delay { seconds } => {
            if queue.depth.is_some_and(|depth| depth.messages == 0) {
                return None;
            }
            let delay = std::time::Duration::from_secs(u64::from(*seconds));
            format!("Retries; each one waits here for {}", typed(delay))
        }
    };
    let depth = queue.depth;
    Some(Shared {
        name: queue.queue.clone(),
        contents,
        depth: depth_text(depth, |depth| depth.messages),
        consumers: depth_text(depth, |depth| depth.consumers),
        is_missing: depth.is_none(),
    })
}
