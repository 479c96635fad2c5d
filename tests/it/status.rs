//! How it goes: which processes there are, what went on, what waits.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{Endpoint, Reply, World, envelope, eventually};

const EVENTS: u64 = 25;

impl World {
    fn status(&self) -> Value {
        self.json(&["status"])
    }

    /// The processes that are seen, by their roles.
    fn seen(&self, role: &str) -> Vec<Value> {
        let status = self.status();
        let processes = status["processes"].as_array().expect("an array");
        let with_role =
            |process: &&Value| process["roles"].as_array().is_some_and(|roles| roles.contains(&json!(role)));
        processes.iter().filter(with_role).cloned().collect()
    }

    async fn publish_events(&self, event: &str, count: u64) {
        for object in 0..count {
            let body = envelope(event, object, &json!({}));
            self.broker.publish(event, Some(&format!("{event}-{object}")), body.as_bytes()).await;
        }
    }
}

#[blocking_test]
async fn a_process_is_seen_while_it_runs() {
    let mut world = World::new().await;
    let slow = Endpoint::start(|_, _| Reply::status(200).after(Duration::from_secs(12))).await;
    world.handler("slow", "clients.create", &["--http", &slow.url("/")]);
    let recorder = world.recorder().await;
    world.keep(recorder);
    let mut worker = world.worker().await;
    eventually("the worker tells of itself", || async {
        world
            .seen("worker")
            .first()
            .is_some_and(|seen| seen["report"]["worker"]["consuming"]["connected"] == true)
    })
    .await;
    let seen = world.seen("worker");
    let report = &seen[0]["report"]["worker"];
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (&report["events"], &report["handlers"], &report["circuits"]),
        (&json!(["#"]), &json!(1), &json!([]))
    );
    assert!(report["registry_read_at"].is_string() && seen[0]["pid"].is_u64());
    assert_eq!(world.seen("recorder").len(), 1, "the other process is its own");

    world.publish_events("clients.create", 3).await;
    eventually("what is under way is told", || async {
        world.seen("worker").first().is_some_and(|seen| seen["report"]["worker"]["in_flight"] == 3)
    })
    .await;
    world.wait_for_executions(3, &[]).await;
    assert!(worker.terminate().await.success());
    assert!(world.seen("worker").is_empty(), "it took its row away: {:#}", world.status());
    eventually("the recorder tells what it wrote", || async {
        world.seen("recorder")[0]["report"]["recorder"]["executions"] == 3
    })
    .await;
    assert!(world.run(&["status"]).stdout().contains("Open dead letters"));
    world.end().await;
}

#[blocking_test]
async fn the_numbers_are_those_of_the_rows() {
    let mut world = World::new().await;
    world.set("retry.initial_interval", "1s");
    world.set("retry.max_attempts", "2");
    let (ok, down, refusing) = (
        Endpoint::ok().await,
        Endpoint::start(|_, _| Reply::status(503)).await,
        Endpoint::start(|_, _| Reply::status(422)).await,
    );
    world.handler("ok", "clients.create", &["--http", &ok.url("/")]);
    let refusing = world.handler("refusing", "clients.update", &["--http", &refusing.url("/")]);
    let down = world.handler("down", "clients.delete", &["--http", &down.url("/")]);
    world.serve().await;
    let results = world.broker.bind_own_queue("results", "#").await;
    let mut results = world.broker.consume(&results).await;
    world.publish_events("clients.create", EVENTS).await;
    world.publish_events("clients.update", EVENTS).await;
    world.publish_events("clients.delete", 3).await;
    world.publish_events("clients.archive", 2).await;
    let all = usize::try_from(2 * EVENTS + 3 * 2 + 2).expect("a count");
    world.wait_for_executions(all, &[]).await;
    // Each result comes to the recorder a second time.
    for _ in 0..all {
        let result = results.next().await.expect("a result").expect("a result");
        world.broker.publish_to("execution-log", &result.data).await;
    }
    world.publish_events("clients.archive", 3).await;
    // The last one is recorded after all that came twice.
    world.wait_for_executions(all + 3, &[]).await;
    let count = |sql: String| {
        let world = &world;
        async move { u64::try_from(world.count(&sql).await).expect("a count") }
    };
    let status = world.status();
    let total = &status["activity"]["total"];
    for disposition in ["done", "retrying", "dead_lettered", "forbidden"] {
        let rows =
            count(format!("SELECT count(*) FROM executions WHERE disposition = '{disposition}'")).await;
        assert_eq!(total[disposition], rows, "{disposition}");
    }
    assert_eq!(
        total["skipped"],
        count("SELECT count(*) FROM executions WHERE status = 'skipped'".into()).await
    );
    assert_eq!((&total["dead_lettered"], &total["retrying"]), (&json!(EVENTS + 3), &json!(3)));
    assert!(total["p95_ms"].is_f64(), "{total}");
    let failing = [&status["failing_handlers"][0], &status["failing_handlers"][1]];
    assert_eq!((&failing[0]["handler_id"], &failing[0]["failures"]), (&json!(refusing), &json!(EVENTS)));
    assert_eq!((&failing[1]["handler_id"], &failing[1]["attempts"]), (&json!(down), &json!(6)));
    assert_eq!(status["open_dead_letters"]["total"], EVENTS + 3);
    assert_eq!(status["open_dead_letters"]["reasons"][0], json!({"reason": "permanent", "count": EVENTS}));
    eventually("the events that were taken are told", || async {
        // What is published again under the same id was taken all the same; a retry is no event.
        world.status()["activity"]["total"]["events"] == 2 * EVENTS + 3 + 2 + 3
    })
    .await;
    world.end().await;
}

#[blocking_test]
async fn an_open_circuit_is_reported() {
    let mut world = World::new().await;
    world.set("retry.initial_interval", "10m");
    world.set("worker.concurrency", "5");
    let down = Endpoint::start(|_, _| Reply::status(503)).await;
    let handler = world.handler("down", "clients.create", &["--http", &down.url("/")]);
    world.serve().await;
    world.publish_events("clients.create", EVENTS).await;
    let circuit = || world.seen("worker").first().map(|seen| seen["report"]["worker"]["circuits"][0].clone());
    eventually("the circuit is told", || async {
        circuit().is_some_and(|circuit| circuit["handler_id"] == handler)
    })
    .await;
    let circuit = circuit().expect("told");
    assert_eq!(circuit["state"], "open");
    assert!(
        circuit["error"].as_str().is_some_and(|error| error.contains("503")) && circuit["until"].is_string()
    );
    assert!(world.run(&["status"]).stdout().contains("Open circuits"));
    let status = world.status();
    assert_eq!(status["waiting"]["retries"], EVENTS, "they wait in the ladder");
    // It is another handler now.
    world.run(&["handlers", "update", &handler.to_string(), "--name", "mended"]).assert_done();
    eventually("a changed handler begins anew", || async {
        world.seen("worker").first().is_some_and(|seen| seen["report"]["worker"]["circuits"] == json!([]))
    })
    .await;
    world.abandon().await;
}

#[blocking_test]
async fn queues_are_reported_with_messages_and_consumers() {
    let world = World::new().await;
    let mut worker = world.worker().await;
    let queue = |name: &str| {
        let status = world.status();
        let queues = status["waiting"]["queues"].as_array().expect("an array").clone();
        queues.into_iter().find(|queue| queue["queue"] == world.broker.name(name)).expect("told")
    };
    assert_eq!(queue("events.clients.create")["depth"], json!({"messages": 0, "consumers": 1}));
    assert_eq!(queue("delay.v1.level-3")["seconds"], 8);
    assert!(worker.terminate().await.success());
    world.publish_events("clients.create", 4).await;
    assert_eq!(queue("events.clients.create")["depth"], json!({"messages": 4, "consumers": 0}));
    assert_eq!(queue("execution-log")["kind"], "execution_log");

    world.broker.delete_queue("events.clients.update").await;
    world.broker.delete_queue("delay.v1.level-3").await;
    let missing = queue("events.clients.update");
    assert_eq!((&missing["depth"], &missing["event"]), (&Value::Null, &json!("clients.update")));
    assert_eq!(queue("delay.v1.level-3")["depth"], Value::Null);
    assert_eq!(queue("events.clients.create")["depth"]["messages"], 4, "those after a missing one are told");
    assert!(world.run(&["status"]).stdout().contains("missing"));
    world.abandon().await;
}

#[blocking_test]
async fn a_retry_that_does_not_come_back_is_reported() {
    let mut world = World::new().await;
    let broken = Endpoint::start(|_, _| Reply::status(500)).await;
    let args = ["--http", &broken.url("/"), "--initial-interval", "1h"];
    world.handler("CRM", "clients.create", &args);
    world.serve().await;
    world.publish_events("clients.create", 2).await;
    world.wait_for_executions(2, &["--disposition", "retrying"]).await;
    assert_eq!(world.status()["waiting"]["overdue_retries"], 0);
    let version = world.run(&["check"]);
    let stdout = version.assert_done().stdout();
    assert!(stdout.contains("RabbitMQ ") && !stdout.contains("have not run"), "{stdout}");

    // As if the broker kept one of them, and had given the other back.
    let late = "UPDATE executions SET retry_at = now() - interval '3 minutes'";
    world.rows(late, &[]).await;
    let again = "INSERT INTO executions SELECT (e).* FROM (
        SELECT jsonb_populate_record(x, jsonb_build_object('id', gen_random_uuid(), 'attempt', 2, 'started_at', now(),
            'status', 'success', 'disposition', 'done', 'retry_at', null, 'error', null)) AS e
        FROM executions x WHERE object_id = '0') again";
    world.rows(again, &[]).await;
    let status = world.run(&["status"]);
    let stdout = status.assert_done().stdout();
    assert!(stdout.contains("1 were due more than two minutes ago"), "{stdout}");
    assert_eq!(world.status()["waiting"]["overdue_retries"], 1);
    let checked = world.run(&["check"]);
    assert!(
        checked.assert_done().stdout().contains("1 were due more than two minutes ago"),
        "{}",
        checked.stdout()
    );
    // The retries wait for an hour.
    world.abandon().await;
}

#[blocking_test]
async fn a_retry_that_came_back_is_not_overdue() {
    let mut world = World::new().await;
    let flaky = Endpoint::start(|_, n| Reply::status(if n < 2 { 500 } else { 200 })).await;
    world.handler("CRM", "clients.create", &["--http", &flaky.url("/"), "--initial-interval", "1s"]);
    world.serve().await;
    world.publish_events("clients.create", 2).await;
    world.wait_for_executions(2, &["--disposition", "done"]).await;
    let due = "UPDATE executions SET retry_at = now() - interval '3 minutes' WHERE retry_at IS NOT NULL";
    world.rows(due, &[]).await;
    assert_eq!(
        world.count("SELECT count(*) FROM executions WHERE retry_at < now() - interval '2 minutes'").await,
        2
    );
    assert_eq!(world.status()["waiting"]["overdue_retries"], 0);
    let checked = world.run(&["check"]);
    assert!(!checked.assert_done().stdout().contains("have not run"), "{}", checked.stdout());
    world.abandon().await;
}
