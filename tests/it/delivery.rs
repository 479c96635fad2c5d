//! What a handler gets, and what others can see.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use crate::support::{Endpoint, Reply, World, eventually};

#[blocking_test]
async fn a_handler_gets_the_event_byte_for_byte_with_its_headers() {
    let mut world = World::new().await;
    let endpoint = Endpoint::start(|_, _| Reply::status(201).body("{\"ok\":true}")).await;
    let flags = ["--http", &endpoint.url("/api?x=1"), "--header", "Authorization: Bearer s3cret", "--sign"];
    let id = world.handler("CRM", "clients.update", &flags);
    world.serve().await;
    // Odd spacing, an extra member and an escaped NUL all arrive as they were.
    let body = "{ \"event\": {\"dt\":\"2026-01-01T00:00:00+00:00\",\"events_id\":\"clients.update\",\"object_id\":12,\"by\":\"x\"},\n \"data\": {\"name\":\"a\\u0000b\", \"n\":1.50}, \"more\":[1] }";
    let mut headers = FieldTable::default();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.insert("traceparent".into(), AMQPValue::LongString(parent.into()));
    headers.insert("x-provisioning-plan".into(), AMQPValue::LongString("999".into()));
    let properties = BasicProperties::default().with_message_id("order-7".into()).with_headers(headers);
    world.broker.publish_with("clients.update", properties, body.as_bytes()).await;
    let listed = world.wait_for_executions(1, &["--status", "success"]).await;

    let call = &endpoint.calls()[0];
    assert_eq!(call.body, body.as_bytes());
    assert_eq!(call.header("content-type"), "application/json");
    assert_eq!(call.header("webhook-id"), format!("order-7_{id}"));
    assert_eq!(call.header("x-provisioning-event"), "clients.update");
    assert_eq!(call.header("x-provisioning-attempt"), "1");
    assert_eq!(call.header("authorization"), "Bearer s3cret");
    assert_eq!(call.header("traceparent"), parent);
    assert!(call.header("user-agent").starts_with("provisiond/"));
    assert!(call.header("webhook-signature").starts_with("v1,"));
    assert!(call.header("webhook-timestamp").parse::<i64>().unwrap() > 1_700_000_000);

    let shown =
        world.run(&["executions", "show", listed[0]["id"].as_str().unwrap(), "--output", "json"]).stdout();
    assert!(!shown.contains("s3cret"), "no secret is recorded");
    let execution: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(execution["request"]["data"]["name"], "a\u{0}b");
    assert_eq!(execution["response"]["http_status"], 201);
    assert_eq!(execution["response"]["body"], "{\"ok\":true}");
    assert_eq!(execution["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(execution["event"]["id"], "order-7");
    let request =
        "SELECT count(*) FROM executions WHERE request LIKE '%\"more\":[1] }' AND request LIKE '{ %'";
    assert_eq!(world.count(request).await, 1, "the body is stored as it was");
    world.end().await;
}

#[blocking_test]
async fn a_cloud_event_is_accepted_and_handlers_see_the_envelope() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    let body = json!({"specversion": "1.0", "id": "77", "source": "/billing", "type": "clients.create",
        "subject": "12", "time": "2026-01-01T00:00:00Z", "data": {"id": 12}});
    let properties = BasicProperties::default().with_content_type("application/cloudevents+json".into());
    world.broker.publish_with("clients.create", properties.clone(), body.to_string().as_bytes()).await;
    world.broker.publish_with("clients.create", properties, body.to_string().as_bytes()).await;
    let executions = world.wait_for_executions(2, &["--status", "success"]).await;
    assert_eq!(executions[0]["event"]["id"], executions[1]["event"]["id"], "source and id are the identity");
    let seen = endpoint.calls()[0].json();
    assert_eq!(
        seen,
        json!({"event": {"dt": "2026-01-01T00:00:00Z", "events_id": "clients.create", "object_id": "12"}, "data": {"id": 12}})
    );
    world.end().await;
}

#[blocking_test]
async fn anyone_may_bind_a_queue_to_the_results() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    let id = world.handler("CRM", "clients.create", &["--http", &endpoint.url("/api"), "--priority", "3"]);
    world.serve().await;
    let queue = world.broker.bind_own_queue("results", "clients.create.success").await;
    world.publish("clients.create", Some("e1"), 5, &json!({"a": 1})).await;
    world.wait_for_executions(1, &[]).await;
    let message = world.broker.take(&queue).await.expect("the result");
    let result: Value = serde_json::from_slice(&message.delivery.data).unwrap();
    assert_eq!(
        result["handler"],
        json!({"id": id, "name": "CRM", "priority": 3, "mode": "notify",
        "task": {"type": "http", "target": endpoint.url("/api")}})
    );
    assert_eq!((&result["event"]["object_id"], &result["request"]["data"]["a"]), (&json!("5"), &json!(1)));
    world.end().await;
}

#[blocking_test]
async fn a_deleted_event_queue_is_declared_and_consumed_again() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    world.broker.delete_queue("events.clients.create").await;
    world.wait_for_consumer("events.clients.create").await;
    world.publish("clients.create", Some("e1"), 5, &json!({})).await;
    world.wait_for_executions(1, &["--status", "success"]).await;
    world.end().await;
}

#[blocking_test]
async fn results_are_recorded_although_their_queue_was_deleted() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let worker = world.worker().await;
    world.keep(worker);
    world.broker.delete_queue("execution-log").await;
    world.publish("clients.create", Some("e1"), 5, &json!({})).await;
    eventually("the result is in unrouted", || async {
        world.broker.depth("unrouted").await.unwrap().0 == 1
    })
    .await;
    let recorder = world.recorder().await;
    world.keep(recorder);
    world.wait_for_executions(1, &["--status", "success"]).await;
    world.end().await;
}

#[blocking_test]
async fn an_intercept_handler_modifies_and_forbids() {
    let mut world = World::new().await;
    let modifying = Endpoint::start(|_, _| Reply::status(200).body(r#"{"data":{"name":"changed"}}"#)).await;
    let forbidding =
        Endpoint::start(|_, _| Reply::status(200).body(r#"{"verdict":"forbid","reason":"in debt"}"#)).await;
    let never = Endpoint::ok().await;
    for (name, endpoint, priority) in
        [("modifying", &modifying, "1"), ("forbidding", &forbidding, "2"), ("never", &never, "3")]
    {
        let flags = ["--http", &endpoint.url("/"), "--priority", priority, "--mode", "intercept"];
        world.handler(name, "clients.update", &flags);
    }
    world.serve().await;
    world.publish("clients.update", Some("e1"), 5, &json!({"name": "old"})).await;
    let executions = world.wait_for_executions(3, &[]).await;
    let execution_of = |name: &str| executions.iter().find(|e| e["handler"]["name"] == name).unwrap();
    assert_eq!(
        (&execution_of("modifying")["disposition"], &execution_of("modifying")["modified"]),
        (&json!("done"), &json!(true))
    );
    assert_eq!(
        (&execution_of("forbidding")["disposition"], &execution_of("forbidding")["error"]),
        (&json!("forbidden"), &json!("in debt"))
    );
    assert_eq!(execution_of("never")["disposition"], "not_reached");
    assert_eq!(forbidding.calls()[0].json()["data"], json!({"name": "changed"}));
    assert_eq!(never.count(), 0);
    world.end().await;
}
