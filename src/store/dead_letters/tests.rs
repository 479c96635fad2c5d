use bytes::Bytes;
use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        dead_letter::{DeadLetter, Reason, State},
        handler::HandlerId,
        trace::Trace,
    },
    store::{Cursor, testing::Database},
};

fn dead_letter(at: Timestamp) -> DeadLetterMessage {
    let meta = serde_json::json!({
        "id": Uuid::now_v7(), "event_id": "e1", "run_id": "e1", "event_name": "clients.create",
        "object_id": "12", "reason": "exhausted", "error": "status 500", "handler_id": 7,
        "handler_name": "CRM", "attempts": 8, "plan": [7, 9], "plan_created": [70, 0], "first_failed_at": at, "died_at": at,
        "worker": {"host": "w1", "pid": 42, "version": "0.1.0"},
    });
    DeadLetterMessage {
        facts: serde_json::from_value(meta).expect("a letter"),
        body: Bytes::from_static(br#"{"data":{"name":"Anna"}}"#),
        content_type: Some("application/json".into()),
        exchange: None,
        routing_key: None,
        trace: Trace::default(),
    }
}

/// The dead letter of a message that is not a valid event.
fn malformed(at: Timestamp) -> DeadLetterMessage {
    let mut message = dead_letter(at);
    message.facts = DeadLetter {
        event_id: Some("x".repeat(9000)),
        run_id: None,
        event_name: "Strange\0 name".into(),
        object_id: None,
        reason: Reason::Malformed,
        error: "not UTF-8".into(),
        handler_id: None,
        handler_name: None,
        plan: vec![],
        first_failed_at: None,
        worker: None,
        ..message.facts
    };
    message.body = Bytes::from_static(b"\xff\0caf\xc3\xa9 100% \\ end");
    message.exchange = Some("provisioning.events".into());
    message
}

fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).expect("a time")
}

#[tokio::test]
async fn dead_letters_are_read_back() {
    let database = Database::migrated().await;
    let store = database.store();
    let batch = [dead_letter(now()), malformed(now())];
    assert_eq!(store.insert_dead_letters(&batch).await.expect("written"), 2);
    assert_eq!(store.insert_dead_letters(&batch).await.expect("nothing new"), 0);

    let read = store.dead_letter(batch[0].facts.id).await.expect("there");
    let json = |meta: &DeadLetter| serde_json::to_value(meta).expect("JSON");
    assert_eq!(json(&read.row.letter), json(&batch[0].facts));
    assert_eq!((read.body, read.content_type), (batch[0].body.clone(), Some("application/json".into())));
    let read = store.dead_letter(batch[1].facts.id).await.expect("there");
    assert_eq!(read.body, batch[1].body);
    assert_eq!(read.row.letter.event_name, "Strange\u{fffd} name");
    assert!(read.row.letter.plan.is_empty() && read.row.letter.worker.is_none());
    assert_eq!(read.exchange.as_deref(), Some("provisioning.events"));
}

#[tokio::test]
async fn every_filter_finds_its_own() {
    let database = Database::migrated().await;
    let store = database.store();
    let at = now() - 1.hour();
    let (usual, odd) = (dead_letter(at), malformed(at + 1.minute()));
    store.insert_dead_letters(&[usual.clone(), odd.clone()]).await.expect("written");
    let any = DeadLetterFilter::default;
    let text = |text: &str| DeadLetterFilter { text: Some(text.into()), ..any() };
    for (filter, expected) in [
        (any(), vec![&odd, &usual]),
        (DeadLetterFilter { event: Some("Strange\0 name".into()), ..any() }, vec![&odd]),
        (DeadLetterFilter { event_id: Some("x".repeat(9000)), ..any() }, vec![&odd]),
        (DeadLetterFilter { event_id: Some("x".repeat(8999)), ..any() }, vec![]),
        (DeadLetterFilter { handler: Some(HandlerId(7)), ..any() }, vec![&usual]),
        (DeadLetterFilter { reason: Some(Reason::Malformed), ..any() }, vec![&odd]),
        (DeadLetterFilter { object_id: Some("12".into()), ..any() }, vec![&usual]),
        (DeadLetterFilter { since: Some(odd.facts.died_at), ..any() }, vec![&odd]),
        (DeadLetterFilter { until: Some(odd.facts.died_at), ..any() }, vec![&usual]),
        (DeadLetterFilter { state: Some(State::Discarded), ..any() }, vec![]),
        (text("anna"), vec![&usual]),
        (text("STATUS 500"), vec![&usual]),
        (text("café 100% \\ end"), vec![&odd]),
        (text("100_"), vec![]),
    ] {
        let page = store.list_dead_letters(&filter, 10, None).await.expect("a page");
        let ids: Vec<Uuid> = page.items.iter().map(|row| row.letter.id).collect();
        assert_eq!(ids, expected.into_iter().map(|d| d.facts.id).collect::<Vec<_>>(), "{filter:?}");
    }
}

#[tokio::test]
async fn pages_and_counts_agree() {
    let database = Database::migrated().await;
    let store = database.store();
    let at = now();
    let mut batch: Vec<DeadLetterMessage> = (0..10).map(|_| dead_letter(at)).collect();
    batch.extend((0..5).map(|n| malformed(at - n.minutes())));
    store.insert_dead_letters(&batch).await.expect("written");
    let all = DeadLetterFilter::default();
    let (mut after, mut seen) = (None::<Cursor>, 0);
    loop {
        let page = store.list_dead_letters(&all, 4, after).await.expect("a page");
        seen += page.items.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, 15);
    let summary = store.dead_letter_summary(&all, None).await.expect("counts");
    let counts: Vec<_> =
        summary.lines.iter().map(|l| (l.reason, l.handler_name.as_deref(), l.count)).collect();
    assert_eq!(counts, [(Reason::Exhausted, Some("CRM"), 10), (Reason::Malformed, None, 5)]);
    assert!(!summary.cut);
    let some = store.dead_letter_summary(&all, Some(7)).await.expect("counts");
    assert_eq!((some.total, some.cut), (7, true));
}
