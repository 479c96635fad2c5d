//! Two versions at once: what a newer one adds is no trouble to an older one, and the tables of the previous version
//! are brought up to date with all that is in them.

use lapin::{
    BasicProperties,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Endpoint, World, envelope, eventually};

const EVENT: &str = "clients.create";

/// Migrations of the previous version, as it had them.
const PREVIOUS: [&str; 4] = [
    include_str!("../../migrations/V1__foundation.sql"),
    include_str!("../../migrations/V2__inbox.sql"),
    include_str!("../../migrations/V3__replays.sql"),
    include_str!("../../migrations/V4__sealed_secrets.sql"),
];

/// Runs statements on the world's database.
async fn batch(world: &World, sql: &str) {
    let (client, connection) =
        tokio_postgres::connect(&world.database_url, tokio_postgres::NoTls).await.expect("postgres");
    let driving = tokio::spawn(connection);
    client.batch_execute(sql).await.expect("the statements");
    drop(client);
    let _ = driving.await;
}

/// A world whose database is that of the previous version, full.
async fn previous(endpoint: &Endpoint) -> World {
    let world = World::without_database().await;
    world.create_database().await;
    for migration in PREVIOUS {
        batch(&world, migration).await;
    }
    let directory = world.dir.path().display().to_string();
    let rows = include_str!("upgrade/rows.sql")
        .replace("ENDPOINT", &endpoint.address.to_string())
        .replace("DIRECTORY", &directory);
    batch(&world, &rows).await;
    world
}

#[blocking_test]
async fn a_full_database_of_the_previous_version_is_all_there_after_the_upgrade() {
    let endpoint = Endpoint::ok().await;
    let mut world = previous(&endpoint).await;
    let checked = world.run(&["check"]);
    checked.assert_failed(1, "");
    assert!(checked.stdout().contains("not applied: V5__"), "{}", checked.stdout());
    let applied = world.json(&["migrate"]);
    assert_eq!(applied.as_array().unwrap()[0], "V5__console");
    assert_eq!(world.json(&["migrate"]), json!([]), "once is enough");

    the_handlers_are_there(&world);
    the_executions_are_there(&world);
    for state in ["open", "replayed", "discarded"] {
        assert_eq!(dead_letters(&world, state).len(), 500, "{state}");
    }
    let discarded =
        world.json(&["dead-letters", "show", dead_letters(&world, "discarded")[0]["id"].as_str().unwrap()]);
    assert!(discarded.to_string().contains("the CRM has it"), "{discarded}");

    // And work goes on where it stood: a new event, a letter, an execution, and the replay that was stopped.
    world.serve().await;
    world.publish(EVENT, Some("new"), 1, &json!({})).await;
    endpoint.wait_for(2).await;
    world.json(&["dead-letters", "replay", "--resume", "2", "--yes"]);
    endpoint.wait_for(22).await;
    let dead_letter = dead_letters(&world, "open")
        .into_iter()
        .find(|dead_letter| dead_letter["reason"] == "exhausted")
        .unwrap();
    world.run(&["dead-letters", "replay", dead_letter["id"].as_str().unwrap()]).assert_done();
    endpoint.wait_for(23).await;
    assert_eq!(dead_letters(&world, "open").len(), 500 - 21);
    let execution = &world.executions(&["--disposition", "dead_lettered"])[0];
    world.run(&["executions", "replay", execution["id"].as_str().unwrap()]).assert_done();
    endpoint.wait_for(24).await;
    world.wait_for_executions(5000 + 24, &[]).await;
    world.end().await;
}

fn dead_letters(world: &World, state: &str) -> Vec<Value> {
    let list = world.json(&["dead-letters", "list", "--state", state, "--limit", "10000"]);
    list.as_array().unwrap().clone()
}

fn the_handlers_are_there(world: &World) {
    let handlers = world.json(&["handlers", "list"]);
    let names: Vec<_> = handlers.as_array().unwrap().iter().map(|h| h["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 5, "all but the archived one: {names:?}");
    let switch = world.json(&["handlers", "show", "2"]);
    assert_eq!((&switch["retry"]["max_attempts"], &switch["timeout"]), (&json!(3), &json!("5s")), "{switch}");
    assert_eq!((&switch["signed"], &switch["version"]), (&json!(true), &json!(3)), "{switch}");
    assert_eq!(world.json(&["handlers", "show", "6"])["status"], "archived");
    assert_eq!(world.json(&["handlers", "history", "5"]).as_array().unwrap().len(), 2);
    assert!(world.json(&["events", "list"]).to_string().contains("clients.suspend"));
}

fn the_executions_are_there(world: &World) {
    for (filter, count) in [
        (&[] as &[&str], 5000),
        (&["--status", "fail"], 250),
        (&["--disposition", "no_handler"], 125),
        (&["--handler", "1"], 2375),
        (&["--object-id", "77"], 5),
    ] {
        assert_eq!(world.executions(filter).len(), count, "{filter:?}");
    }
    let executions = world.executions(&["--object-id", "77"]);
    let shown = world.json(&["executions", "show", executions[4]["id"].as_str().unwrap()]);
    assert_eq!(shown["request"]["data"]["name"], "Zoë 77\u{0}", "{shown}");
    assert_eq!(shown["response"]["body"], "answer 77", "{shown}");
}

/// While an upgrade takes, the older version meets tables, rows and messages of the newer one.
#[blocking_test]
async fn a_database_that_a_newer_version_migrated_is_worked_with() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("plain", EVENT, &["--http", &endpoint.url("/plain")]);
    world.handler("newer", EVENT, &["--http", &endpoint.url("/newer")]);
    batch(
        &world,
        "INSERT INTO refinery_schema_history VALUES (99, 'of_tomorrow', '2030-01-01T00:00:00Z', '1');
         ALTER TABLE handlers ADD COLUMN tomorrow jsonb NOT NULL DEFAULT '{}';
         ALTER TABLE executions ADD COLUMN tomorrow text;
         ALTER TABLE dead_letters ADD COLUMN tomorrow text NOT NULL DEFAULT '';
         CREATE TABLE tomorrow (id bigint);
         UPDATE handlers SET task = task || '{\"method\": \"PUT\"}' WHERE name = 'newer'",
    )
    .await;
    let checked = world.run(&["check"]).stdout();
    let line = checked.lines().find(|line| line.starts_with("migrations")).expect("a line");
    assert!(line.contains("warning") && line.contains("V99__of_tomorrow"), "{checked}");
    world.run(&["migrate"]).assert_done();

    let worker = world.worker().await;
    eventually("the worker warns", || async { worker.log().contains("V99__of_tomorrow") }).await;
    assert!(worker.log().contains("ignoring handler with an invalid definition"), "{}", worker.log());
    world.keep(worker);
    let recorder = world.recorder().await;
    world.keep(recorder);
    world.publish(EVENT, Some("e1"), 1, &json!({})).await;
    world.wait_for_executions(1, &["--status", "success"]).await;
    assert_eq!((endpoint.count(), endpoint.calls()[0].path.as_str()), (1, "/plain"));
    world.end().await;
}

#[blocking_test]
async fn a_database_that_no_release_made_is_refused() {
    let world = World::new().await;
    batch(&world, "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 2").await;
    let message = "migration V2__inbox in the database differs";
    world.run(&["migrate"]).assert_failed(1, message);
    world.run(&["serve"]).assert_failed(1, message);
    assert!(world.run(&["check"]).stdout().contains("between the database and this program: V2__inbox;"));
    world.abandon().await;
}

/// Who migrates apart may be late with it: the log says so, and `check`.
#[blocking_test]
async fn a_database_that_is_not_migrated_yet_is_reported() {
    let endpoint = Endpoint::ok().await;
    let mut world = previous(&endpoint).await;
    world.set("database.migrate", "false");
    let worker = world.worker().await;
    eventually("the worker warns", || async { worker.log().contains("lacks migrations") }).await;
    world.publish(EVENT, Some("e1"), 1, &json!({})).await;
    endpoint.wait_for(2).await;
    world.run(&["migrate"]).assert_done();
    world.keep(worker);
    let recorder = world.recorder().await;
    world.keep(recorder);
    world.wait_for_executions(5002, &[]).await;
    world.end().await;
}

/// Puts members that this version does not know into every object of `value`.
fn add_members(value: &mut Value) {
    if let Value::Object(members) = value {
        for (name, member) in members.iter_mut() {
            // What the platform said is not ours to add to.
            if name != "request" {
                add_members(member);
            }
        }
        members.insert("of_tomorrow".to_owned(), json!({"a": [1]}));
    }
}

fn text_headers(headers: &[(&str, &str)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    table
}

async fn publish(world: &World, exchange: &str, key: &str, properties: BasicProperties, body: &[u8]) {
    let channel = world.broker.connection.create_channel().await.unwrap();
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key.into(), options, body, properties).await.unwrap();
}

#[blocking_test]
async fn members_and_headers_of_a_newer_version_are_ignored() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    let handler = world.handler("CRM", EVENT, &["--http", &endpoint.url("/crm")]);
    world.handler("other", EVENT, &["--http", &endpoint.url("/other")]);
    let worker = world.worker().await;
    world.keep(worker);

    // A result: one that this version made, with more in it.
    world.publish(EVENT, Some("e1"), 1, &json!({})).await;
    endpoint.wait_for(2).await;
    eventually("both results", || async {
        world.broker.depth("execution-log").await.is_some_and(|(messages, _)| messages == 2)
    })
    .await;
    let result = world.broker.take("execution-log").await.expect("a result");
    let mut result: Value = serde_json::from_slice(&result.data).unwrap();
    add_members(&mut result);
    world.broker.publish_to("execution-log", result.to_string().as_bytes()).await;

    // A dead letter.
    let mut meta = json!({"id": uuid::Uuid::new_v4(), "event_id": "e2", "run_id": "e2", "event_name": EVENT,
        "object_id": "2", "reason": "permanent", "error": "no", "handler_id": handler, "handler_name": "CRM", "attempts": 1,
        "plan": [handler], "first_failed_at": null, "died_at": "2026-01-01T00:00:00Z",
        "worker": {"host": "h", "pid": 1, "version": "9.9.9"}});
    add_members(&mut meta);
    let headers =
        text_headers(&[("x-provisioning-dead-letter", &meta.to_string()), ("x-provisioning-tomorrow", "1")]);
    let body = envelope(EVENT, 2, &json!({}));
    let queue = world.broker.name("dead-letters");
    publish(&world, "", &queue, BasicProperties::default().with_headers(headers), body.as_bytes()).await;

    let recorder = world.recorder().await;
    world.keep(recorder);
    world.wait_for_executions(2, &["--status", "success"]).await;
    let dead_letters = world.wait_for_dead_letters(1).await;
    assert_eq!(
        (&dead_letters[0]["reason"], &dead_letters[0]["plan"]),
        (&json!("permanent"), &json!([handler]))
    );

    // A copy: of one handler's second attempt, with a header more.
    let plan = handler.to_string();
    let mut headers = text_headers(&[
        ("x-provisioning-plan", &plan),
        ("x-provisioning-event-id", "e3"),
        ("x-provisioning-tomorrow", "1"),
    ]);
    headers.insert("x-provisioning-attempt".into(), AMQPValue::LongInt(2));
    let properties = BasicProperties::default().with_message_id("r3".into()).with_headers(headers);
    let key = format!("{}{EVENT}", "0.".repeat(20));
    let body = envelope(EVENT, 3, &json!({}));
    publish(&world, &world.broker.name("delay.v1.deliver"), &key, properties, body.as_bytes()).await;
    let executions = world.wait_for_executions(1, &["--object-id", "3"]).await;
    let members = ["attempt", "run_id"].map(|name| &executions[0][name]);
    assert_eq!(members, [&json!(2), &json!("r3")], "{executions:?}");
    assert_eq!(endpoint.count(), 3, "the plan is believed: the other handler is not called");
    world.end().await;
}

/// What is done at an upgrade, one process after the other.
#[blocking_test]
async fn a_worker_restarts_beside_others_while_the_database_is_newer() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", EVENT, &["--http", &endpoint.url("/")]);
    world.serve().await;
    let mut second = world.worker().await;
    batch(
        &world,
        "INSERT INTO refinery_schema_history VALUES (99, 'of_tomorrow', '2030-01-01T00:00:00Z', '1')",
    )
    .await;
    second.signal(Signal::SIGTERM);
    assert!(second.ended(std::time::Duration::from_secs(30)).await.success(), "{}", second.log());
    eventually("one is left", || async {
        world.broker.depth("events.clients.create").await.is_some_and(|(_, consumers)| consumers == 1)
    })
    .await;
    let second = world.worker().await;
    world.keep(second);
    for number in 0..20 {
        let id = format!("e{number}");
        world.publish(EVENT, Some(&id), number, &json!({})).await;
    }
    world.wait_for_executions(20, &["--status", "success"]).await;
    world.end().await;
}
