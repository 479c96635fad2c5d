//! Dead letters that an operator works with: replay, stop, resume, edit, discard, export.

mod broker;
mod care;
mod executions;
mod repaired;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::support::{Endpoint, Reply, World, envelope};

/// An endpoint that is down until it is repaired.
struct Repairable {
    endpoint: Endpoint,
    up: Arc<AtomicBool>,
}

impl Repairable {
    async fn down() -> Self {
        let up = Arc::new(AtomicBool::new(false));
        let is_up = Arc::clone(&up);
        let endpoint = Endpoint::start(move |_, _| {
            Reply::status(if is_up.load(Ordering::Relaxed) { 200 } else { 400 }).body("out of order")
        })
        .await;
        Self { endpoint, up }
    }

    fn repair(&self) {
        self.up.store(true, Ordering::Relaxed);
    }
}

/// How often each object came to an endpoint.
fn calls(endpoint: &Endpoint) -> BTreeMap<u64, usize> {
    let mut calls = BTreeMap::new();
    for call in endpoint.calls() {
        *calls.entry(call.object_id()).or_default() += 1;
    }
    calls
}

async fn publish(world: &World, event: &str, count: usize) {
    for number in 0..count {
        world.publish(event, Some(&format!("e{number}")), number as u64, &json!({"number": number})).await;
    }
}

fn replay(world: &World, args: &[&str]) -> Value {
    world.json(&[&["dead-letters", "replay", "--rate", "1000", "--yes"], args].concat())
}

#[blocking_test]
async fn what_failed_while_an_endpoint_was_down_is_replayed_and_nothing_else() {
    const EVENTS: usize = 150;
    let mut world = World::new().await;
    let (healthy, broken) = (Endpoint::ok().await, Repairable::down().await);
    world.handler("healthy", "clients.create", &["--http", &healthy.url("/")]);
    let id = world.handler("broken", "clients.create", &["--http", &broken.endpoint.url("/")]);
    world.serve().await;
    publish(&world, "clients.create", EVENTS).await;
    let dead_letters = world.wait_for_dead_letters(EVENTS).await;
    for dead_letter in &dead_letters {
        assert_eq!((&dead_letter["handler_id"], &dead_letter["attempts"]), (&json!(id), &json!(1)));
        assert_eq!(dead_letter["error"], "answered 400 Bad Request");
    }
    world.wait_for_executions(2 * EVENTS, &[]).await;

    let shown = world.run(&["dead-letters", "show", dead_letters[0]["id"].as_str().unwrap()]).stdout();
    for expected in
        ["broken failed permanently on clients.create", "answered HTTP 400: out of order", "broken (id 2)"]
    {
        assert!(shown.contains(expected), "{expected:?} is missing:\n{shown}");
    }
    let listed = world.run(&["dead-letters", "list", "--limit", "1"]);
    assert!(listed.stdout().ends_with("150 open: 150 permanent of broken\n"), "{}", listed.stdout());

    let planned = world.json(&["dead-letters", "replay", "--handler", &id.to_string(), "--dry-run"]);
    assert_eq!((&planned[0]["count"], &planned[0]["enabled"]), (&json!(EVENTS), &json!(1)));
    world
        .run(&["dead-letters", "replay", "--handler", &id.to_string()])
        .assert_failed(2, "Replay 150 at 50 a second, for 3s or longer? No terminal");
    world.run(&["dead-letters", "replay"]).assert_failed(2, "which dead letters?");
    assert_eq!(world.dead_letters().len(), EVENTS, "nothing was replayed yet");

    broken.repair();
    let report = replay(&world, &["--handler", &id.to_string()]);
    assert_eq!((&report["replayed"], &report["state"]), (&json!(EVENTS), &json!("finished")));
    assert_eq!((&report["failed"], &report["first_attempts"]), (&json!(0), &json!(EVENTS)));
    world.wait_for_executions(3 * EVENTS, &[]).await;
    assert!(calls(&healthy).values().all(|n| *n == 1) && healthy.count() == EVENTS);
    assert!(calls(&broken.endpoint).values().all(|n| *n == 2) && broken.endpoint.count() == 2 * EVENTS);
    let ids: std::collections::BTreeSet<_> =
        broken.endpoint.calls().iter().map(|call| call.header("webhook-id").to_owned()).collect();
    assert_eq!(ids.len(), EVENTS, "a replay is the same delivery to its receiver");

    assert!(world.dead_letters().is_empty());
    let closed = world.json(&["dead-letters", "list", "--state", "replayed", "--limit", "1"]);
    assert_eq!(closed[0]["state_note"], format!("replay {}", report["id"]));
    assert!(closed[0]["state_changed_at"].is_string() && closed[0]["state_changed_by"].is_string());
    world
        .run(&["dead-letters", "replay", closed[0]["id"].as_str().unwrap()])
        .assert_failed(1, "was already replayed");
    world.end().await;
}

#[blocking_test]
async fn a_halted_plan_goes_on_where_it_ended() {
    let mut world = World::new().await;
    let (before, broken, after) = (Endpoint::ok().await, Repairable::down().await, Endpoint::ok().await);
    let create = |name, endpoint: &Endpoint, priority| {
        let url = endpoint.url("/");
        let args = ["--http", &url, "--priority", priority, "--on-failure", "halt"];
        world.handler(name, "clients.create", &args)
    };
    create("before", &before, "1");
    let second = create("broken", &broken.endpoint, "2");
    let third = create("after", &after, "3");
    world.serve().await;
    publish(&world, "clients.create", 1).await;
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!(dead_letters[0]["plan"], json!([second, third]));
    let id = dead_letters[0]["id"].as_str().unwrap();
    let shown = world.json(&["dead-letters", "show", id]);
    assert_eq!(
        shown["replay"]["handlers"][1],
        json!({"id": third, "name": "after", "enabled": true, "deleted": false, "replaced_by": null})
    );
    broken.repair();
    assert_eq!(replay(&world, &[id])["replayed"], 1);
    world.wait_for_executions(4, &[]).await;
    assert_eq!((before.count(), broken.endpoint.count(), after.count()), (1, 2, 1));
    let runs = world.executions(&["--event-id", "e0"]);
    let runs: std::collections::BTreeSet<_> = runs.iter().map(|e| e["run_id"].to_string()).collect();
    assert_eq!(runs.len(), 2, "a replay is a run of its own");
    world.end().await;
}

#[blocking_test]
async fn what_would_run_nothing_is_refused_and_stays_open() {
    let mut world = World::new().await;
    let broken = Repairable::down().await;
    let id = world.handler("broken", "clients.create", &["--http", &broken.endpoint.url("/")]).to_string();
    world.serve().await;
    publish(&world, "clients.create", 1).await;
    world.publish("clients.suspend", Some("unknown"), 7, &json!({})).await;
    let dead_letters = world.wait_for_dead_letters(2).await;
    let id_of = |reason: &str| {
        dead_letters.iter().find(|l| l["reason"] == reason).unwrap()["id"].as_str().unwrap().to_owned()
    };
    world.run(&["handlers", "disable", &id]).assert_done();
    let refused = world.run(&["dead-letters", "replay", &id_of("permanent")]);
    assert_eq!(refused.output.status.code(), Some(1));
    assert!(
        refused.stdout().contains("refused 1: handler 1 is not enabled for clients.create"),
        "{}",
        refused.stdout()
    );
    let refused = world.run(&["dead-letters", "replay", &id_of("unrouted")]);
    assert!(refused.stdout().contains("no handler is enabled for clients.suspend"), "{}", refused.stdout());
    assert_eq!(world.dead_letters().len(), 2);

    // An operator who adds the event type can replay what was published before.
    world.run(&["events", "add", "clients.suspend"]).assert_done();
    let suspended = Endpoint::ok().await;
    world.handler("Suspend", "clients.suspend", &["--http", &suspended.url("/")]);
    world.wait_for_consumer("events.clients.suspend").await;
    assert_eq!(replay(&world, &["--reason", "unrouted"])["replayed"], 1);
    suspended.wait_for(1).await;
    world.wait_for_executions(1, &["--event-id", "unknown"]).await;
    world
        .run(&["dead-letters", "discard", "--all", "--reason", "the handler is gone", "--yes"])
        .assert_done();
    world.wait_for_executions(2, &[]).await;
    world.broker.delete_queue("events.clients.suspend").await;
    world.end().await;
}

#[blocking_test]
async fn a_malformed_event_is_edited_and_becomes_another_event() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    world.broker.publish("clients.create", Some("broken"), b"{\"event\":\xff").await;
    let dead_letters = world.wait_for_dead_letters(1).await;
    let id = dead_letters[0]["id"].as_str().unwrap();
    let refused = world.run(&["dead-letters", "replay", id]);
    assert!(
        refused.stdout().contains("it is not a valid event: the body is not UTF-8"),
        "{}",
        refused.stdout()
    );
    let other = envelope("clients.update", 5, &json!({}));
    world
        .run(&["dead-letters", "replay", id, "--data", &other])
        .assert_failed(1, "published as clients.create");
    world.run(&["dead-letters", "replay", "--all", "--data", "{}"]).assert_failed(2, "name its id");

    // The editor is what $EDITOR says, with its arguments.
    let good = envelope("clients.create", 5, &json!({"mended": true}));
    std::fs::write(world.dir.path().join("good.json"), &good).unwrap();
    let editor = world.script("edit.sh", "#!/bin/sh\ncp \"$1\" \"$2\"\n");
    let edit = |editor: String| {
        let mut command = world.command();
        command.args(["dead-letters", "replay", id, "--edit"]).env_remove("VISUAL").env("EDITOR", editor);
        command.output().unwrap()
    };
    let unchanged = edit("true".to_owned());
    assert!(String::from_utf8_lossy(&unchanged.stderr).contains("the body was not changed"));
    let edited = edit(format!("{} {}", editor.display(), world.dir.path().join("good.json").display()));
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    endpoint.wait_for(1).await;
    assert_eq!(endpoint.calls()[0].body, good.as_bytes());
    let executions = world.wait_for_executions(1, &[]).await;
    assert_ne!(executions[0]["event"]["id"], "broken", "receivers would take it for the old one");
    let closed = world.json(&["dead-letters", "show", id]);
    let note = closed["state_note"].as_str().unwrap();
    assert!(note.contains(executions[0]["event"]["id"].as_str().unwrap()), "{note}");
    world.end().await;
}

#[blocking_test]
async fn dead_letters_are_found_discarded_and_exported() {
    let mut world = World::new().await;
    world.serve().await;
    let bytes: &[u8] = b"{\"name\":\"caf\xc3\xa9\"";
    world.broker.publish("clients.create", Some("text"), bytes).await;
    world.broker.publish("clients.update", Some("raw"), b"\xff\x00 needle").await;
    world.wait_for_dead_letters(2).await;
    let listed_ids = |args: &[&str]| -> Vec<String> {
        let listed = world.json(&[&["dead-letters", "list"], args].concat());
        listed.as_array().unwrap().iter().map(|l| l["event_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed_ids(&["--text", "NEEDLE"]), ["raw"]);
    assert_eq!(listed_ids(&["--text", "café"]), ["text"]);
    assert_eq!(listed_ids(&["--event", "clients.create", "--since", "1h"]), ["text"]);
    assert!(listed_ids(&["--until", "1h"]).is_empty());
    assert!(listed_ids(&["--object", "12"]).is_empty());

    let exported = world.run(&["dead-letters", "export"]).stdout();
    let exported: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(exported[1]["body"].as_str().unwrap().as_bytes(), bytes);
    let raw = BASE64_STANDARD.decode(exported[0]["body_base64"].as_str().unwrap()).unwrap();
    assert_eq!(raw, b"\xff\x00 needle");

    world.run(&["dead-letters", "discard", "--text", "needle"]).assert_failed(2, "--reason");
    let discard = ["dead-letters", "discard", "--text", "needle", "--reason", "a test of theirs"];
    world.run(&discard).assert_failed(2, "confirm with --yes");
    let ran = world.run(&[&discard[..], &["--yes"]].concat());
    assert_eq!(ran.assert_done().stdout(), "discarded 1\n");
    let discarded = world.json(&["dead-letters", "list", "--state", "discarded"]);
    assert_eq!(
        (&discarded[0]["event_id"], &discarded[0]["state_note"]),
        (&json!("raw"), &json!("a test of theirs"))
    );
    assert_eq!(listed_ids(&[]), ["text"]);
    world.end().await;
}
