//! What fails is tried again, on the schedule; what cannot be done becomes a dead letter.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Endpoint, Reply, World, eventually};

async fn world() -> World {
    let mut world = World::new().await;
    world.set("retry.initial_interval", "1s");
    world.set("retry.multiplier", "2");
    world.set("retry.max_interval", "8s");
    world.set("retry.max_attempts", "4");
    world
}

async fn publish(world: &World, event: &str, id: &str) {
    world.publish(event, Some(id), 12, &json!({"id": 12})).await;
}

/// Erlang slews its clock by up to 1 % to follow the system's: the broker's seconds may be that much shorter.
const SLEW: f64 = 0.99;

/// Seconds between the calls of an endpoint.
fn gaps(endpoint: &Endpoint) -> Vec<f64> {
    let times: Vec<Instant> = endpoint.calls().iter().map(|call| call.at).collect();
    times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
}

#[blocking_test]
async fn unavailable_twice_and_then_well_takes_three_attempts() {
    let mut world = world().await;
    let endpoint = Endpoint::start(|_, before| Reply::status(if before < 2 { 503 } else { 200 })).await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/api")]);
    world.serve().await;
    publish(&world, "clients.create", "e1").await;
    let executions = world.wait_for_executions(3, &["--event-id", "e1"]).await;

    let dispositions: Vec<_> = executions
        .iter()
        .rev()
        .map(|e| (e["attempt"].as_i64().unwrap(), e["disposition"].as_str().unwrap()))
        .collect();
    assert_eq!(dispositions, [(1, "retrying"), (2, "retrying"), (3, "done")]);
    let first = executions.last().unwrap();
    assert_eq!(first["error"], "answered 503 Service Unavailable");
    assert_eq!(first["max_attempts"], 4);
    assert!(first["retry_at"].is_string());
    // 1 s and 2 s, 20 % jitter, rounded up to whole seconds.
    let gaps = gaps(&endpoint);
    assert!((SLEW..3.0).contains(&gaps[0]) && (2.0 * SLEW..4.0).contains(&gaps[1]), "{gaps:?}");
    let ids: Vec<_> = endpoint.calls().iter().map(|call| call.header("webhook-id").to_owned()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "the delivery id is the same on every attempt: {ids:?}");
    let attempts: Vec<_> =
        endpoint.calls().iter().map(|call| call.header("x-provisioning-attempt").to_owned()).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    let runs: std::collections::BTreeSet<_> = executions.iter().map(|e| e["run_id"].to_string()).collect();
    assert_eq!(runs.len(), 3, "every copy has a run id of its own");
    world.end().await;
}

#[blocking_test]
async fn retry_after_delays_the_next_attempt() {
    let mut world = world().await;
    let endpoint = Endpoint::start(|_, before| match before {
        0 => Reply::status(429).header("retry-after", "3"),
        _ => Reply::status(200),
    })
    .await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    publish(&world, "clients.create", "e1").await;
    endpoint.wait_for(2).await;
    let gap = gaps(&endpoint)[0];
    assert!((3.0 * SLEW..4.0).contains(&gap), "3 to 4 s, and it was {gap}");
    world.wait_for_executions(2, &[]).await;
    world.end().await;
}

#[blocking_test]
async fn not_found_is_a_dead_letter_at_once_and_gone_disables_the_handler() {
    let mut world = world().await;
    let missing = Endpoint::start(|_, _| Reply::status(404).body("no such client")).await;
    let gone = Endpoint::start(|_, _| Reply::status(410)).await;
    let id = world.handler("missing", "clients.create", &["--http", &missing.url("/")]);
    let gone_id = world.handler("gone", "clients.update", &["--http", &gone.url("/")]);
    world.serve().await;
    publish(&world, "clients.create", "e1").await;
    publish(&world, "clients.update", "e2").await;
    let dead_letters = world.wait_for_dead_letters(2).await;
    let dead_letter = dead_letters.iter().find(|dead_letter| dead_letter["event_id"] == "e1").unwrap();
    assert_eq!(dead_letter["reason"], "permanent");
    assert_eq!(dead_letter["error"], "answered 404 Not Found");
    assert_eq!((&dead_letter["handler_id"], &dead_letter["handler_name"]), (&json!(id), &json!("missing")));
    assert_eq!((&dead_letter["attempts"], &dead_letter["plan"]), (&json!(1), &json!([id])));
    assert_eq!(missing.count(), 1);
    let shown = world.json(&["dead-letters", "show", dead_letter["id"].as_str().unwrap()]);
    assert_eq!(shown["executions"][0]["response"]["body"], "no such client");
    assert_eq!(shown["executions"][0]["disposition"], "dead_lettered");

    eventually("the gone handler is disabled", || async {
        world.json(&["handlers", "show", &gone_id.to_string()])["status"] == "disabled"
    })
    .await;
    let history = world.json(&["handlers", "history", &gone_id.to_string()]).to_string();
    assert!(history.contains("410"), "the history says why: {history}");
    world.end().await;
}

#[blocking_test]
async fn attempts_that_are_used_up_end_as_a_dead_letter() {
    let mut world = world().await;
    let endpoint = Endpoint::start(|_, _| Reply::status(500)).await;
    let flags = ["--http", &endpoint.url("/"), "--max-attempts", "2", "--initial-interval", "1s"];
    world.handler("CRM", "clients.create", &flags);
    world.serve().await;
    publish(&world, "clients.create", "e1").await;
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!((&dead_letters[0]["reason"], &dead_letters[0]["attempts"]), (&json!("exhausted"), &json!(2)));
    assert!(
        dead_letters[0]["first_failed_at"].as_str().unwrap() < dead_letters[0]["died_at"].as_str().unwrap()
    );
    assert_eq!(endpoint.count(), 2);
    world.wait_for_executions(2, &["--status", "fail"]).await;
    world.end().await;
}

#[blocking_test]
async fn halt_keeps_later_handlers_waiting_and_continue_does_not() {
    let mut world = world().await;
    let first = Endpoint::start(|_, before| Reply::status(if before == 0 { 503 } else { 200 })).await;
    let second = Endpoint::ok().await;
    let (halting, waiting) = (
        Endpoint::start(|_, before| Reply::status(if before == 0 { 503 } else { 200 })).await,
        Endpoint::ok().await,
    );
    world.handler("first", "clients.create", &["--http", &first.url("/"), "--priority", "1"]);
    world.handler("second", "clients.create", &["--http", &second.url("/"), "--priority", "2"]);
    world.handler(
        "halting",
        "clients.update",
        &["--http", &halting.url("/"), "--priority", "1", "--on-failure", "halt"],
    );
    world.handler("waiting", "clients.update", &["--http", &waiting.url("/"), "--priority", "2"]);
    world.serve().await;
    publish(&world, "clients.create", "continued").await;
    publish(&world, "clients.update", "halted").await;
    world.wait_for_executions(6, &[]).await;

    let call_time = |endpoint: &Endpoint, n: usize| endpoint.calls()[n].at;
    assert!(
        call_time(&second, 0) < call_time(&first, 1),
        "continue: the second ran before the first succeeded"
    );
    assert!(
        call_time(&waiting, 0) > call_time(&halting, 1),
        "halt: the second waited until the first succeeded"
    );
    assert_eq!((first.count(), second.count(), halting.count(), waiting.count()), (2, 1, 2, 1));
    world.end().await;
}

#[blocking_test]
async fn a_halting_handler_that_fails_for_good_takes_the_rest_into_its_dead_letter() {
    let mut world = world().await;
    let (refusing, waiting) = (Endpoint::start(|_, _| Reply::status(400)).await, Endpoint::ok().await);
    let flags = ["--http", &refusing.url("/"), "--priority", "1", "--on-failure", "halt"];
    let first = world.handler("refusing", "clients.create", &flags);
    let second =
        world.handler("waiting", "clients.create", &["--http", &waiting.url("/"), "--priority", "2"]);
    world.serve().await;
    publish(&world, "clients.create", "e1").await;
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!(dead_letters[0]["plan"], json!([first, second]));
    world.wait_for_executions(1, &[]).await;
    assert_eq!(waiting.count(), 0);
    world.end().await;
}

#[blocking_test]
async fn a_handler_disabled_while_its_retry_waits_is_skipped() {
    let mut world = world().await;
    let endpoint = Endpoint::start(|_, _| Reply::status(503)).await;
    let id = world
        .handler("CRM", "clients.create", &["--http", &endpoint.url("/"), "--initial-interval", "3s"])
        .to_string();
    world.serve().await;
    publish(&world, "clients.create", "e1").await;
    endpoint.wait_for(1).await;
    world.run(&["handlers", "disable", &id]).assert_done();
    let skipped = world.wait_for_executions(1, &["--disposition", "handler_off"]).await;
    assert_eq!(skipped[0]["attempt"], 2);
    assert_eq!(skipped[0]["handler"]["name"], "CRM");
    assert_eq!(endpoint.count(), 1, "it was not called again");
    // Deleted, it keeps its name, though the worker that skips it knows nothing of it any more.
    world.run(&["handlers", "enable", &id]).assert_done();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await; // a change is live within a second
    publish(&world, "clients.create", "e2").await;
    endpoint.wait_for(2).await;
    world.run(&["handlers", "delete", &id]).assert_done();
    let skipped = world.wait_for_executions(2, &["--disposition", "handler_off"]).await;
    assert_eq!((&skipped[0]["attempt"], &skipped[0]["handler"]["name"]), (&json!(2), &json!("CRM")));
    let failing = &world.json(&["status"])["failing_handlers"][0];
    assert_eq!((&failing["handler_name"], &failing["status"]), (&json!("CRM"), &json!(null)));
    world.end().await;
}

#[blocking_test]
async fn a_url_corrected_while_its_retry_waits_is_used() {
    let mut world = world().await;
    let healthy = Endpoint::ok().await;
    // Nothing listens there.
    let id = world
        .handler("CRM", "clients.create", &["--http", "127.0.0.1:1/api", "--initial-interval", "2s"])
        .to_string();
    world.serve().await;
    publish(&world, "clients.create", "e1").await;
    let failed = world.wait_for_executions(1, &["--disposition", "retrying"]).await;
    let error = failed[0]["error"].as_str().unwrap();
    assert!(error.contains("refused") && error.contains("127.0.0.1:1"), "{error}");
    world.run(&["handlers", "update", &id, "--http", &healthy.url("/api")]).assert_done();
    let succeeded = world.wait_for_executions(1, &["--status", "success"]).await;
    assert_eq!((&succeeded[0]["attempt"], healthy.count()), (&json!(2), 1));
    world.end().await;
}

#[blocking_test]
async fn a_slow_answer_times_out_and_does_not_slow_others() {
    let mut world = world().await;
    let slow = Endpoint::start(|_, _| Reply::status(200).after(Duration::from_secs(20))).await;
    let fast = Endpoint::ok().await;
    world.handler(
        "slow",
        "clients.create",
        &["--http", &slow.url("/"), "--timeout", "3s", "--max-attempts", "1"],
    );
    world.handler("fast", "clients.update", &["--http", &fast.url("/")]);
    world.serve().await;
    publish(&world, "clients.create", "slow").await;
    slow.wait_for(1).await;
    let begun = Instant::now();
    publish(&world, "clients.update", "fast").await;
    fast.wait_for(1).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "the other queue waited");
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert!(dead_letters[0]["error"].as_str().unwrap().contains("no answer within 3s"), "{dead_letters:?}");
    world.wait_for_executions(2, &[]).await;
    world.end().await;
}
