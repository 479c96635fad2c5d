//! A platform that asks before it acts: `reply_to`.

use std::process::Command;

use serde_json::{Value, json};

use super::integrator::python;
use crate::support::{Endpoint, Reply, World, envelope, eventually};

/// An ordinary RPC call over RabbitMQ's direct reply-to. Prints each answer with its milliseconds.
const ASK: &str = r#"
import json, os, sys, time, pika
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
answers = {}
channel.basic_consume("amq.rabbitmq.reply-to", auto_ack=True,
    on_message_callback=lambda ch, method, properties, body: answers.update({properties.correlation_id: body}))
for call, body in enumerate(sys.argv[1:]):
    begun = time.monotonic()
    channel.basic_publish(os.environ["EXCHANGE"], "clients.create", body,
        pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=str(call), message_id="ask-%d" % call))
    while str(call) not in answers and time.monotonic() < begun + 20:
        connection.process_data_events(0.05)
    answer = json.loads(answers[str(call)])
    print(json.dumps({"ms": (time.monotonic() - begun) * 1000, "answer": answer}))
"#;

async fn ask(world: &World, bodies: &[String]) -> Vec<(f64, Value)> {
    let mut command = Command::new(python());
    command.args(["-c", ASK]).args(bodies);
    command.env("AMQP_URL", &world.amqp_url).env("EXCHANGE", world.broker.name("events"));
    let output = tokio::task::spawn_blocking(move || command.output().expect("python")).await.expect("ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|line| (line["ms"].as_f64().expect("a number"), line["answer"].clone()))
        .collect()
}

fn event_body(object: u64) -> String {
    envelope("clients.create", object, &json!({"id": object}))
}

/// What the handler at `/judge` says, by the object it is asked of.
async fn judge() -> Endpoint {
    Endpoint::start(|call, _| match (call.path.as_str(), call.object_id()) {
        ("/judge", 2) => Reply::status(200).body(r#"{"verdict":"forbid","reason":"too much debt"}"#),
        ("/judge", 3) => Reply::status(200).body(r#"{"data":{"id":3,"limit":100}}"#),
        ("/judge", 4) => Reply::status(503),
        // As far as a `notify` handler is concerned.
        ("/notify", _) => Reply::status(200).body(r#"{"verdict":"forbid","data":{"id":0}}"#),
        _ => Reply::status(200),
    })
    .await
}

#[blocking_test]
async fn a_publisher_that_asks_is_answered_with_the_verdict() {
    let mut world = World::new().await;
    let endpoint = judge().await;
    let target = |path| endpoint.url(path);
    world.handler("notes", "clients.create", &["--http", &target("/notify"), "--priority", "1"]);
    let judge = world.handler(
        "judge",
        "clients.create",
        &["--http", &target("/judge"), "--priority", "2", "--mode", "intercept", "--max-attempts", "2"],
    );
    world.handler("after", "clients.create", &["--http", &target("/after"), "--priority", "3"]);
    world.serve().await;
    let bodies = [event_body(1), event_body(2), event_body(3), event_body(4), "no event".to_owned()];
    let answers = ask(&world, &bodies).await;

    let reply = |n: usize| (&answers[n].1["verdict"], &answers[n].1["reason"], &answers[n].1["data"]);
    let (none, id) = (Value::Null, |n: u64| json!({"id": n}));
    assert_eq!(reply(0), (&json!("allow"), &none, &id(1)), "what a notify handler answers changes nothing");
    assert_eq!(reply(1), (&json!("forbid"), &json!("too much debt"), &id(2)));
    assert_eq!(reply(2), (&json!("allow"), &none, &json!({"id": 3, "limit": 100})));
    let unanswered = format!("handler {judge} has not answered yet");
    assert_eq!(reply(3), (&json!("pending"), &json!(unanswered), &id(4)));
    assert_eq!((&answers[4].1["verdict"], &answers[4].1["data"]), (&json!("pending"), &none));
    assert!(answers[4].1["reason"].as_str().is_some_and(|why| why.starts_with("malformed: expected")));
    let dispositions: Vec<_> = answers[1].1["executions"].as_array().expect("an array").iter().collect();
    let handler_disposition =
        |n: usize| (&dispositions[n]["handler"]["name"], &dispositions[n]["disposition"]);
    assert_eq!(handler_disposition(0), (&json!("notes"), &json!("done")));
    assert_eq!(handler_disposition(1), (&json!("judge"), &json!("forbidden")));
    assert_eq!(handler_disposition(2), (&json!("after"), &json!("not_reached")));
    println!("milliseconds: {:?}", answers.iter().map(|(ms, _)| *ms).collect::<Vec<_>>());
    let fastest = answers.iter().map(|(ms, _)| *ms).fold(f64::INFINITY, f64::min);
    assert!(fastest < 1000.0, "the fastest answer took {fastest} ms");

    // The handler after it was given what the answer says, and a copy is not answered again.
    let seen: Vec<Value> =
        endpoint.calls().iter().filter(|c| c.path == "/after").map(|c| c.json()["data"].clone()).collect();
    assert_eq!(seen, [id(1), json!({"id": 3, "limit": 100})]);
    eventually("the retry is given up", || async { world.dead_letters().len() == 2 }).await;
    world.end().await;
}

#[blocking_test]
async fn an_answer_that_nobody_awaits_holds_up_nothing() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("one", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    for object in 0..20 {
        let properties = lapin::BasicProperties::default().with_reply_to("no-such-queue".into());
        world.broker.publish_with("clients.create", properties, event_body(object).as_bytes()).await;
    }
    world.wait_for_executions(20, &[]).await;
    world.end().await;
}

#[blocking_test]
async fn no_answer_goes_into_a_queue_of_our_own() {
    let mut world = World::new().await;
    let endpoint = judge().await;
    world.handler("judge", "clients.create", &["--http", &endpoint.url("/judge"), "--mode", "intercept"]);
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    let own_queues =
        ["execution-log", "dead-letters", "unrouted", "events.clients.update", "delay.v1.level-3"];
    for (n, queue) in (10..).zip(own_queues) {
        let reply_to = world.broker.name(queue);
        let properties = lapin::BasicProperties::default().with_reply_to(reply_to.as_str().into());
        world.broker.publish_with("clients.create", properties.clone(), event_body(n).as_bytes()).await;
        // What is malformed is answered as well.
        let malformed = format!("[{n}]");
        world.broker.publish_with("clients.create", properties, malformed.as_bytes()).await;
    }
    world.wait_for_executions(own_queues.len(), &["--status", "success"]).await;
    for execution in world.wait_for_executions(own_queues.len(), &["--disposition", "not_answered"]).await {
        let error = execution["error"].as_str().expect("why");
        assert!(error.ends_with(" is a queue of provisiond itself"), "{error}");
        assert_eq!((&execution["status"], &execution["handler"]), (&json!("skipped"), &Value::Null));
    }
    let dead_letters = world.wait_for_dead_letters(own_queues.len()).await;
    assert!(
        dead_letters.iter().all(|dead_letter| dead_letter["event_name"] == "clients.create"),
        "{dead_letters:#?}"
    );
    assert_eq!(
        worker.log().matches("reply_to is a queue of provisiond itself").count(),
        2 * own_queues.len()
    );
    world.keep(worker);
    world.keep(recorder);
    world.end().await;
}

#[blocking_test]
async fn a_name_that_the_broker_cannot_bear_costs_results_nothing() {
    let mut world = World::new().await;
    let endpoint = judge().await;
    world.handler("judge", "clients.create", &["--http", &endpoint.url("/judge"), "--mode", "intercept"]);
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    let names = ["%%%.k", "AAAA.k", "g2EB.k", "g1h.k"];
    for (n, name) in (10..).zip(names) {
        // RabbitMQ 3.10 closes the connection that publishes there.
        let reply_to = format!("amq.rabbitmq.reply-to.{name}");
        let properties = lapin::BasicProperties::default().with_reply_to(reply_to.as_str().into());
        world.broker.publish_with("clients.create", properties, event_body(n).as_bytes()).await;
    }
    world.wait_for_executions(names.len(), &["--status", "success"]).await;
    // Results, copies and dead letters are on another connection than replies.
    assert!(!worker.log().contains("publishing the unconfirmed messages again"), "{}", worker.log());
    world.keep(worker);
    world.keep(recorder);
    world.end().await;
}
