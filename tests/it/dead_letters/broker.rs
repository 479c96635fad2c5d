//! Dead letters in the broker: peeked at where they wait, and told apart where RabbitMQ itself made them.

use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicRejectOptions},
};
use serde_json::{Value, json};

use super::{Repairable, publish, replay};
use crate::support::{Endpoint, Policy, World, envelope, eventually};

/// Everything in a queue, in its order, taken out of it.
async fn drained(world: &World, queue: &str) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(message) = world.broker.take(queue).await {
        ids.push(message.delivery.properties.message_id().as_ref().expect("an id").to_string());
    }
    ids
}

#[blocking_test]
async fn peeking_leaves_the_queue_as_it_was() {
    let mut world = World::new().await;
    world.set("recorder.drain_dead_letters", "false");
    let broken = Repairable::down().await;
    world.handler("broken", "clients.create", &["--http", &broken.endpoint.url("/")]);
    let (worker, mut recorder) = (world.worker().await, world.recorder().await);
    world.keep(worker);
    publish(&world, "clients.create", 60).await;
    eventually("the letters wait", || async { world.broker.depth("dead-letters").await.unwrap().0 == 60 })
        .await;
    assert!(recorder.terminate().await.success());

    let peek = |args: &[&str]| -> Value { world.json(&[&["dead-letters", "peek"], args].concat()) };
    let order = |peeked: &Value| -> Vec<String> {
        let dead_letters = peeked.as_array().unwrap().iter();
        dead_letters
            .map(|dead_letter| dead_letter["dead_letter"]["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = peek(&["--limit", "200"]);
    assert_eq!(order(&first).len(), 60);
    let dead_letter = &first[0]["dead_letter"];
    assert_eq!((&dead_letter["handler_name"], &dead_letter["attempts"]), (&json!("broken"), &json!(1)));
    assert_eq!(
        (&dead_letter["reason"], &dead_letter["error"]),
        (&json!("permanent"), &json!("answered 400 Bad Request"))
    );
    let body: Value = serde_json::from_str(first[0]["body"].as_str().unwrap()).unwrap();
    assert!(body["data"]["number"].is_u64());
    for _ in 0..3 {
        assert_eq!(order(&peek(&["--limit", "200"])), order(&first), "the same letters in the same order");
        assert_eq!(order(&peek(&["--limit", "5"])), order(&first)[..5]);
        assert_eq!(world.broker.depth("dead-letters").await.unwrap().0, 60);
    }
    let peek_output = world.run(&["dead-letters", "peek", "--limit", "5"]);
    let expected = "recorder.drain_dead_letters is false";
    assert!(
        peek_output.stderr().contains("60 wait in") && peek_output.stderr().contains(expected),
        "{}",
        peek_output.stderr()
    );
    world.set("recorder.drain_dead_letters", "true");
    let peek_output = world.run(&["dead-letters", "peek"]);
    assert!(peek_output.stderr().contains("no recorder is running"), "{}", peek_output.stderr());
    world.run(&["dead-letters", "peek", "--queue", "events"]).assert_failed(2, "dead-letters, unrouted");
    assert_eq!(drained(&world, "dead-letters").await, order(&first), "nothing was lost or moved");
    drained(&world, "execution-log").await;
    world.end().await;
}

#[blocking_test]
async fn what_nobody_takes_can_be_peeked_at_before_the_recorder_has_it() {
    let mut world = World::new().await;
    let worker = world.worker().await;
    world.keep(worker);
    world.broker.publish("no.such.event", Some("e1"), b"anything").await;
    eventually("it is there", || async { world.broker.depth("unrouted").await.unwrap().0 == 1 }).await;
    let peeked = world.json(&["dead-letters", "peek", "--queue", "unrouted"]);
    assert_eq!((&peeked[0]["kind"], &peeked[0]["event_name"]), (&json!("event"), &json!("no.such.event")));
    assert_eq!((&peeked[0]["event_id"], &peeked[0]["body"]), (&json!("e1"), &json!("anything")));
    let recorder = world.recorder().await;
    world.keep(recorder);
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!(dead_letters[0]["reason"], "unrouted");
    let stderr = world.run(&["dead-letters", "peek"]).stderr();
    assert!(stderr.contains("the recorder is up to date"), "{stderr}");
    world.end().await;
}

#[blocking_test]
async fn an_event_that_expires_by_a_policy_is_reported_and_replayed() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let mut worker = world.worker().await;
    let recorder = world.recorder().await;
    world.keep(recorder);
    assert!(worker.terminate().await.success());
    let policy = Policy::set(&world, "events.clients.create", &json!({"message-ttl": 500}));
    world.publish("clients.create", Some("late"), 1, &json!({})).await;
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!(
        (&dead_letters[0]["reason"], &dead_letters[0]["event_id"]),
        (&json!("expired"), &json!("late"))
    );
    assert_eq!(
        (&dead_letters[0]["event_name"], &dead_letters[0]["plan"]),
        (&json!("clients.create"), &json!([]))
    );
    let error = dead_letters[0]["error"].as_str().unwrap();
    assert!(error.contains("events.clients.create for longer than a policy allows"), "{error}");
    drop(policy);
    let worker = world.worker().await;
    world.keep(worker);
    assert_eq!(replay(&world, &["--reason", "expired"])["replayed"], 1);
    let executions = world.wait_for_executions(1, &["--status", "success"]).await;
    assert_eq!(executions[0]["event"]["id"], "late", "it keeps its identity");
    world.end().await;
}

#[blocking_test]
async fn what_is_delivered_too_often_and_never_called_is_no_crash_loop() {
    let mut world = World::new().await;
    let mut worker = world.worker().await;
    let recorder = world.recorder().await;
    world.keep(recorder);
    assert!(worker.terminate().await.success());
    world.publish("clients.create", Some("often"), 1, &json!({})).await;
    let channel = world.broker.connection.create_channel().await.unwrap();
    let queue = world.broker.name("events.clients.create");
    // As if its connection were lost each time: the queue's own limit is 100.
    for _ in 0..150 {
        let got = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
        let Some(message) = got else { break };
        // RabbitMQ 4.3 counts no basic.nack.
        let options = BasicRejectOptions { requeue: true };
        channel.basic_reject(message.delivery.delivery_tag, options).await.unwrap();
    }
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!(
        (&dead_letters[0]["reason"], &dead_letters[0]["event_id"]),
        (&json!("expired"), &json!("often"))
    );
    assert!(dead_letters[0]["error"].as_str().unwrap().contains("delivery limit"));
    world.end().await;
}

#[blocking_test]
async fn a_message_with_its_own_expiration_is_reported() {
    let mut world = World::new().await;
    let mut worker = world.worker().await;
    let recorder = world.recorder().await;
    world.keep(recorder);
    assert!(worker.terminate().await.success());
    let properties = BasicProperties::default().with_message_id("short".into()).with_expiration("200".into());
    let body = envelope("clients.create", 1, &json!({}));
    world.broker.publish_with("clients.create", properties, body.as_bytes()).await;
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!(
        (&dead_letters[0]["reason"], &dead_letters[0]["event_id"]),
        (&json!("expired"), &json!("short"))
    );
    world.end().await;
}
