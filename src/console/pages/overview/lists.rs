//! The short lists of the overview: failing handlers, open circuits, queues, processes.

use std::time::Duration;

use crate::{
    broker::{QueueDepth, QueueKind},
    console::pages::{
        fields::Fields,
        format::{ago, capital, grouped, handler_name, short, typed},
    },
    domain::{handler::Status, process::Concern},
    status::{StatusSnapshot, Waiting},
    store::SeenProcess,
};

/// The most queues in the list. The deepest ones are listed.
const MAX_QUEUES: usize = 8;

/// A handler with failed attempts.
pub struct Failing {
    pub name: String,
    pub ratio: String,
    pub failures: u64,
    pub attempts: u64,
    pub is_off: bool,
    pub href: String,
    pub page: String,
}

/// The circuit of a handler on one worker that is not closed.
pub struct Circuit {
    pub handler: String,
    pub page: String,
    pub state: &'static str,
    pub worker: String,
    pub since: String,
    pub error: String,
}

/// A queue that needs attention, see [`queues`].
pub struct Queue {
    pub name: String,
    pub waiting: String,
    pub consumers: String,
    pub is_missing: bool,
    pub is_alone: bool,
}

pub struct Process {
    pub name: String,
    pub roles: String,
    pub version: String,
    pub started: String,
    pub seen: String,
    pub in_flight: String,
    pub state: String,
    pub tone: &'static str,
}

pub fn failing(snapshot: &StatusSnapshot) -> Vec<Failing> {
    let lines = snapshot.failing_handlers.iter().map(|failing| Failing {
        name: handler_name(failing.handler_id, failing.handler_name.as_deref(), failing.status.is_none()),
        ratio: format!("{} of {}", grouped(failing.counts.failures), grouped(failing.counts.attempts)),
        failures: failing.counts.failures,
        attempts: failing.counts.attempts.max(1),
        is_off: failing.status.is_some_and(|status| status != Status::Enabled),
        href: Fields::default()
            .with("handler", failing.handler_id.to_string())
            .with("status", "fail")
            .with("since", snapshot.failing_since.to_string())
            .href("/executions"),
        page: match failing.status {
            Some(_) => format!("/handlers/{}", failing.handler_id),
            // A deleted handler has no page any more, but its executions remain.
            None => Fields::default().with("handler", failing.handler_id.to_string()).href("/executions"),
        },
    });
    lines.collect()
}

pub fn circuits(snapshot: &StatusSnapshot) -> Vec<Circuit> {
    let workers =
        snapshot.processes.iter().filter_map(|seen| Some((seen, seen.process.report.worker.as_ref()?)));
    let circuits =
        workers.flat_map(|(seen, worker)| worker.circuits.iter().map(move |circuit| (seen, circuit)));
    let named = |id| {
        let failing = snapshot.failing_handlers.iter().find(|failing| failing.handler_id == id);
        let name = failing.and_then(|failing| failing.handler_name.as_deref());
        handler_name(id, name, failing.is_some_and(|failing| failing.status.is_none()))
    };
    circuits
        .map(|(seen, circuit)| Circuit {
            handler: named(circuit.handler_id),
            page: format!("/handlers/{}", circuit.handler_id),
            state: circuit.state.as_str(),
            worker: process_name(seen),
            since: ago(circuit.since),
            error: short(&circuit.error, 200),
        })
        .collect()
}

/// The number of events that wait in this queue. `None` for a queue that is not of an event type.
pub fn waiting_events(queue: &QueueDepth) -> Option<u64> {
    let depth = queue.depth.filter(|_| matches!(queue.kind, QueueKind::Event { .. }))?;
    Some(u64::from(depth.messages))
}

/// The queues that need attention, the deepest first: missing, without a consumer, or not empty.
pub fn queues(waiting: &Waiting) -> Vec<Queue> {
    let mut relevant: Vec<&QueueDepth> = waiting
        .queues
        .iter()
        .filter(|queue| match queue.depth {
            None => true,
            Some(depth) => has_consumers(&queue.kind) && (depth.messages > 0 || depth.consumers == 0),
        })
        .collect();
    relevant.sort_by_key(|queue| std::cmp::Reverse(queue.depth.map_or(u32::MAX, |depth| depth.messages)));
    let lines = relevant.into_iter().take(MAX_QUEUES).map(|queue| {
        let number =
            |value: Option<u32>| value.map_or_else(|| "–".to_owned(), |value| grouped(u64::from(value)));
        Queue {
            name: match &queue.kind {
                QueueKind::Event { event } => event.to_string(),
                QueueKind::ExecutionLog => "execution log".to_owned(),
                QueueKind::DeadLetters => "dead letters".to_owned(),
                QueueKind::Unrouted => "unrouted".to_owned(),
                QueueKind::Delay { seconds } => {
                    format!("retries that wait {}", typed(Duration::from_secs(u64::from(*seconds))))
                }
            },
            waiting: number(queue.depth.map(|depth| depth.messages)),
            consumers: number(queue.depth.map(|depth| depth.consumers)),
            is_missing: queue.depth.is_none(),
            is_alone: has_consumers(&queue.kind) && queue.depth.is_some_and(|depth| depth.consumers == 0),
        }
    });
    lines.collect()
}

/// The queues of the delay ladder have no consumers, because RabbitMQ itself moves their messages. The overview counts
/// the retries in them in a tile of their own.
const fn has_consumers(kind: &QueueKind) -> bool {
    !matches!(kind, QueueKind::Delay { .. })
}

fn process_name(seen: &SeenProcess) -> String {
    format!("{}:{}", seen.process.who.host, seen.process.who.pid)
}

pub fn processes(seen: &[SeenProcess]) -> Vec<Process> {
    let lines = seen.iter().map(|seen| {
        let process = &seen.process;
        let roles: Vec<_> = process.roles.iter().map(|role| role.as_str()).collect();
        let (state, tone) = state(seen);
        Process {
            name: process_name(seen),
            roles: roles.join(", "),
            version: process.who.version.clone(),
            started: ago(process.started_at),
            seen: format!("{} s ago", seen.silent_ms / 1000),
            in_flight: process
                .report
                .worker
                .as_ref()
                .map_or_else(|| "–".to_owned(), |worker| grouped(worker.in_flight)),
            state: capital(&state),
            tone,
        }
    });
    lines.collect()
}

fn state(seen: &SeenProcess) -> (String, &'static str) {
    let (state, concern) = seen.process.report.state();
    let tone = match concern {
        Concern::Well => "good",
        Concern::Passing => "warn",
        Concern::Trouble => "bad",
    };
    (short(&state, 120), tone)
}
