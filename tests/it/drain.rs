//! Processes share the load, and one that is asked to stop loses and repeats nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Endpoint, Reply, World, eventually};

const EVENTS: usize = 400;

#[blocking_test]
async fn sigterm_in_mid_load_loses_and_repeats_nothing() {
    let mut world = World::new().await;
    world.set("worker.concurrency", "16");
    let endpoint = Endpoint::start(|_, _| Reply::status(200).after(Duration::from_millis(50))).await;
    world.handler("one", "clients.create", &["--http", &endpoint.url("/one"), "--priority", "1"]);
    world.handler("two", "clients.create", &["--http", &endpoint.url("/two"), "--priority", "2"]);
    let (mut first, second) = (world.worker().await, world.worker().await);
    world.keep(second);
    let recorder = world.recorder().await;
    world.keep(recorder);
    for number in 0..EVENTS {
        world.publish("clients.create", Some(&format!("e{number}")), number as u64, &json!({})).await;
    }
    endpoint.wait_for(100).await;
    let status = first.terminate().await;
    assert!(status.success(), "ended with {status}:\n{}", first.log());

    let executions = world.wait_for_executions(2 * EVENTS, &[]).await;
    assert!(executions.iter().all(|e| e["disposition"] == "done"));
    let workers: BTreeSet<_> = executions.iter().map(|e| e["worker"]["pid"].to_string()).collect();
    assert_eq!(workers.len(), 2, "both workers had a share");
    let mut calls: BTreeMap<(String, u64), usize> = BTreeMap::new();
    for call in endpoint.calls() {
        *calls.entry((call.path.clone(), call.object_id())).or_default() += 1;
    }
    assert_eq!(calls.len(), 2 * EVENTS, "every handler was called for every event");
    assert!(calls.values().all(|count| *count == 1), "and each once");
    world.end().await;
}

/// A terminal that is closed, or a supervisor that means "read your settings again".
#[blocking_test]
async fn sighup_drains_like_sigterm() {
    let mut world = World::new().await;
    let done = world.dir.path().join("done");
    world.script("slow.sh", &format!("#!/bin/sh\nsleep 2\necho done >> {}\n", done.display()));
    world.handler("slow", "clients.create", &["--script", "slow.sh"]);
    let mut worker = world.worker().await;
    let recorder = world.recorder().await;
    world.keep(recorder);
    world.publish("clients.create", None, 1, &json!({})).await;
    eventually("it is taken", || async {
        world.json(&["status"])["processes"][0]["process"]["report"]["worker"]["in_flight"] == 1
            || world.broker.depth("events.clients.create").await.is_some_and(|(waiting, _)| waiting == 0)
    })
    .await;
    worker.signal(Signal::SIGHUP);
    assert!(worker.ended(Duration::from_secs(30)).await.success(), "{}", worker.log());
    let executions = world.wait_for_executions(1, &[]).await;
    assert_eq!(executions[0]["disposition"], "done");
    assert_eq!(std::fs::read_to_string(&done).expect("it ran to its end"), "done\n");
    world.end().await;
}

#[blocking_test]
async fn a_drain_hands_over_the_rest_of_a_plan() {
    let mut world = World::new().await;
    let slow = Endpoint::start(|_, _| Reply::status(200).after(Duration::from_secs(2))).await;
    let next = Endpoint::ok().await;
    world.handler("slow", "clients.create", &["--http", &slow.url("/"), "--priority", "1"]);
    world.handler("next", "clients.create", &["--http", &next.url("/"), "--priority", "2"]);
    let mut worker = world.worker().await;
    let recorder = world.recorder().await;
    world.keep(recorder);
    world.publish("clients.create", Some("e1"), 1, &json!({})).await;
    slow.wait_for(1).await;
    assert!(worker.terminate().await.success());
    assert_eq!(next.count(), 0, "the next handler does not begin in a drain");
    assert_eq!(world.broker.depth("events.clients.create").await.unwrap().0, 1, "its copy waits");
    let worker = world.worker().await;
    world.keep(worker);
    world.wait_for_executions(2, &["--status", "success"]).await;
    assert_eq!((slow.count(), next.count()), (1, 1));
    world.end().await;
}

#[blocking_test]
async fn scripts_that_wait_for_their_turn_do_not_begin_in_a_drain() {
    let mut world = World::new().await;
    world.set("script.concurrency", "2");
    world.script("slow.sh", "#!/bin/sh\necho run >> \"$(dirname \"$0\")/runs\"\nsleep 1\n");
    world.handler("slow", "clients.create", &["--script", "slow.sh"]);
    let mut worker = world.worker().await;
    let recorder = world.recorder().await;
    world.keep(recorder);
    for number in 0..12 {
        world.publish("clients.create", Some(&format!("e{number}")), number, &json!({})).await;
    }
    let runs = world.dir.path().join("runs");
    let count = || std::fs::read_to_string(&runs).map_or(0, |runs| runs.lines().count());
    eventually("a script runs", || async { count() >= 1 }).await;
    let begun = std::time::Instant::now();
    assert!(worker.terminate().await.success());
    assert!(begun.elapsed() < Duration::from_secs(8), "the waiting ones were run: {:?}", begun.elapsed());
    let before = count();
    assert!(before < 6, "{before} of 12 ran");
    let worker = world.worker().await;
    world.keep(worker);
    world.wait_for_executions(12, &["--status", "success"]).await;
    assert_eq!(count(), 12, "each ran once");
    world.end().await;
}
