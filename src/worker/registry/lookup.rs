//! Measures how long it takes to find the handlers of an event: `script/bench lookup`.

use std::{hint::black_box, time::Instant};

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::{
    domain::{
        event::EventName,
        handler::{Handler, HandlerId},
        retry::RetryPolicy,
    },
    store::RegisteredHandler,
};

const LOOKUPS: usize = 1_000_000;
const ROUNDS: usize = 5;

/// `count` handlers of `types` event types. The first of each type is enabled, the others are archived.
fn registry(count: usize, types: usize) -> (Arc<Registry>, Vec<EventName>) {
    let interval = Duration::from_secs(10);
    let retry = RetryPolicy {
        max_attempts: 1,
        initial_interval: interval,
        multiplier: 1.0,
        max_interval: interval,
        jitter: 0.0,
    };
    let registry = Registry::new(HandlerDefaults { retry, http_timeout: interval, script_timeout: interval });
    let events: Vec<EventName> =
        (0..types).map(|n| format!("clients.event_{n}.create").parse().expect("a name")).collect();
    let handlers = (1..).zip(events.iter().cycle()).take(count).map(|(id, event)| {
        let task = json!({"type": "http", "url": "http://127.0.0.1:5000/api"});
        let status = if id <= i64::try_from(types).expect("few") { "enabled" } else { "archived" };
        let spec = json!({"name": "CRM", "event": event, "task": task, "status": status});
        let handler = Handler {
            id: HandlerId(id),
            spec: serde_json::from_value(spec).expect("a handler"),
            signed: false,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            version: 1,
        };
        RegisteredHandler { handler, secrets: Vec::new(), unusable: None }
    });
    let handlers = handlers.collect();
    registry.load(store::Registry { event_types: Vec::new(), handlers, unreadable: Vec::new() });
    (registry, events)
}

/// Nanoseconds for the plan of an event and its handler, as a worker looks them up.
fn nanoseconds(registry: &Registry, events: &[EventName]) -> f64 {
    let started = Instant::now();
    // A stride that is coprime to the counts visits all events in an order that no cache predicts.
    let order = (0..LOOKUPS).map(|n| &events[n * 48_271 % events.len()]);
    for event in order {
        let mut plan = registry.snapshot().plan(black_box(event));
        let step = plan.take_next().expect("a handler");
        let handler = registry.snapshot().enabled(step.handler, event).expect("it is enabled");
        assert_eq!(handler.handler.spec.event, *event);
        black_box(handler);
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(LOOKUPS).expect("few"))
}

fn measure(handlers: usize, types: usize) -> String {
    let (registry, events) = registry(handlers, types);
    let mut timings: Vec<_> = (0..ROUNDS).map(|_| nanoseconds(&registry, &events)).collect();
    timings.sort_by(f64::total_cmp);
    format!("{:.0} ({:.0}–{:.0})", timings[ROUNDS / 2], timings[0], timings[ROUNDS - 1])
}

/// The two extremes: fifteen event types, which stay in the processor's cache, and one event type for each
/// handler, which do not.
#[test]
#[ignore = "a measurement: script/bench lookup"]
fn measured() {
    println!("\n## Finding the handler of an event, ns: median (least–most)\n");
    println!("| handlers | of 15 event types | each of a type of its own |\n|--:|--:|--:|");
    for count in [15, 1_000, 100_000] {
        println!("| {count} | {} | {} |", measure(count, 15), measure(count, count));
    }
}
