//! Handler changes take effect by themselves, on every worker, within a second.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use crate::support::{Endpoint, World};

#[blocking_test]
async fn a_handler_created_while_three_workers_run_is_called_on_each() {
    let mut world = World::new().await;
    // One at a time: the events spread over the workers.
    world.set("worker.concurrency", "1");
    for _ in 0..3 {
        let worker = world.worker().await;
        world.keep(worker);
    }
    let recorder = world.recorder().await;
    world.keep(recorder);
    let endpoint = Endpoint::ok().await;
    world.handler("new", "clients.create", &["--http", &endpoint.url("/")]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for number in 0..90 {
        world.publish("clients.create", Some(&format!("e{number}")), number, &json!({})).await;
    }
    let executions = world.wait_for_executions(90, &[]).await;
    assert!(executions.iter().all(|e| e["disposition"] == "done"), "no worker missed the new handler");
    let workers: BTreeSet<_> = executions.iter().map(|e| e["worker"]["pid"].to_string()).collect();
    assert_eq!(workers.len(), 3, "each worker had a share");
    assert_eq!(endpoint.count(), 90);
    world.end().await;
}

#[blocking_test]
async fn changes_are_live_within_a_second() {
    let mut world = World::new().await;
    world.serve().await;
    let (old, new) = (Endpoint::ok().await, Endpoint::ok().await);
    let id = world.handler("CRM", "clients.create", &["--http", &old.url("/")]).to_string();
    let second = || tokio::time::sleep(Duration::from_secs(1));
    let publish = async |id: &str| {
        world.publish("clients.create", Some(id), 1, &json!({})).await;
    };
    second().await;
    publish("a").await;
    world.wait_for_executions(1, &["--event-id", "a", "--status", "success"]).await;
    world.run(&["handlers", "update", &id, "--http", &new.url("/")]).assert_done();
    second().await;
    publish("b").await;
    world.wait_for_executions(1, &["--event-id", "b", "--status", "success"]).await;
    world.run(&["handlers", "archive", &id]).assert_done();
    second().await;
    publish("c").await;
    world.wait_for_executions(1, &["--event-id", "c", "--disposition", "no_handler"]).await;
    assert_eq!((old.count(), new.count()), (1, 1));
    world.end().await;
}
