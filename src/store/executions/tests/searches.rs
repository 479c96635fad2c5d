//! Tests what searches find.

use super::*;
use crate::{domain::handler::HandlerId, store::Cursor};

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
    for (filter, expected) in [
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
        let expected: Vec<Uuid> = expected.into_iter().map(|e| e.id).collect();
        assert_eq!(ids(store, &filter).await, expected, "{filter:?}");
        // The same search, as for indexed days and for replays.
        let mut session = store.session().await.expect("a session");
        let rows = filter.search(&mut session, TextBy::Index, 100, None).await.expect("rows");
        assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), expected, "{filter:?} by an index");
    }
    let attempts = store.attempts("e1", Some(HandlerId(7))).await.expect("attempts");
    assert_eq!(attempts.iter().map(|a| a.id).collect::<Vec<_>>(), [plain.id, error.id, script.id]);
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let database = Database::migrated().await;
    let store = database.store();
    let at = now();
    // Ten at the same time, on each of three days.
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
    // An index whose creation was interrupted is created again.
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
    // Started before the other one, but recorded after it.
    store.insert_executions(std::slice::from_ref(&early)).await.expect("written");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let place = Some(Cursor { at: first[0].recorded_at, id: first[0].id });
    let next = store.tail_executions(&all, 10, place).await.expect("a tail");
    assert_eq!(next.iter().map(|row| row.id).collect::<Vec<_>>(), [early.id]);
}
