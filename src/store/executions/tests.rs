mod overdue;
mod searches;

use std::time::Instant;

use jiff::{Timestamp, ToSpan};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::*;
use crate::{
    domain::execution::{Disposition, Status},
    store::testing::Database,
};

/// An execution that succeeded, started at `at`.
fn done(at: Timestamp) -> Execution {
    let mut execution: Execution = serde_json::from_value(serde_json::json!({
        "id": Uuid::now_v7(), "run_id": "e1", "attempt": 1, "max_attempts": 8,
        "event": {"id": "e1", "name": "clients.create", "object_id": "12", "dt": "2026-01-01T00:00:00Z"},
        "handler": {"id": 7, "name": "CRM", "priority": 100, "mode": "notify",
            "task": {"type": "http", "target": "http://127.0.0.1:5000/api"}},
        "status": "success", "disposition": "done", "error": null, "request": null,
        "response": {"http_status": 200, "body": "ok", "truncated": false},
        "modified": false, "retry_at": null, "started_at": at, "duration_ms": 12,
        "worker": {"host": "w1", "pid": 42, "version": "0.1.0"}, "trace_id": null,
    }))
    .expect("an execution");
    execution.request = raw(r#"{"event":{},"data":{"id":12}}"#);
    execution
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("JSON")
}

fn failed(at: Timestamp, error: &str) -> Execution {
    let error = Some(error.to_owned());
    Execution { status: Status::Fail, disposition: Disposition::Retrying, error, ..done(at) }
}

fn json(execution: &Execution) -> String {
    serde_json::to_string(execution).expect("JSON")
}

/// The current time, with the precision of the database.
fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).expect("a time")
}

async fn ids(store: &Store, filter: &ExecutionFilter) -> Vec<Uuid> {
    let page = store.list_executions(filter, 100, None).await.expect("a page");
    page.items.iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn executions_are_read_back() {
    let database = Database::migrated().await;
    let store = database.store();
    let mut full = done(now());
    full.request = raw("{\"event\": {},\t\"data\":{\"a\":\"x\\u0000y\\ud83d\",\"b\":1e400, \"b\":2}}");
    full.retry_at = Some(now());
    full.trace_id = Some("0af7651916cd43dd8448eb211c80319c".into());
    full.event.object_id = "long".repeat(2000);
    let mut bare = failed(now(), "no\0answer");
    bare.handler = None;
    bare.response = None;
    bare.worker.pid = u32::MAX;
    bare.duration_ms = u64::MAX;
    let batch = [full, bare];

    assert_eq!(store.insert_executions(&batch).await.expect("written, with a partition made"), 2);
    let read = store.execution(batch[0].id).await.expect("there");
    assert_eq!(json(&read), json(&batch[0]));
    assert_eq!(read.request.get(), batch[0].request.get(), "byte for byte");
    let read = store.execution(batch[1].id).await.expect("there");
    assert_eq!(read.error.as_deref(), Some("no\u{fffd}answer"));
    assert_eq!(read.duration_ms, i64::MAX.unsigned_abs());
    assert!(matches!(store.execution(Uuid::nil()).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn a_repeated_batch_adds_only_new_rows() {
    let database = Database::migrated().await;
    let store = database.store();
    let mut batch = vec![done(now()), done(now() - 24.hours()), done(now())];
    assert_eq!(store.insert_executions(&batch).await.expect("written"), 3);
    batch.push(done(now() + 72.hours()));
    batch.push(batch[0].clone());
    assert_eq!(store.insert_executions(&batch).await.expect("written"), 1);
    assert_eq!(store.insert_executions(&[]).await.expect("nothing to do"), 0);
}

#[tokio::test]
async fn bad_data_and_an_unreachable_database_are_told_apart() {
    let database = Database::migrated().await;
    let store = database.store();
    let wrong = Execution { status: Status::Fail, ..done(now()) };
    let error = store.insert_executions(&[done(now()), wrong]).await.expect_err("refused");
    let StoreError::BadData(sql_error) = &error else { panic!("{error:?}") };
    assert_eq!(sql_error.constraint.as_deref(), Some("executions_disposition"));
    assert!(!format!("{error:?}").contains("data"), "the row is not quoted: {error:?}");
    let ancient = done("-000100-01-01T00:00:00Z".parse().expect("a time"));
    let error = store.insert_executions(&[ancient]).await.expect_err("refused");
    assert!(matches!(error, StoreError::BadData(_)), "{error:?}");
    for extreme in [Timestamp::MIN, Timestamp::MAX] {
        let mut odd = done(now());
        odd.event.dt = extreme;
        let outcome = store.insert_executions(&[odd]).await;
        assert!(matches!(outcome, Ok(1) | Err(StoreError::BadData(_))), "{extreme}: {outcome:?}");
    }
    let offline = crate::store::testing::connect("postgres://postgres@127.0.0.1:1/none");
    let error = offline.insert_executions(&[done(now())]).await.expect_err("down");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

/// Prints the insert rates, to compare with `docs/performance.md`.
#[tokio::test]
#[ignore = "a measurement: run it alone, in a release build"]
async fn insert_rates() {
    let database = Database::migrated().await;
    let store = database.store();
    store.ensure_partitions(1).await.expect("made");
    for size in [1, 10, 100, 500, 500, 100] {
        let batches: Vec<Vec<Execution>> = (0..(20_000 / size).min(500))
            .map(|_| {
                let rows = (0..size).map(|_| {
                    let mut row = done(now());
                    row.event.id = Uuid::now_v7().to_string().try_into().expect("an id");
                    row.event.object_id = (row.id.as_u128() % 5000).to_string();
                    row.request = raw(&format!("{{\"data\":{{\"filler\":\"{}\"}}}}", "x".repeat(300)));
                    row
                });
                rows.collect()
            })
            .collect();
        let started = Instant::now();
        for batch in &batches {
            store.insert_executions(batch).await.expect("written");
        }
        let rows = batches.len() * size;
        let rate = rows * 1000 / usize::try_from(started.elapsed().as_millis()).expect("short");
        println!("batches of {size}: {rate} rows/s ({rows} rows)");
    }
}
