//! A handler that mostly fails is left alone for a while, and its neighbours do not notice.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Endpoint, Reply, World};

const EVENTS: usize = 200;

async fn publish(world: &World) {
    for object in 0..EVENTS {
        world.publish("clients.create", Some(&format!("e{object}")), object as u64, &json!({})).await;
    }
}

#[blocking_test]
async fn a_failing_handler_is_left_alone_until_a_probe_succeeds() {
    let mut world = World::new().await;
    world.set("retry.initial_interval", "10m");
    world.set("worker.concurrency", "5");
    let (healthy, began) = (Endpoint::ok().await, Instant::now());
    let is_down = move || began.elapsed() < Duration::from_secs(20);
    let failing = Endpoint::start(move |_, _| Reply::status(if is_down() { 503 } else { 200 })).await;
    world.handler("failing", "clients.create", &["--http", &failing.url("/"), "--priority", "1"]);
    world.handler("healthy", "clients.create", &["--http", &healthy.url("/"), "--priority", "2"]);
    world.serve().await;
    publish(&world).await;
    healthy.wait_for(EVENTS).await;
    let called = failing.count();
    assert!((10..15).contains(&called), "it was called {called} times");
    let failed = world.wait_for_executions(EVENTS, &["--status", "fail"]).await;
    let refused = world.executions(&["--error", "circuit open; the last failure: answered 503"]).len();
    assert_eq!(refused + called, EVENTS);
    assert!(failed.iter().all(|e| e["attempt"] == 1 && e["disposition"] == "retrying"));

    // Those that were refused come back after half a minute; the first of them is the probe, and those that come
    // while it runs wait once more.
    let all_called = async {
        while world.count("SELECT count(*) FROM executions WHERE disposition = 'done'").await
            < i64::try_from(refused + EVENTS).expect("a count")
        {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(3), all_called).await.expect("all are called in the end");
    assert_eq!(failing.count(), called + refused);
    world.abandon().await;
}

#[blocking_test]
async fn what_was_never_called_is_never_given_up() {
    let mut world = World::new().await;
    // Its whole schedule is over long before the circuit may close.
    world.set("retry.initial_interval", "1s");
    world.set("retry.multiplier", "1");
    world.set("retry.max_attempts", "3");
    world.set("worker.concurrency", "5");
    let began = Instant::now();
    let failing = Endpoint::start(move |_, _| {
        let is_down = began.elapsed() < Duration::from_secs(8);
        if is_down { Reply::status(503) } else { Reply::status(200).after(Duration::from_millis(1500)) }
    })
    .await;
    world.handler("failing", "clients.create", &["--http", &failing.url("/")]);
    world.serve().await;
    publish(&world).await;
    let ended = "SELECT (SELECT count(*) FROM executions WHERE disposition = 'done')
        + (SELECT count(*) FROM dead_letters)";
    let all_ended = async {
        while world.count(ended).await < i64::try_from(EVENTS).expect("a count") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(4), all_ended).await.expect("all end");
    for dead_letter in world.dead_letters() {
        let called = failing
            .calls()
            .iter()
            .filter(|call| dead_letter["object_id"].as_str() == Some(&call.object_id().to_string()))
            .count();
        assert_eq!((dead_letter["attempts"].as_u64(), called), (Some(3), 3), "{dead_letter}");
    }
    world.abandon().await;
}
