//! Two installations that share a prefix by mistake: the second one is refused, and takes nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Endpoint, Proxy, Reply, World, address, envelope, eventually};

/// A database of its own, as one who copies a configuration and changes half of it has.
async fn other_database(world: &mut World) -> String {
    let ours = world.variable("PROVISIOND_DATABASE__URL");
    let other = format!("{ours}_other");
    let name = other.rsplit('/').next().expect("a name");
    world.admin(&format!("CREATE DATABASE {name}")).await;
    world.set("database.url", &other);
    world.run(&["migrate"]).assert_done();
    ours
}

fn installation_finding(world: &World) -> Value {
    let ran = world.run(&["check", "--output", "json"]);
    let report: Vec<Value> = serde_json::from_slice(&ran.output.stdout).expect("JSON");
    report.into_iter().find(|finding| finding["what"] == "installation").expect("a finding")
}

#[blocking_test]
async fn a_second_installation_is_refused_until_it_takes_over() {
    let mut world = World::new().await;
    assert_eq!(installation_finding(&world)["state"], "ok", "nobody has it yet");
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    assert_eq!(installation_finding(&world)["state"], "ok");

    let ours = other_database(&mut world).await;
    for roles in ["worker", "recorder", "console", "worker,recorder"] {
        let mut refused = world.spawn(&["--roles", roles]);
        assert!(!refused.ended(Duration::from_secs(30)).await.success(), "{roles}");
        let log = refused.log();
        assert!(log.contains("belongs to installation") && log.contains("take-over"), "{log}");
    }
    let finding = installation_finding(&world);
    assert_eq!(finding["state"], "failed", "{finding}");
    for object in 0..20 {
        world.publish("clients.create", None, object, &json!({})).await;
    }
    endpoint.wait_for(20).await;
    world.run(&["take-over"]).assert_failed(1, "Stop them first");
    drop(worker);

    // This database takes the other's place, while a recorder of that runs.
    world.run(&["take-over"]).assert_failed(1, &world.broker.name("execution-log"));
    let report = world.json(&["take-over", "--force"]);
    assert!(report["before"].as_str().is_some_and(|before| before.starts_with("installation ")), "{report}");
    assert_eq!(world.json(&["take-over"])["before"], Value::Null);
    assert_eq!(installation_finding(&world)["state"], "ok");
    eventually("the other's recorder is refused", || async {
        recorder.log().contains("belongs to installation")
    })
    .await;
    drop(recorder);
    let worker = world.worker().await;
    world.keep(worker);
    let recorder = world.recorder().await;
    world.keep(recorder);
    let theirs = world.variable("PROVISIOND_DATABASE__URL");
    world.set("database.url", &ours);
    assert_eq!(installation_finding(&world)["state"], "failed", "now the first one is refused");
    let name = theirs.rsplit('/').next().expect("a name");
    world.admin(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
    world.abandon().await;
}

#[blocking_test]
async fn a_second_installation_is_refused_when_the_broker_comes_back() {
    let mut world = World::new().await;
    let endpoint = Endpoint::start(|_, _| Reply::status(400)).await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    world.publish("clients.create", None, 1, &json!({})).await;
    let dead_letters = world.wait_for_dead_letters(1).await;
    let replay = ["dead-letters", "replay", dead_letters[0]["id"].as_str().expect("an id"), "--yes"];

    // From now on this database is another one.
    let ours = world.rows("SELECT id FROM installation", &[]).await[0].get::<_, uuid::Uuid>(0);
    world.rows("UPDATE installation SET id = gen_random_uuid()", &[]).await;
    world.run(&replay).assert_failed(1, "take-over");
    world.run(&["events", "add", "clients.odd"]).assert_failed(1, "take-over");
    world.run(&["events", "remove", "clients.delete"]).assert_failed(1, "take-over");
    assert_eq!(endpoint.count(), 1);

    let amqp_url = world.variable("PROVISIOND_AMQP__URL");
    let mut link = Proxy::closed(address(&amqp_url));
    world.set("amqp.url", &link.redirect(&amqp_url));
    let mut late = world.spawn(&["--roles", "worker,recorder,console"]);
    eventually("it waits for the broker", || async { late.log().contains("cannot connect to RabbitMQ") })
        .await;
    assert!(late.is_running());
    link.open();
    assert!(!late.ended(Duration::from_secs(30)).await.success());
    assert!(late.log().contains("belongs to installation"), "{}", late.log());

    world.set("amqp.url", &amqp_url);
    world.rows("UPDATE installation SET id = $1", &[&ours]).await;
    world.run(&replay).assert_done();
    endpoint.wait_for(2).await;
    world.end().await;
}

/// As a restore of the database to a moment before the handler was made: the next handler gets its number.
async fn forget_handlers(world: &World) {
    world.rows("DELETE FROM handlers", &[]).await;
    world.rows("ALTER SEQUENCE handlers_id_seq RESTART WITH 1", &[]).await;
}

/// That a replay of this letter, whose handler's number another one has, is refused, and everything says so before.
fn assert_no_replay(world: &World, dead_letter: &str) {
    let shown = world.run(&["dead-letters", "show", dead_letter]);
    let text = shown.assert_done().stdout();
    assert!(text.contains("nothing: no handler of its plan is enabled"), "{text}");
    assert!(text.contains("old (id 1, deleted, new has this id now: skipped)"), "{text}");
    let shown = world.json(&["dead-letters", "show", dead_letter]);
    let handler = &shown["replay"]["handlers"][0];
    assert_eq!(
        (&handler["name"], &handler["replaced_by"], &handler["enabled"], &handler["deleted"]),
        (&json!("old"), &json!("new"), &json!(false), &json!(true)),
        "{shown}"
    );
    let planned = world.run(&["dead-letters", "replay", dead_letter, "--dry-run"]);
    let text = planned.assert_done().stdout();
    assert!(text.contains("old (id 1)") && text.contains("another handler has this id now"), "{text}");
    world.run(&["dead-letters", "replay", dead_letter]).assert_failed(1, "");
    let replayed = world.run(&["dead-letters", "replay", "--event-id", "e2", "--yes"]);
    assert!(replayed.stdout().contains("another handler now has the id 1"), "{}", replayed.stdout());
    assert_eq!(world.json(&["dead-letters", "show", dead_letter])["state"], "open");
}

#[blocking_test]
async fn what_waits_for_a_forgotten_handler_never_goes_to_the_one_that_got_its_number() {
    let mut world = World::new().await;
    world.set("retry.initial_interval", "8s");
    let old = Endpoint::start(|call, _| Reply::status(if call.object_id() == 1 { 503 } else { 400 })).await;
    let id = world.handler("old", "clients.create", &["--http", &old.url("/")]);
    let worker = world.worker().await;
    for object in [1, 2] {
        world.publish("clients.create", Some(&format!("e{object}")), object, &json!({})).await;
    }
    old.wait_for(2).await;
    // One waits in the delay ladder, one as a dead letter that nobody has recorded.
    eventually("the dead letter waits", || async {
        world.broker.depth("dead-letters").await.unwrap().0 == 1
    })
    .await;
    forget_handlers(&world).await;
    let new = Endpoint::ok().await;
    assert_eq!(world.handler("new", "clients.create", &["--http", &new.url("/")]), id, "it has the number");
    let recorder = world.recorder().await;

    let skipped = world.wait_for_executions(1, &["--disposition", "handler_off"]).await;
    assert_eq!(
        (&skipped[0]["event"]["id"], &skipped[0]["handler"]),
        (&json!("e1"), &Value::Null),
        "{skipped:?}"
    );
    assert!(
        skipped[0]["error"].as_str().is_some_and(|error| error.contains("restored from a backup")),
        "{skipped:?}"
    );
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_no_replay(&world, dead_letters[0]["id"].as_str().expect("an id"));
    assert_eq!(new.count(), 0, "it was not meant");
    world.publish("clients.create", None, 3, &json!({})).await;
    new.wait_for(1).await;
    world.keep(worker);
    world.keep(recorder);
    world.end().await;
}

#[blocking_test]
async fn an_event_type_missing_from_the_database_is_reported() {
    let mut world = World::new().await;
    let event_type_finding = |world: &World| {
        let ran = world.run(&["check", "--output", "json"]);
        let report: Vec<Value> = serde_json::from_slice(&ran.output.stdout).expect("JSON");
        report.into_iter().find(|finding| finding["what"] == "event types")
    };
    world.run(&["events", "add", "clients.odd"]).assert_done();
    let (mut worker, recorder) = (world.worker().await, world.recorder().await);
    let body = envelope("clients.odd", 1, &json!({}));
    world.broker.publish("clients.odd", None, body.as_bytes()).await;
    world.wait_for_executions(1, &["--event", "clients.odd"]).await;
    assert_eq!(event_type_finding(&world), None);
    assert!(worker.terminate().await.success());

    // As a restore of the database to a moment before it was added.
    world.rows("DELETE FROM event_types WHERE name = 'clients.odd'", &[]).await;
    world.broker.publish("clients.odd", None, body.as_bytes()).await;
    world.broker.publish("clients.odd", None, body.as_bytes()).await;
    let finding = event_type_finding(&world).expect("a finding");
    let text = finding["found"].as_str().expect("a text");
    assert!(text.contains(": 2 wait") && text.contains("provisiond events add clients.odd"), "{text}");
    assert_eq!(finding["state"], "warning");
    world.run(&["events", "add", "clients.odd"]).assert_done();
    assert_eq!(event_type_finding(&world), None);
    world.keep(recorder);
    world.abandon().await;
}
