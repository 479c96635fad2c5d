//! Tests which retries are overdue.

use super::*;
use crate::domain::{
    dead_letter::{DeadLetter, DeadLetterMessage},
    handler::HandlerId,
    trace::Trace,
};

/// An attempt from ten minutes ago whose retry was due five minutes ago.
fn retrying(event: &str) -> Execution {
    let at = now() - 10.minutes();
    Execution { retry_at: Some(at + 5.minutes()), ..for_event(event, failed(at, "circuit open")) }
}

/// `execution` of this event, in the event's first run.
fn for_event(event: &str, mut execution: Execution) -> Execution {
    execution.event.id = event.to_owned().try_into().expect("an id");
    execution.run_id = execution.event.id.clone().into();
    execution
}

/// `execution` as a retry copy runs it, which is another run.
fn in_next_run(mut execution: Execution) -> Execution {
    execution.run_id = execution.run_id.next("7/1");
    execution
}

fn dead_letter(event: &str, handler: Option<i64>) -> DeadLetterMessage {
    let facts: DeadLetter = serde_json::from_value(serde_json::json!({
        "id": Uuid::now_v7(), "event_id": event, "run_id": event, "event_name": "clients.create", "object_id": "12",
        "reason": "crash_loop", "error": "died", "handler_id": handler, "handler_name": null, "attempts": 1,
        "plan": [7, 8], "plan_created": [0, 0], "first_failed_at": null, "died_at": now(),
        "worker": {"host": "w1", "pid": 42, "version": "0.1.0"},
    }))
    .expect("a letter");
    let body = bytes::Bytes::from_static(b"{}");
    DeadLetterMessage {
        facts,
        body,
        content_type: None,
        exchange: None,
        routing_key: None,
        trace: Trace::default(),
    }
}

#[tokio::test]
async fn a_retry_is_overdue_until_anything_follows_it() {
    let later = now() - 4.minutes();
    let next_run = |event| in_next_run(for_event(event, done(later)));
    let handler = |mut execution: Execution, id: Option<i64>| {
        execution.handler = execution.handler.filter(|_| id.is_some());
        if let (Some(known), Some(id)) = (&mut execution.handler, id) {
            known.id = HandlerId(id);
        }
        execution
    };
    let off = Execution { status: Status::Skipped, disposition: Disposition::HandlerOff, ..next_run("e") };
    let earlier = for_event("e", done(now() - 11.minutes()));
    let slow_clock = in_next_run(earlier.clone());
    for (case, executions, dead_letters, expected) in [
        ("nothing", vec![], vec![], 1),
        ("the same attempt, which had been put off", vec![next_run("e")], vec![], 0),
        ("an attempt that failed", vec![in_next_run(for_event("e", failed(later, "500")))], vec![], 0),
        ("it is switched off", vec![off.clone()], vec![], 0),
        ("another handler has its number", vec![handler(off, None)], vec![], 0),
        ("another worker did it meanwhile", vec![earlier], vec![], 0),
        ("a worker whose clock is late", vec![slow_clock], vec![], 0),
        ("another handler", vec![handler(next_run("e"), Some(8))], vec![], 1),
        ("no handler", vec![handler(next_run("e"), None)], vec![], 1),
        ("another event", vec![next_run("f")], vec![], 1),
        ("its dead letter", vec![], vec![dead_letter("e", Some(7))], 0),
        ("the dead letter of the whole plan", vec![], vec![dead_letter("e", None)], 0),
        ("the dead letter of another handler", vec![], vec![dead_letter("e", Some(8))], 1),
    ] {
        let database = Database::migrated().await;
        let store = database.store();
        store.insert_executions(&[retrying("e")]).await.expect("written");
        store.insert_executions(&executions).await.expect("written");
        store.insert_dead_letters(&dead_letters).await.expect("written");
        assert_eq!(store.overdue_retries().await.expect("counted"), expected, "{case}");
    }
}
