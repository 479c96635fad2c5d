use std::time::Instant;

use jiff::{Timestamp, ToSpan};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        execution::{Disposition, Status},
        handler::HandlerId,
    },
    store::{Cursor, testing::Database},
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

/// A time as the database keeps it.
fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).expect("a time")
}

async fn ids(store: &Store, filter: &ExecutionFilter) -> Vec<Uuid> {
    let page = store.list_executions(filter, 100, None).await.expect("a page");
    page.items.iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn what_was_written_is_read() {
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
async fn a_batch_that_comes_again_adds_only_what_is_new() {
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
async fn what_cannot_be_stored_is_told_from_what_is_down() {
    let database = Database::migrated().await;
    let store = database.store();
    let wrong = Execution { status: Status::Fail, ..done(now()) };
    let error = store.insert_executions(&[done(now()), wrong]).await.expect_err("refused");
    let StoreError::BadData(told) = &error else { panic!("{error:?}") };
    assert_eq!(told.constraint.as_deref(), Some("executions_disposition"));
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
    let nobody = crate::store::testing::connect("postgres://postgres@127.0.0.1:1/none");
    let error = nobody.insert_executions(&[done(now())]).await.expect_err("down");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn every_filter_finds_its_own() {
    let database = Database::migrated().await;
    let store = database.store();
    let at = now() - 1.hour();
    let plain = done(at);
    let mut other = done(at + 1.minute());
    other.event.name = "clients.delete".parse().expect("a name");
    other.event.object_id = "a-7".into();
    other.event.id = "e2".to_owned().try_into().expect("an id");
    other.handler.as_mut().expect("one").id = HandlerId(8);
    other.request = raw(r#"{"data":{"name":"M\u00fcller","path":"a\/b","share":"50%"}}"#);
    let error = failed(at + 2.minutes(), "connection refused (os error 111)");
    let mut script = done(at + 3.minutes());
    script.response.as_mut().expect("one").stderr = Some("Traceback".into());
    let batch = [plain.clone(), other.clone(), error.clone(), script.clone()];
    store.insert_executions(&batch).await.expect("written");

    let any = ExecutionFilter::default;
    let data = |text: &str| ExecutionFilter { data: Some(text.into()), ..any() };
    let error_text = |text: &str| ExecutionFilter { error: Some(text.into()), ..any() };
    for (filter, found) in [
        (any(), vec![&script, &error, &other, &plain]),
        (ExecutionFilter { status: Some(Status::Fail), ..any() }, vec![&error]),
        (ExecutionFilter { status: Some(Status::Success), ..any() }, vec![&script, &other, &plain]),
        (ExecutionFilter { disposition: Some(Disposition::Retrying), ..any() }, vec![&error]),
        (ExecutionFilter { event: Some(other.event.name.clone()), ..any() }, vec![&other]),
        (ExecutionFilter { handler: Some(HandlerId(8)), ..any() }, vec![&other]),
        (ExecutionFilter { object_id: Some("a-7".into()), ..any() }, vec![&other]),
        (ExecutionFilter { event_id: Some(other.event.id.clone()), ..any() }, vec![&other]),
        (ExecutionFilter { since: Some(error.started_at), ..any() }, vec![&script, &error]),
        (ExecutionFilter { until: Some(other.started_at), ..any() }, vec![&plain]),
        (data("traceback"), vec![&script]),
        (data("müller"), vec![&other]),
        (data("Müller"), vec![&other]),
        (data("a/b"), vec![&other]),
        (data("50%"), vec![&other]),
        (data("5_%"), vec![]),
        (error_text("REFUSED (os"), vec![&error]),
        (error_text("50%"), vec![]),
        (ExecutionFilter { status: Some(Status::Success), ..error_text("refused") }, vec![]),
    ] {
        let found: Vec<Uuid> = found.into_iter().map(|e| e.id).collect();
        assert_eq!(ids(store, &filter).await, found, "{filter:?}");
        // As it is asked where text is indexed, and by replays.
        let mut session = store.session().await.expect("a session");
        let rows = search::search(&mut session, &filter, TextBy::Index, 100, None).await.expect("rows");
        assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), found, "{filter:?} by an index");
    }
    let attempts = store.attempts("e1", Some(HandlerId(7))).await.expect("attempts");
    assert_eq!(attempts.iter().map(|a| a.id).collect::<Vec<_>>(), [plain.id, error.id, script.id]);
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let database = Database::migrated().await;
    let store = database.store();
    let at = now();
    // Several at the same time, over three days.
    let batch: Vec<Execution> = (0..30).map(|n| done(at - (24 * (n / 10)).hours())).collect();
    store.insert_executions(&batch).await.expect("written");
    for filter in
        [ExecutionFilter::default(), ExecutionFilter { data: Some("12".into()), ..Default::default() }]
    {
        let (mut after, mut seen) = (None::<Cursor>, Vec::new());
        loop {
            let page = store.list_executions(&filter, 7, after).await.expect("a page");
            seen.extend(page.items.iter().map(|row| (row.started_at, row.id)));
            let Some(next) = page.next else { break };
            after = Some(next.to_string().parse().expect("a cursor"));
        }
        assert_eq!(seen.len(), 30);
        assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    }
}

#[tokio::test]
async fn text_is_found_in_days_with_and_without_their_index() {
    let database = Database::migrated().await;
    let store = database.store();
    let at = now();
    let mut batch: Vec<Execution> = (0..12_i64).map(|n| done(at - (12 * n).hours())).collect();
    for (n, execution) in (0..).zip(&mut batch) {
        execution.request = raw(&format!(r#"{{"data":{{"name":"Needle {}"}}}}"#, n % 2));
    }
    store.insert_executions(&batch).await.expect("written");
    let filter = ExecutionFilter { data: Some("NEEDLE 1".into()), ..ExecutionFilter::default() };
    let expected: Vec<Uuid> = batch.iter().skip(1).step_by(2).map(|e| e.id).collect();
    assert_eq!(ids(store, &filter).await, expected, "no day is indexed");
    let mut indexed = Vec::new();
    while let Some(day) = store.index_text_of_a_day().await.expect("indexed") {
        indexed.push(day);
        assert_eq!(ids(store, &filter).await, expected, "{day} is indexed");
    }
    let today = partitions::day_of(at);
    assert!((4..=6).contains(&indexed.len()) && indexed.iter().all(|day| *day < today), "{indexed:?}");
    assert!(indexed.is_sorted_by(|a, b| a > b), "the latest first: {indexed:?}");
    // One that was interrupted is made again.
    let day = indexed[1];
    let index = format!("executions_{}_text", day.strftime("%Y%m%d"));
    database
        .psql(&format!("UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass"))
        .await;
    assert_eq!(ids(store, &filter).await, expected, "it is read instead");
    assert_eq!(store.index_text_of_a_day().await.expect("indexed"), Some(day));
    assert_eq!(store.index_text_of_a_day().await.expect("nothing to do"), None);
}

#[tokio::test]
async fn a_tail_follows_what_is_recorded() {
    let database = Database::migrated().await;
    let store = database.store();
    let all = ExecutionFilter::default();
    let (late, early) = (done(now()), done(now() - 1.hour()));
    store.insert_executions(std::slice::from_ref(&late)).await.expect("written");
    assert!(store.tail_executions(&all, 10, None).await.expect("a tail").is_empty(), "too fresh");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let first = store.tail_executions(&all, 10, None).await.expect("a tail");
    assert_eq!(first.iter().map(|row| row.id).collect::<Vec<_>>(), [late.id]);
    // It started before the other, and was recorded after.
    store.insert_executions(std::slice::from_ref(&early)).await.expect("written");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let place = Some(Cursor { at: first[0].recorded_at, id: first[0].id });
    let next = store.tail_executions(&all, 10, place).await.expect("a tail");
    assert_eq!(next.iter().map(|row| row.id).collect::<Vec<_>>(), [early.id]);
}

/// Prints the rates that `PERFORMANCE.md` is compared with.
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
