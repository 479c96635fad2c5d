//! What is no event becomes a dead letter that says why; what is legal arrives; the worker goes on.

use base64::{Engine, prelude::BASE64_STANDARD};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::json;

use crate::support::{Endpoint, World, envelope, eventually};

const GOOD: &str =
    r#"{"event":{"dt":"2026-01-01T00:00:00Z","events_id":"clients.create","object_id":OBJECT},"data":{}}"#;

/// What is no event: a name, the bytes, and what the dead letter says of them.
pub fn kinds() -> [(&'static str, Vec<u8>, &'static str); 12] {
    let large = format!("{{\"pad\":\"{}\"}}", "x".repeat(2 << 20));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let long_object = GOOD.replace("OBJECT", &format!("\"{}\"", "o".repeat(140_000)));
    let odd_time = GOOD.replace("OBJECT", "1").replace("2026-01-01T00:00:00Z", "-009000-01-01T00:00:00Z");
    let other_name = GOOD.replace("OBJECT", "1").replace("clients.create", "clients.delete");
    let wrong_types = br#"{"event":{"dt":1,"events_id":2,"object_id":3},"data":{}}"#;
    [
        ("long-object", long_object.into(), "at most 1024 bytes"),
        ("odd-time", odd_time.into(), "RFC 3339"),
        ("empty", Vec::new(), "expected"),
        ("not-json", b"hello".to_vec(), "expected"),
        ("cut", b"{\"event\":".to_vec(), "EOF"),
        ("wrong-shape", b"{\"foo\":1}".to_vec(), "missing field `event`"),
        ("wrong-types", wrong_types.to_vec(), "invalid type"),
        ("bad-utf8", b"{\"event\":\"\xff\xfe\"}".to_vec(), "not UTF-8 at byte 10"),
        ("nul", b"\0\0\0".to_vec(), "expected"),
        ("too-large", large.into(), "at most 1048576"),
        ("too-deep", deep.into(), "nested deeper than 128"),
        ("other-name", other_name.into(), "published as clients.create"),
    ]
}

#[blocking_test]
async fn garbage_becomes_dead_letters_with_reasons_and_its_bytes() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    world.keep(recorder);
    let garbage = kinds();
    for (id, body, _) in &garbage {
        world.broker.publish("clients.create", Some(id), body).await;
    }
    let mut headers = FieldTable::default();
    headers.insert("x-large".into(), AMQPValue::LongString("h".repeat(40_000).into()));
    // A header as large as a frame may be is not carried on into the dead letter.
    headers.insert("tracestate".into(), AMQPValue::LongString("t".repeat(60_000).into()));
    let properties = BasicProperties::default().with_message_id("huge-headers".into()).with_headers(headers);
    world
        .broker
        .publish_with("clients.create", properties, envelope("clients.create", 1, &json!({})).as_bytes())
        .await;

    let dead_letters = world.wait_for_dead_letters(garbage.len() + 1).await;
    assert_eq!(
        worker.log().matches("dead-lettered malformed event").count(),
        dead_letters.len(),
        "each is told of"
    );
    world.keep(worker);
    for (id, body, expected) in garbage {
        let dead_letter = dead_letters
            .iter()
            .find(|dead_letter| dead_letter["event_id"] == id)
            .unwrap_or_else(|| panic!("no letter for {id}"));
        assert_eq!((&dead_letter["reason"], &dead_letter["plan"]), (&json!("malformed"), &json!([])), "{id}");
        let error = dead_letter["error"].as_str().unwrap();
        assert!(error.contains(expected), "{id}: {error:?} should say {expected:?}");
        let shown = world.json(&["dead-letters", "show", dead_letter["id"].as_str().unwrap()]);
        let kept = match shown["body_base64"].as_str() {
            Some(encoded) => BASE64_STANDARD.decode(encoded).unwrap(),
            None => shown["body"].as_str().unwrap().as_bytes().to_vec(),
        };
        assert_eq!(kept, body, "{id}: its bytes are kept");
    }
    let headers = dead_letters.iter().find(|dead_letter| dead_letter["event_id"] == "huge-headers").unwrap();
    assert!(headers["error"].as_str().unwrap().contains("headers"));

    let legal = envelope("clients.create", 1, &json!({"name": "a\u{0}b\u{1F600}", "deep": [[[[]]]]}));
    world.broker.publish("clients.create", Some("legal"), legal.as_bytes()).await;
    world.wait_for_executions(1, &["--status", "success"]).await;
    assert_eq!(endpoint.calls()[0].body, legal.as_bytes());
    assert_eq!(endpoint.count(), 1);
    world.end().await;
}

#[blocking_test]
async fn results_that_are_none_do_not_hold_up_the_recorder() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    let queue = world.broker.name("execution-log");
    let channel = world.broker.connection.create_channel().await.unwrap();
    for body in ["garbage", "{}", "{\"id\":1}"] {
        channel
            .basic_publish(
                "".into(),
                queue.as_str().into(),
                lapin::options::BasicPublishOptions::default(),
                body.as_bytes(),
                BasicProperties::default(),
            )
            .await
            .unwrap();
    }
    world.publish("clients.create", Some("e1"), 1, &json!({})).await;
    world.wait_for_executions(1, &["--status", "success"]).await;
    let dead_letters = world.wait_for_dead_letters(3).await;
    assert!(dead_letters.iter().all(|dead_letter| dead_letter["reason"] == "malformed"));
    world.end().await;
}

#[blocking_test]
async fn a_dead_letter_that_postgres_refuses_is_kept_with_its_body() {
    let mut world = World::new().await;
    world.serve().await;
    let meta = json!({"id": uuid::Uuid::new_v4(), "event_id": "e1", "run_id": "e1", "event_name": "x".repeat(5000),
        "object_id": null, "reason": "permanent", "error": "no", "handler_id": null, "handler_name": null, "attempts": 1,
        "plan": [], "first_failed_at": null, "died_at": "-009000-01-01T00:00:00Z", "worker": null});
    let mut headers = FieldTable::default();
    headers.insert("x-provisioning-dead-letter".into(), AMQPValue::LongString(meta.to_string().into()));
    let properties = BasicProperties::default().with_headers(headers);
    let channel = world.broker.connection.create_channel().await.unwrap();
    let queue = world.broker.name("dead-letters");
    let options = lapin::options::BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.as_str().into(), options, b"the body", properties).await.unwrap();
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert!(
        dead_letters[0]["error"].as_str().unwrap().contains("its metadata cannot be stored"),
        "{dead_letters:?}"
    );
    let shown = world.json(&["dead-letters", "show", dead_letters[0]["id"].as_str().unwrap()]);
    assert_eq!(shown["body"], "the body");
    world.end().await;
}

#[blocking_test]
async fn headers_of_ours_are_not_believed_on_what_others_publish() {
    let mut world = World::new().await;
    world.serve().await;
    let mut headers = FieldTable::default();
    headers.insert("x-provisioning-plan".into(), AMQPValue::LongString("1,2".into()));
    headers.insert("x-provisioning-event-id".into(), AMQPValue::LongString("forged".into()));
    let properties = BasicProperties::default().with_message_id("real".into()).with_headers(headers);
    world.broker.publish_with("no.such.event", properties, b"{}").await;
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!((&dead_letters[0]["event_id"], &dead_letters[0]["plan"]), (&json!("real"), &json!([])));
    world.end().await;
}

#[blocking_test]
async fn messages_that_are_large_are_held_few_at_a_time() {
    const COUNT: usize = 30;
    const MIB: usize = 1 << 20;
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.worker().await.terminate().await;
    let large = vec![b'x'; 10 * MIB];
    for n in 0..COUNT {
        world.broker.publish("clients.create", Some(&format!("large-{n}")), &large).await;
    }
    let small = envelope("clients.create", 7, &json!({}));
    world.broker.publish("clients.create", Some("small"), small.as_bytes()).await;

    let worker = world.worker().await;
    // As long as there is progress: each of them takes the broker seconds on a busy disk.
    for expected in (5..=COUNT).step_by(5) {
        eventually("five more are dead letters", || async {
            let dead_letters =
                world.broker.depth("dead-letters").await.map(|(dead_letters, _)| dead_letters as usize);
            dead_letters >= Some(expected)
        })
        .await;
    }
    eventually("the small event ran", || async { endpoint.count() == 1 }).await;
    assert_eq!(
        world.broker.depth("dead-letters").await.map(|(dead_letters, _)| dead_letters as usize),
        Some(COUNT)
    );
    let peak_mib = worker.peak_kib() / 1024;
    assert!(peak_mib < 270, "the worker held {peak_mib} MiB of {} MiB", COUNT * 10);
    world.keep(worker);

    let recorder = world.recorder().await;
    world.wait_for_dead_letters(COUNT).await;
    let peak_mib = recorder.peak_kib() / 1024;
    assert!(peak_mib < 270, "the recorder held {peak_mib} MiB of {} MiB", COUNT * 10);
    world.keep(recorder);
    world.end().await;
}
