//! What is delivered again is not done again, and what is published twice is run once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    monitoring::{get, metrics_address},
    start::behind_proxies,
};
use crate::support::{
    Call, Endpoint, Kind, Process, Proxy, Reply, Step, Strike, When, World, address, envelope, eventually,
};

const EVENT: &str = "clients.create";
const QUEUE: &str = "events.clients.create";

fn body(object: u64) -> String {
    envelope(EVENT, object, &json!({}))
}

fn dispositions(executions: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for execution in executions {
        *counts.entry(execution["disposition"].as_str().expect("text").to_owned()).or_default() += 1;
    }
    counts
}

/// SIGKILL, and the broker's knowledge of it.
async fn kill(world: &World, mut worker: Process) {
    worker.signal(Signal::SIGKILL);
    worker.ended(Duration::from_secs(5)).await;
    eventually("the broker has noticed", || async {
        world.broker.depth(QUEUE).await.is_some_and(|(_, consumers)| consumers == 0)
    })
    .await;
}

#[blocking_test]
async fn a_killed_worker_s_event_goes_on_where_it_stopped() {
    let mut world = World::new().await;
    let (first, third) = (Endpoint::ok().await, Endpoint::ok().await);
    let second = Endpoint::start(|_, before| {
        Reply::status(200).after(Duration::from_secs(if before == 0 { 60 } else { 0 }))
    })
    .await;
    for (priority, endpoint) in [("1", &first), ("2", &second), ("3", &third)] {
        world.handler(priority, EVENT, &["--http", &endpoint.url("/"), "--priority", priority]);
    }
    let recorder = world.recorder().await;
    world.keep(recorder);
    let worker = world.worker().await;
    world.broker.publish(EVENT, Some("e1"), body(1).as_bytes()).await;
    second.wait_for(1).await;
    world.wait_for_executions(1, &[]).await;
    kill(&world, worker).await;

    let worker = world.worker().await;
    world.keep(worker);
    world.wait_for_executions(3, &[]).await;
    assert_eq!((first.count(), second.count(), third.count()), (1, 2, 1));
    let ids =
        |endpoint: &Endpoint| endpoint.calls().iter().map(|c| c.header("webhook-id").to_owned()).collect();
    let seen: Vec<String> = ids(&second);
    assert_eq!(seen.first(), seen.last(), "the second call can be told to be the same delivery");
    world.end().await;
}

#[blocking_test]
async fn what_comes_again_after_it_was_recorded_runs_nothing() {
    let mut world = World::new().await;
    let endpoint =
        Endpoint::start(|call, _| Reply::status(if call.path == "/halts" { 503 } else { 200 })).await;
    let add = |name: &str, priority: &str, more: &[&str]| {
        let url = endpoint.url(&format!("/{name}"));
        world.handler(name, EVENT, &[&["--http", &url, "--priority", priority], more].concat())
    };
    add("asks", "1", &["--mode", "intercept"]);
    add("continues", "2", &[]);
    add("halts", "3", &["--on-failure", "halt", "--max-attempts", "1"]);
    add("after", "4", &[]);
    let (mut worker, recorder) = (world.worker().await, world.recorder().await);
    world.keep(recorder);
    world.broker.publish(EVENT, Some("e1"), body(1).as_bytes()).await;
    world.wait_for_executions(3, &[]).await;
    world.wait_for_dead_letters(1).await;
    worker.terminate().await;

    // As it would be had the worker died before its acknowledgement; and another event that its
    // publisher gave the same id.
    world.broker.publish(EVENT, Some("e1"), format!(" {}\n", body(1)).as_bytes()).await;
    world.broker.publish(EVENT, Some("e1"), body(2).as_bytes()).await;
    world.broker.take_and_die(QUEUE).await;
    world.set("telemetry.log", "info,provisiond::worker=debug");
    let worker = world.worker().await;
    // Of what is left out there is nothing else to see.
    eventually("both were delivered again", || async {
        worker.log().matches("resuming the run without its recorded handlers").count() == 2
    })
    .await;
    world.keep(worker);
    let executions = world.wait_for_executions(6, &[]).await;
    let of_second = executions.iter().filter(|e| e["event"]["object_id"] == "2").count();
    assert_eq!(of_second, 3, "the other event ran");
    assert_eq!(endpoint.count(), 6);
    assert_eq!(world.wait_for_dead_letters(2).await.len(), 2);
    world.end().await;
}

#[blocking_test]
async fn a_lost_connection_does_not_call_what_still_runs() {
    let mut world = World::new().await;
    let (mut broker, mut postgres) = behind_proxies(&mut world);
    broker.open();
    postgres.open();
    let endpoint = Endpoint::start(|_, _| Reply::status(200).after(Duration::from_secs(4))).await;
    world.set("worker.concurrency", "5");
    world.handler("slow", EVENT, &["--http", &endpoint.url("/")]);
    world.serve().await;
    for object in 0..8 {
        world.broker.publish(EVENT, Some(&format!("e{object}")), body(object).as_bytes()).await;
    }
    endpoint.wait_for(5).await;
    broker.close().await;
    broker.open();
    world.wait_for_executions(8, &[]).await;
    assert_eq!(endpoint.count(), 8, "no call was made twice");
    let mut running: Vec<_> = endpoint.calls().iter().map(|call| call.at).collect();
    running.sort_unstable();
    let gap = running[5].duration_since(running[0]);
    assert!(gap >= Duration::from_millis(3900), "a sixth ran after {gap:?}: worker.concurrency is 5");
    world.end().await;
}

#[blocking_test]
async fn a_retry_that_is_in_the_broker_twice_is_called_once() {
    let mut world = World::new().await;
    let mut link = Proxy::amqp(address(&world.amqp_url));
    link.open();
    world.set("amqp.url", &link.redirect(&world.amqp_url));
    world.set("telemetry.log", "info,provisiond::worker=debug");
    let endpoint = Endpoint::start(|_, before| Reply::status(if before == 0 { 503 } else { 200 })).await;
    world.handler("flaky", EVENT, &["--http", &endpoint.url("/"), "--initial-interval", "8s"]);
    let recorder = world.recorder().await;
    world.keep(recorder);
    let worker = world.worker().await;
    let confirm_cut = link.strike(Step::Confirm(Kind::Copy), 1, When::Before, Strike::Cut);
    world.broker.publish(EVENT, Some("e1"), body(1).as_bytes()).await;
    confirm_cut.await.expect("the copy is in the broker, and its worker does not know it");
    eventually("both copies have come", || async {
        worker.log().contains("resuming the run without its recorded handlers")
    })
    .await;
    world.keep(worker);
    world.wait_for_executions(2, &[]).await;
    let attempts: Vec<_> =
        endpoint.calls().iter().map(|c| c.header("x-provisioning-attempt").to_owned()).collect();
    assert_eq!(attempts, ["1", "2"]);
    world.end().await;
}

#[blocking_test]
async fn an_event_that_takes_its_worker_down_is_given_up_and_its_neighbours_are_not() {
    let mut world = World::new().await;
    world.set("worker.crash_limit", "5");
    let endpoint = Endpoint::ok().await;
    // By then what the handler before it did is recorded.
    let killer = "#!/bin/sh\n[ \"$PROVISIONING_OBJECT_ID\" != 13 ] || { sleep 1; kill -9 $PPID; }\n";
    world.handler("fine", EVENT, &["--http", &endpoint.url("/"), "--priority", "1"]);
    let script = world.script("deadly", killer);
    let deadly =
        world.handler("deadly", EVENT, &["--script", script.to_str().expect("text"), "--priority", "2"]);
    let recorder = world.recorder().await;
    world.keep(recorder);
    let mut worker = world.worker().await;
    for object in 1..=30 {
        world.broker.publish(EVENT, Some(&format!("e{object}")), body(object).as_bytes()).await;
    }
    let mut crashes = 0;
    eventually("a dead letter", || {
        if !worker.is_running() {
            crashes += 1;
            worker = world.spawn(&["--roles", "worker"]);
        }
        let found = world.dead_letters().len() == 1;
        async move { found }
    })
    .await;
    world.keep(worker);
    // Three among its neighbours, and then alone.
    assert_eq!(crashes, 8);
    let dead_letters = world.wait_for_dead_letters(1).await;
    let dead_letter = &dead_letters[0];
    assert_eq!((&dead_letter["reason"], &dead_letter["object_id"]), (&json!("crash_loop"), &json!("13")));
    assert_eq!(dead_letter["plan"], json!([deadly]), "what had ended is not in it");
    let counted = || async { world.count("SELECT count(*) FROM suspects").await == 0 };
    eventually("what ended is not counted any more", counted).await;
    let executions = world.wait_for_executions(59, &[]).await;
    assert_eq!(dispositions(&executions), BTreeMap::from([("done".to_owned(), 59)]));
    world.end().await;
}

#[blocking_test]
async fn an_event_that_is_published_twice_runs_once_if_asked_for() {
    let mut world = World::new().await;
    world.set("worker.deduplicate", "1h");
    let endpoint = Endpoint::ok().await;
    world.handler("one", EVENT, &["--http", &endpoint.url("/")]);
    world.serve().await;
    for _ in 0..3 {
        world.broker.publish(EVENT, Some("e1"), body(1).as_bytes()).await;
        // Without an id nobody can tell two events that look the same from one that is told twice.
        world.broker.publish(EVENT, None, body(2).as_bytes()).await;
    }
    let executions = world.wait_for_executions(6, &[]).await;
    let expected = BTreeMap::from([("done".to_owned(), 4), ("duplicate".to_owned(), 2)]);
    assert_eq!(dispositions(&executions), expected);
    assert_eq!(endpoint.count(), 4);
    world.end().await;
}

#[blocking_test]
async fn an_id_that_was_used_for_something_else_suppresses_no_event() {
    let mut world = World::new().await;
    world.set("worker.deduplicate", "1h");
    let endpoint = Endpoint::ok().await;
    world.handler("one", EVENT, &["--http", &endpoint.url("/")]);
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    // A stranger takes the id of an event that is to come.
    for (done, object) in [(1, 666), (2, 1)] {
        world.broker.publish(EVENT, Some("e1"), body(object).as_bytes()).await;
        world.wait_for_executions(done, &["--status", "success"]).await;
    }
    let called: Vec<u64> = endpoint.calls().iter().map(Call::object_id).collect();
    assert_eq!(called, [666, 1]);
    assert!(worker.log().contains("used before with a different body"), "{}", worker.log());
    world.keep(worker);
    world.keep(recorder);
    world.end().await;
}

#[blocking_test]
async fn without_postgres_duplicates_run_and_the_log_says_so() {
    let mut world = World::new().await;
    world.set("worker.deduplicate", "1h");
    let (mut broker, mut postgres) = behind_proxies(&mut world);
    broker.open();
    postgres.open();
    let endpoint = Endpoint::ok().await;
    world.handler("one", EVENT, &["--http", &endpoint.url("/")]);
    let worker = world.worker().await;
    postgres.close().await;
    for _ in 0..2 {
        world.broker.publish(EVENT, Some("e1"), body(1).as_bytes()).await;
    }
    endpoint.wait_for(2).await;
    assert!(worker.log().contains("running possible duplicates"), "{}", worker.log());
    postgres.open();
    world.keep(worker);
    let recorder = world.recorder().await;
    world.keep(recorder);
    world.wait_for_executions(2, &[]).await;
    world.end().await;
}

/// A worker that was stopped for a while finds events in its hand that another one has done: what it had put off is not
/// done again.
#[blocking_test]
async fn what_was_put_off_is_not_called_when_another_worker_did_it_meanwhile() {
    const EVENTS: u64 = 40;
    const AT_A_TIME: usize = 5;
    let mut world = World::new().await;
    world.set("amqp.heartbeat", "5s");
    let begun = Instant::now();
    // Slow at first, so that most wait for a slot when their worker stops.
    let endpoint = Endpoint::start(move |_, _| {
        let is_slow = begun.elapsed() < Duration::from_secs(15);
        Reply::status(200).after(Duration::from_secs(if is_slow { 20 } else { 0 }))
    })
    .await;
    let max_concurrency = AT_A_TIME.to_string();
    world.handler(
        "CRM",
        EVENT,
        &["--http", &endpoint.url("/"), "--max-concurrency", &max_concurrency, "--timeout", "5m"],
    );
    let recorder = world.recorder().await;
    world.keep(recorder);
    let stopped = world.worker().await;
    for object in 0..EVENTS {
        world.broker.publish(EVENT, Some(&format!("e{object}")), body(object).as_bytes()).await;
    }
    endpoint.wait_for(AT_A_TIME).await;
    stopped.signal(Signal::SIGSTOP);
    let other = world.worker().await;
    let done = async |count| world.executions(&["--disposition", "done"]).len() >= count;
    let count = usize::try_from(EVENTS).expect("a count");
    eventually("the other has done all of it", async || done(count).await).await;
    // Longer than a slot is waited for.
    tokio::time::sleep(Duration::from_secs(35).saturating_sub(begun.elapsed())).await;
    stopped.signal(Signal::SIGCONT);
    let base_url = metrics_address(&stopped).await;
    eventually("it has settled what it had in hand", || async {
        let (_, metrics) = get(&format!("{base_url}/metrics")).await;
        let in_hand =
            |line: &&str| line.starts_with("provisiond_deliveries_in_flight{") && !line.ends_with(" 0");
        metrics.lines().filter(in_hand).count() == 0
    })
    .await;
    world.keep(stopped);
    world.keep(other);
    eventually("nothing waits any more", || async { world.left_in_queues().await.is_empty() }).await;
    let repeated = endpoint.count() - count;
    // Those that ran when it was stopped, and a few of which the database did not say in time that they were done.
    assert!(repeated <= 2 * AT_A_TIME, "{repeated} calls were repeated");
    world.end().await;
}

/// An id is its publisher's word: what was published again on purpose, and waits for a slot, is no delivery of the first one.
#[blocking_test]
async fn what_is_published_again_runs_again_however_long_it_waits_for_a_slot() {
    let mut world = World::new().await;
    let endpoint = Endpoint::start(|call, _| {
        Reply::status(200).after(Duration::from_secs(if call.object_id() == 2 { 14 } else { 0 }))
    })
    .await;
    world.handler("CRM", EVENT, &["--http", &endpoint.url("/"), "--max-concurrency", "1"]);
    world.serve().await;
    world.broker.publish(EVENT, Some("again"), body(1).as_bytes()).await;
    world.wait_for_executions(1, &["--event-id", "again"]).await;
    world.broker.publish(EVENT, Some("slow"), body(2).as_bytes()).await;
    endpoint.wait_for(2).await;
    world.broker.publish(EVENT, Some("again"), body(1).as_bytes()).await;
    world.wait_for_executions(2, &["--event-id", "again", "--disposition", "done"]).await;
    assert_eq!(endpoint.count(), 3);
    world.end().await;
}
