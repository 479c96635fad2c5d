//! What the broker does with what provisiond leaves to it, and what becomes of it.

use std::time::Duration;

use lapin::{BasicProperties, types::AMQPValue};
use serde_json::{Value, json};

use crate::support::{Endpoint, Reply, World, envelope, eventually, rabbitmqctl};

#[blocking_test]
async fn what_the_broker_gives_up_is_recorded() {
    let mut world = World::new().await;
    let mut worker = world.worker().await;
    assert!(worker.terminate().await.success());
    let body = envelope("clients.create", 1, &json!({}));
    let expiring = BasicProperties::default().with_message_id("e1".into()).with_expiration("100".into());
    world.broker.publish_with("clients.create", expiring, body.as_bytes()).await;
    let recorder = world.recorder().await;
    world.keep(recorder);
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!(
        (&dead_letters[0]["reason"], &dead_letters[0]["event_name"]),
        (&json!("expired"), &json!("clients.create"))
    );
    assert_eq!((&dead_letters[0]["event_id"], &dead_letters[0]["plan"]), (&json!("e1"), &json!([])));
    world.end().await;
}

#[blocking_test]
async fn a_retry_that_misses_its_queue_is_sent_again() {
    let mut world = World::new().await;
    let endpoint = Endpoint::start(|_, before| Reply::status(if before == 0 { 503 } else { 200 })).await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/"), "--initial-interval", "2s"]);
    let mut worker = world.worker().await;
    world.publish("clients.create", Some("e1"), 1, &json!({})).await;
    endpoint.wait_for(1).await;
    assert!(worker.terminate().await.success());
    world.broker.delete_queue("events.clients.create").await;
    eventually("the copy is in unrouted", || async { world.broker.depth("unrouted").await.unwrap().0 == 1 })
        .await;
    let recorder = world.recorder().await;
    world.keep(recorder);
    eventually("the copy is in its queue again", || async {
        world.broker.depth("events.clients.create").await.is_some_and(|(messages, _)| messages == 1)
    })
    .await;
    let worker = world.worker().await;
    world.keep(worker);
    let executions = world.wait_for_executions(2, &[]).await;
    assert_eq!((&executions[0]["attempt"], &executions[0]["disposition"]), (&json!(2), &json!("done")));
    world.end().await;
}

#[blocking_test]
async fn dead_letters_can_stay_in_the_broker_with_all_their_metadata() {
    let mut world = World::new().await;
    world.set("recorder.drain_dead_letters", "false");
    let endpoint = Endpoint::start(|_, _| Reply::status(404)).await;
    let id = world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    let body = envelope("clients.create", 7, &json!({"a": 1}));
    world.broker.publish("clients.create", Some("e1"), body.as_bytes()).await;
    world.broker.publish("no.such.event", Some("e2"), b"{}").await;
    eventually("both are in the queue", || async {
        world.broker.depth("dead-letters").await.unwrap().0 == 2
    })
    .await;
    assert!(world.dead_letters().is_empty());
    let mut reasons = Vec::new();
    for _ in 0..2 {
        let message = world.broker.take("dead-letters").await.expect("a dead letter").delivery;
        let headers = message.properties.headers().clone().expect("headers");
        let text = |name: &str| match headers.inner().get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            other => panic!("{name} is {other:?}"),
        };
        let meta: Value = serde_json::from_str(&text("x-provisioning-dead-letter")).unwrap();
        assert_eq!(meta["id"], text("x-provisioning-id"));
        assert_eq!(meta["reason"], text("x-provisioning-reason"));
        reasons.push(text("x-provisioning-reason"));
        if meta["reason"] == "permanent" {
            assert_eq!(message.data, body.as_bytes());
            assert_eq!(
                (&meta["handler_id"], &meta["event_id"], &meta["object_id"]),
                (&json!(id), &json!("e1"), &json!("7"))
            );
            assert_eq!(message.routing_key.as_str(), "clients.create");
        }
    }
    reasons.sort_unstable();
    assert_eq!(reasons, ["permanent", "unrouted"]);
    world.wait_for_executions(1, &[]).await;
    world.end().await;
}

#[blocking_test]
async fn a_queue_with_other_arguments_is_used_and_reported() {
    let mut world = World::new().await;
    let queue = world.broker.name("events.clients.create");
    let channel = world.broker.connection.create_channel().await.unwrap();
    let options = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), options, lapin::types::FieldTable::default()).await.unwrap();
    let checked = world.run(&["check"]);
    assert!(checked.stdout().contains("are declared when provisiond serve starts"), "{}", checked.stdout());
    assert!(world.broker.depth("events.clients.update").await.is_none(), "check makes nothing");

    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    world.publish("clients.create", Some("e1"), 1, &json!({})).await;
    world.wait_for_executions(1, &["--status", "success"]).await;
    let checked = world.run(&["check"]);
    let stdout = checked.assert_done().stdout();
    assert!(
        stdout.contains(&queue)
            && stdout.contains("exists with different arguments")
            && stdout.contains("x-dead-letter-exchange"),
        "{stdout}"
    );
    world.end().await;
}

#[blocking_test]
async fn a_handler_at_its_max_concurrency_has_no_more_calls_at_a_time() {
    let mut world = World::new().await;
    let endpoint = Endpoint::start(|_, _| Reply::status(200).after(Duration::from_millis(300))).await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/"), "--max-concurrency", "2"]);
    world.serve().await;
    for number in 0..6 {
        world.publish("clients.create", Some(&format!("e{number}")), number, &json!({})).await;
    }
    world.wait_for_executions(6, &["--status", "success"]).await;
    let calls = endpoint.calls();
    for window in calls.windows(3) {
        let span = window[2].at - window[0].at;
        assert!(span >= Duration::from_millis(250), "three calls began within {span:?}");
    }
    world.end().await;
}

/// A queue that answers nothing, as one whose majority is away, while the connection is well.
struct Silent(String);

impl Silent {
    fn queue(name: &str) -> Self {
        let process = format!("'%2F_{name}'");
        rabbitmqctl(&["eval", &format!("sys:suspend({process}).")]);
        Self(process)
    }

    fn speaks_again(self) {
        rabbitmqctl(&["eval", &format!("sys:resume({}).", self.0)]);
    }
}

#[blocking_test]
async fn a_consumer_that_was_given_up_keeps_no_events() {
    const EVENTS: usize = 100;
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let recorder = world.recorder().await;
    world.keep(recorder);
    let mut worker = world.worker().await;
    assert!(worker.terminate().await.success());

    let silent = Silent::queue(&world.broker.name("events.clients.create"));
    let worker = world.spawn(&["--roles", "worker"]);
    eventually("the worker does not wait for ever", || async {
        worker.log().contains("the broker did not answer within")
    })
    .await;
    // Now it carries out what it was asked before, too.
    silent.speaks_again();
    for number in 0..EVENTS {
        world.publish("clients.create", None, number as u64, &json!({})).await;
    }
    world.wait_for_executions(EVENTS, &["--status", "success"]).await;
    eventually("one consumer", || async {
        world.broker.depth("events.clients.create").await == Some((0, 1))
    })
    .await;
    world.keep(worker);
    world.end().await;
}

#[blocking_test]
async fn a_broker_that_accepts_and_never_answers_has_no_files_left() {
    let mut world = World::new().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.set("amqp.url", &format!("amqp://u:p@{}/%2f", silent.local_addr().unwrap()));
    world.set("amqp.connect_timeout", "500ms");
    let checked = world.run(&["check"]).stdout();
    assert!(checked.contains("no answer within 500ms (amqp.connect_timeout)"), "{checked}");
    assert!(checked.contains("used up its open files (rabbitmqctl status, File Descriptors)"), "{checked}");
    world.run(&["publish", "clients.create", "--object-id", "1"]).assert_failed(1, "used up its open files");
    world.abandon().await;
}
