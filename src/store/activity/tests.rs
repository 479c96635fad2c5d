use uuid::Uuid;

use super::*;
use crate::{
    domain::execution::{Disposition, Execution},
    store::testing::{Database, handler_spec},
};

fn execution(at: Timestamp, handler: Option<i64>, disposition: &str, duration_ms: u64) -> Execution {
    let disposition: Disposition = disposition.parse().expect("one");
    let handler = handler.map(|id| serde_json::json!({"id": id, "name": "CRM"}));
    serde_json::from_value(serde_json::json!({
        "id": Uuid::now_v7(), "run_id": "e1", "attempt": 1, "max_attempts": 8,
        "event": {"id": "e1", "name": "clients.create", "object_id": "12", "dt": "2026-01-01T00:00:00Z"},
        "handler": handler, "status": disposition.status(), "disposition": disposition, "error": null,
        "request": {}, "response": null, "modified": false, "retry_at": null, "started_at": at,
        "duration_ms": duration_ms, "worker": {"host": "w1", "pid": 42, "version": "0.1.0"}, "trace_id": null,
    }))
    .expect("an execution")
}

#[tokio::test]
async fn a_repeated_batch_is_counted_once() {
    let database = Database::migrated().await;
    let store = database.store();
    let now = Timestamp::now();
    let batch = [
        execution(now, Some(7), "done", 10),
        execution(now, Some(7), "done", 12),
        execution(now, Some(7), "retrying", 30_000),
        execution(now - 2.minutes(), Some(7), "dead_lettered", 1),
        execution(now, Some(8), "forbidden", 5000),
        execution(now, Some(8), "handler_off", 0),
        execution(now, None, "no_handler", 0),
        // Outside of both periods.
        execution(now - 50.hours(), Some(7), "retrying", 1),
    ];
    assert_eq!(store.insert_executions(&batch).await.expect("written"), 8);
    assert_eq!(store.insert_executions(&batch[..5]).await.expect("written"), 0);
    let mixed = [batch[0].clone(), execution(now, Some(7), "done", 11)];
    assert_eq!(store.insert_executions(&mixed).await.expect("written"), 1);
    store.forget_counts().await.expect("the old ones are gone");
    assert_eq!(database.ask("SELECT sum(executions)::text FROM execution_minutes").await, "8");

    for period in [Period::Hour, Period::Day] {
        let activity = store.activity(period).await.expect("activity");
        let Counts { done, forbidden, retrying, dead_lettered, skipped, events, p50_ms, p99_ms, .. } =
            activity.total;
        assert_eq!((done, forbidden, retrying, dead_lettered, skipped, events), (3, 1, 1, 1, 2, 0));
        assert!((9.0..15.0).contains(&p50_ms.expect("some")), "{p50_ms:?}: of the successes alone");
        assert!((4000.0..6500.0).contains(&p99_ms.expect("some")), "{p99_ms:?}");
        let sum: u64 = activity.points.iter().map(|point| point.counts.done + point.counts.retrying).sum();
        assert_eq!((sum, activity.points.len()), (4, if period == Period::Hour { 60 } else { 24 }));
        assert_eq!(activity.points[0].at, activity.since);
    }
    let failing = store.failing_handlers(10).await.expect("a list");
    assert_eq!(failing.iter().map(|f| f.handler_id.0).collect::<Vec<_>>(), [7]);
    assert_eq!(failing[0].counts, HandlerCounts { attempts: 5, failures: 2 });
    let counts = store.handler_counts(&[HandlerId(7), HandlerId(8), HandlerId(9)]).await.expect("counts");
    assert_eq!(counts[&HandlerId(8)], HandlerCounts { attempts: 1, failures: 0 });
    assert_eq!(counts.len(), 2);
}

#[tokio::test]
async fn recorders_that_write_at_once_count_everything() {
    let database = Database::migrated().await;
    let now = Timestamp::now();
    let write = |n: i64| {
        let store = database.store().clone();
        async move {
            for _ in 0..20 {
                // In two different orders: batches arrive from the broker in any order.
                let handlers: Vec<i64> = if n % 2 == 0 { (0..25).collect() } else { (0..25).rev().collect() };
                let batch: Vec<_> = handlers
                    .into_iter()
                    .map(|id| execution(now - (id % 3).minutes(), Some(id), "done", id.unsigned_abs() * 40))
                    .collect();
                store.insert_executions(&batch).await.expect("written");
            }
        }
    };
    tokio::join!(write(0), write(1), write(2), write(3));
    let activity = database.store().activity(Period::Hour).await.expect("activity");
    assert_eq!(activity.total.done, 4 * 20 * 25);
    let counts = database.store().handler_counts(&[HandlerId(3)]).await.expect("counts");
    assert_eq!(counts[&HandlerId(3)].attempts, 80);
}

#[tokio::test]
async fn an_earlier_handler_with_the_same_id_is_not_counted() {
    let database = Database::migrated().await;
    let store = database.store();
    let made = store.create_handler(&handler_spec("CRM", "clients.create"), None, "me").await.expect("made");
    let at = Timestamp::now();
    let batch = [at - 3.hours(), at].map(|at| execution(at, Some(made.id.0), "retrying", 1));
    store.insert_executions(&batch).await.expect("written");
    let counts = store.handler_counts(&[made.id]).await.expect("counts");
    assert_eq!(counts[&made.id], HandlerCounts { attempts: 1, failures: 1 });
    let failing = store.failing_handlers(10).await.expect("a list");
    assert_eq!(failing[0].counts, HandlerCounts { attempts: 1, failures: 1 });
}
