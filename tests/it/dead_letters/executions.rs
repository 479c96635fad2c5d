//! Replaying from the Execution Logs: what had no handler, what was passed over, what was forbidden.

use serde_json::{Value, json};

use super::publish;
use crate::support::{Endpoint, Reply, World};

fn replay(world: &World, args: &[&str]) -> Value {
    world.json(&[&["executions", "replay", "--rate", "1000", "--yes"], args].concat())
}

#[blocking_test]
async fn events_without_a_handler_are_made_good() {
    let mut world = World::new().await;
    world.serve().await;
    publish(&world, "clients.create", 30).await;
    let executions = world.wait_for_executions(30, &["--disposition", "no_handler"]).await;
    let first = executions[0]["id"].as_str().unwrap();
    let refused = world.run(&["executions", "replay", first]);
    assert!(refused.stdout().contains("refused 1: no handler is enabled"), "{}", refused.stdout());
    assert_eq!(refused.output.status.code(), Some(1));

    let (one, two) = (Endpoint::ok().await, Endpoint::ok().await);
    world.handler("one", "clients.create", &["--http", &one.url("/")]);
    world.handler("two", "clients.create", &["--http", &two.url("/")]);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await; // a change is live within a second
    let filter = ["--disposition", "no_handler", "--event", "clients.create"];
    let planned = world.json(&[&["executions", "replay", "--dry-run"], &filter[..]].concat());
    assert_eq!((&planned[0]["count"], &planned[0]["enabled"]), (&json!(30), &json!(2)));
    // Two operators at once: each event is replayed once.
    let both = [0, 1].map(|_| {
        let mut command = world.command();
        command.args(["executions", "replay", "--yes", "--output", "json"]).args(filter);
        command.stdout(std::process::Stdio::piped()).spawn().unwrap()
    });
    let replayed = both.map(|process| {
        let output = process.wait_with_output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["state"], &report["source"]), (&json!("finished"), &json!("executions")));
        report["replayed"].as_u64().unwrap()
    });
    assert_eq!(replayed.iter().sum::<u64>(), 30, "{replayed:?}");
    let done = world.wait_for_executions(60, &["--status", "success"]).await;
    assert!(done.iter().all(|e| e["attempt"] == 1));
    assert_eq!((one.count(), two.count()), (30, 30));
    let none = replay(&world, &["--handler-only", "--disposition", "no_handler"]);
    assert_eq!(none["replayed"], 0, "none has a handler");
    world.run(&["executions", "replay"]).assert_failed(2, "which executions?");
    world.end().await;
}

#[blocking_test]
async fn a_handler_that_was_off_is_called_alone_and_the_event_as_a_whole() {
    let mut world = World::new().await;
    world.set("retry.initial_interval", "1s");
    let other = Endpoint::ok().await;
    let flaky = Endpoint::start(|_, before| Reply::status(if before == 0 { 503 } else { 200 })).await;
    world.handler("other", "clients.create", &["--http", &other.url("/"), "--priority", "1"]);
    let flags = ["--http", &flaky.url("/"), "--priority", "2", "--initial-interval", "2s"];
    let id = world.handler("flaky", "clients.create", &flags).to_string();
    world.serve().await;
    publish(&world, "clients.create", 1).await;
    flaky.wait_for(1).await;
    world.run(&["handlers", "disable", &id]).assert_done();
    let off = world.wait_for_executions(1, &["--disposition", "handler_off"]).await;
    world.run(&["handlers", "enable", &id]).assert_done();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await; // a change is live within a second

    assert_eq!(replay(&world, &[off[0]["id"].as_str().unwrap()])["replayed"], 1);
    world.wait_for_executions(1, &["--handler", &id, "--status", "success"]).await;
    assert_eq!((other.count(), flaky.count()), (1, 2), "that handler alone");
    // Two executions of the event are one event.
    let report = replay(&world, &["--event", "--event-id", "e0"]);
    assert_eq!(report["replayed"], 1);
    world.wait_for_executions(2, &["--handler", "1", "--status", "success"]).await;
    world.wait_for_executions(2, &["--handler", &id, "--status", "success"]).await;
    assert_eq!((other.count(), flaky.count()), (2, 3), "the whole event");
    world.end().await;
}

#[blocking_test]
async fn a_forbidden_event_is_replayed_as_it_came() {
    let mut world = World::new().await;
    let changing = Endpoint::start(|_, _| Reply::status(200).body(r#"{"data":{"changed":true}}"#)).await;
    let forbidding = Endpoint::start(|_, before| {
        Reply::status(200).body(if before == 0 { r#"{"verdict":"forbid","reason":"debt"}"# } else { "" })
    })
    .await;
    let intercept = |name, endpoint: &Endpoint, priority| {
        let url = endpoint.url("/");
        world.handler(
            name,
            "clients.create",
            &["--http", &url, "--priority", priority, "--mode", "intercept"],
        )
    };
    intercept("changing", &changing, "1");
    intercept("forbidding", &forbidding, "2");
    world.serve().await;
    publish(&world, "clients.create", 1).await;
    let forbidden = world.wait_for_executions(1, &["--disposition", "forbidden"]).await;
    let id = forbidden[0]["id"].as_str().unwrap();
    assert_eq!(replay(&world, &[id, "--whole-event"])["replayed"], 1);
    forbidding.wait_for(2).await;
    let bodies: Vec<Value> = changing.calls().iter().map(|call| call.json()["data"].clone()).collect();
    assert_eq!(bodies, [json!({"number": 0}), json!({"number": 0})], "the body that no handler had changed");
    assert_eq!(forbidding.calls()[1].json()["data"], json!({"changed": true}));
    world.wait_for_executions(4, &[]).await;
    // The handler alone gets what it got.
    assert_eq!(replay(&world, &[id])["replayed"], 1);
    forbidding.wait_for(3).await;
    assert_eq!(
        (changing.count(), forbidding.calls()[2].json()["data"].clone()),
        (2, json!({"changed": true}))
    );
    world.wait_for_executions(5, &[]).await;
    world.end().await;
}
