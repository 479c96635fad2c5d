//! The catalogue: every event reaches its handlers and no other's.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Endpoint, World, eventually};

const CATALOGUE: [(&str, &str, &str); 15] = [
    ("Clients", "create", "clients.create"),
    ("Clients", "update", "clients.update"),
    ("Clients", "delete", "clients.delete"),
    ("Clients", "archive", "clients.archive"),
    ("Clients", "custom fields update", "clients.custom_fields.update"),
    ("Clients", "balance became >=0", "clients.balance_notzero"),
    ("Clients", "balance became <=0", "clients.balance_zero"),
    ("Accounts", "create", "clients.accounts.create"),
    ("Accounts", "update", "clients.accounts.update"),
    ("Accounts", "delete", "clients.accounts.delete"),
    ("Clients Packages", "assign", "clients.packages.assign"),
    ("Clients Packages", "activate", "clients.packages.activate"),
    ("Clients Packages", "deactivate", "clients.packages.deactivate"),
    ("Clients Packages", "renew", "clients.packages.renew"),
    ("Clients Packages", "close", "clients.packages.close"),
];

#[blocking_test]
async fn every_event_reaches_its_handlers_and_no_others() {
    let mut world = World::new().await;
    let listed = world.json(&["events", "list"]);
    let listed: Vec<_> =
        listed.as_array().unwrap().iter().map(|t| [&t["group"], &t["title"], &t["name"]]).collect();
    let expected: Vec<_> = CATALOGUE.iter().map(|(g, t, n)| [json!(g), json!(t), json!(n)]).collect();
    assert_eq!(listed, expected.iter().map(<[serde_json::Value; 3]>::each_ref).collect::<Vec<_>>());

    let endpoint = Endpoint::ok().await;
    for (_, _, name) in CATALOGUE {
        world.handler(name, name, &["--http", &endpoint.url(&format!("/{name}"))]);
    }
    world.serve().await;
    for (number, (_, _, name)) in CATALOGUE.into_iter().enumerate() {
        world.publish(name, None, number as u64, &json!({})).await;
    }
    let executions = world.wait_for_executions(CATALOGUE.len(), &["--status", "success"]).await;

    let called: BTreeMap<String, u64> =
        endpoint.calls().iter().map(|call| (call.path[1..].to_owned(), call.object_id())).collect();
    let expected: BTreeMap<String, u64> = CATALOGUE
        .iter()
        .enumerate()
        .map(|(number, (_, _, name))| ((*name).to_owned(), number as u64))
        .collect();
    assert_eq!(called, expected);
    assert_eq!(endpoint.count(), CATALOGUE.len(), "each is called once");
    for execution in executions {
        assert_eq!(execution["event"]["name"], execution["handler"]["name"]);
    }
    world.end().await;
}

#[blocking_test]
async fn an_event_type_is_added_and_removed_while_workers_run() {
    let mut world = World::new().await;
    world.serve().await;
    let endpoint = Endpoint::ok().await;

    world
        .run(&[
            "handlers",
            "create",
            "--name",
            "x",
            "--event",
            "clients.suspend",
            "--http",
            &endpoint.url("/"),
        ])
        .assert_failed(1, "is not in the catalogue");
    world.run(&["events", "add", "clients.suspend"]).assert_done();
    // Its queue is there before the worker knows of it: what is published at once is not lost.
    world.publish("clients.suspend", Some("early"), 1, &json!({})).await;
    world.wait_for_executions(1, &["--disposition", "no_handler", "--event-id", "early"]).await;
    let id = world.handler("suspend", "clients.suspend", &["--http", &endpoint.url("/")]).to_string();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    world.publish("clients.suspend", Some("late"), 2, &json!({})).await;
    endpoint.wait_for(1).await;
    world.wait_for_executions(1, &["--event-id", "late"]).await;

    world.run(&["events", "remove", "clients.suspend"]).assert_failed(1, "suspend");
    world.run(&["handlers", "delete", &id]).assert_done();
    world.run(&["events", "remove", "clients.suspend"]).assert_done();
    let names = world.json(&["events", "list"]);
    assert!(!names.as_array().unwrap().iter().any(|t| t["name"] == "clients.suspend"));
    // From now on it is unrouted, and a dead letter says so.
    world.broker.publish("clients.suspend", Some("gone"), b"{}").await;
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!(dead_letters[0]["reason"], "unrouted");
    assert_eq!(dead_letters[0]["event_name"], "clients.suspend");
    world.broker.delete_queue("events.clients.suspend").await;
    world.end().await;
}

#[blocking_test]
async fn an_event_without_handlers_is_recorded() {
    let mut world = World::new().await;
    world.serve().await;
    world.publish("clients.update", Some("lonely"), 7, &json!({"a": 1})).await;
    let executions = world.wait_for_executions(1, &[]).await;
    assert_eq!(executions[0]["disposition"], "no_handler");
    assert_eq!(executions[0]["status"], "skipped");
    assert_eq!(executions[0]["handler"], Value::Null);
    assert_eq!(executions[0]["event"]["object_id"], "7");
    eventually("the event is acknowledged", || async {
        world.broker.depth("events.clients.update").await.unwrap().0 == 0
    })
    .await;
    world.end().await;
}
