//! The command line: what it prints, and what it says when something is wrong.

use serde_json::{Value, json};

use crate::support::{Endpoint, Reply, World};

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[blocking_test]
async fn handlers_are_created_searched_changed_and_deleted() {
    let world = World::new().await;
    let created = world.json(&[
        "handlers",
        "create",
        "--name",
        "CRM",
        "--event",
        "clients.create",
        "--http",
        "127.0.0.1:5000/api",
        "--priority",
        "1",
        "--timeout",
        "20s",
        "--max-attempts",
        "3",
        "--initial-interval",
        "10s",
    ]);
    assert_eq!(created["task"], json!({"type": "http", "url": "http://127.0.0.1:5000/api"}));
    assert_eq!(created["retry"], json!({"max_attempts": 3, "initial_interval": "10s"}));
    assert_eq!(
        (&created["priority"], &created["timeout"], &created["status"]),
        (&json!(1), &json!("20s"), &json!("enabled"))
    );
    assert_eq!(
        (&created["mode"], &created["on_failure"], &created["version"]),
        (&json!("notify"), &json!("continue"), &json!(1))
    );
    let id = created["id"].to_string();
    world.handler("Switch", "clients.update", &["--script", "sync.py"]);
    let archived =
        world.handler("Old", "clients.update", &["--http", "h/", "--status", "archived"]).to_string();

    let names = |args: &[&str]| -> Vec<String> {
        let listed = world.json(&[&["handlers", "list"], args].concat());
        listed.as_array().unwrap().iter().map(|h| h["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&[]), ["CRM", "Switch"], "archived ones are not listed");
    assert_eq!(names(&["--status", "archived"]), ["Old"]);
    assert_eq!(names(&["--task", "script"]), ["Switch"]);
    assert_eq!(names(&["--event", "clients.create"]), ["CRM"]);
    assert_eq!(names(&["--text", "5000/API"]), ["CRM"]);
    assert!(names(&["--text", "%"]).is_empty(), "a text is a text, not a pattern");

    let updated = world.json(&[
        "handlers",
        "update",
        &id,
        "--name",
        "CRM 2",
        "--timeout",
        "default",
        "--if-version",
        "1",
    ]);
    assert_eq!(
        (&updated["name"], &updated["timeout"], &updated["version"]),
        (&json!("CRM 2"), &Value::Null, &json!(2))
    );
    world
        .run(&["handlers", "update", &id, "--priority", "5", "--if-version", "1"])
        .assert_failed(1, "at version 2");
    let with_header = ["handlers", "update", &id, "--header", "Authorization: Bearer s3cret"];
    world.run(&with_header).assert_done();
    assert!(!world.run(&["handlers", "show", &id]).stdout().contains("s3cret"));
    let moved = world.json(&["handlers", "update", &id, "--http", "127.0.0.1:5000/v2"]);
    assert_eq!(
        moved["task"]["headers"]["authorization"], "***",
        "a new path keeps the headers, and shows no value"
    );
    let bare = world.json(&["handlers", "update", &id, "--bare"]);
    assert_eq!(bare["task"], json!({"type": "http", "url": "http://127.0.0.1:5000/v2"}));
    world.run(&["handlers", "disable", &id]).assert_done();
    let secret = world.run(&["handlers", "rotate-secret", &id]);
    assert!(secret.assert_done().stderr().contains("whsec_"), "a new secret is shown once");
    assert_eq!(world.json(&["handlers", "show", &id])["signed"], true);
    let history = world.json(&["handlers", "history", &id]);
    let actions: Vec<&str> =
        history.as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    let mut in_order = actions.clone();
    if in_order.first() != Some(&"created") {
        in_order.reverse();
    }
    assert_eq!(in_order, ["created", "updated", "updated", "updated", "updated", "disabled", "secret_set"]);
    let history = history.to_string();
    assert!(!history.contains("whsec_") && !history.contains("s3cret"), "no secret in the history");
    world.run(&["handlers", "history", "999"]).assert_failed(3, "there is no handler 999");
    world.run(&["handlers", "delete", &id]).assert_done();
    world.run(&["handlers", "show", &id]).assert_failed(3, "there is no handler");
    world.run(&["handlers", "enable", &archived]).assert_done();
    world.abandon().await;
}

#[blocking_test]
async fn errors_say_what_is_wrong_and_what_to_do() {
    let world = World::new().await;
    let create = ["handlers", "create", "--name", "x", "--event", "clients.create"];
    let with = |args: &[&str]| world.run(&[&create, args].concat());
    with(&[]).assert_failed(2, "--http URL or --script PATH");
    with(&["--http", "ftp://x/"]).assert_failed(2, "only http and https");
    with(&["--http", "http://u:p@x/"]).assert_failed(2, "Authorization header");
    with(&["--http", "x/", "--script", "y"]).assert_failed(2, "cannot be used with");
    with(&["--http", "x/", "--priority", "0"]).assert_failed(2, "1 or more");
    with(&["--http", "x/", "--timeout", "1h"]).assert_failed(2, "1ms to 10m");
    with(&["--http", "x/", "--timeout", "10"]).assert_failed(2, "with a unit");
    with(&["--http", "x/", "--jitter", "2"]).assert_failed(2, "0 to below 1");
    with(&["--http", "x/", "--header", "Webhook-Id: 1"]).assert_failed(2, "set by provisiond itself");
    world
        .run(&["handlers", "create", "--name", "x", "--event", "Clients", "--http", "x/"])
        .assert_failed(2, "not an event name");
    world
        .run(&["handlers", "create", "--name", "x", "--event", "no.such", "--http", "x/"])
        .assert_failed(1, "not in the catalogue");
    world.run(&["handlers", "show", "999"]).assert_failed(3, "there is no handler 999");
    world
        .run(&["executions", "show", "00000000-0000-0000-0000-000000000000"])
        .assert_failed(3, "there is no execution");
    world
        .run(&["dead-letters", "show", "00000000-0000-0000-0000-000000000000"])
        .assert_failed(3, "there is no dead letter");
    world.run(&["executions", "list", "--since", "soon"]).assert_failed(2, "an age (2h)");
    world
        .run(&["publish", "clients.create", "--object-id", "1", "--data", "[1]"])
        .assert_failed(2, "must be a JSON object");
    world
        .run(&["publish", "clients.create", "--object-id", "1"])
        .assert_failed(1, "declared when a worker starts");

    world.abandon().await;
}

#[blocking_test]
async fn a_wrong_configuration_and_absent_services_are_reported() {
    let mut world = World::without_database().await;
    let misspelt = world
        .command()
        .args(["handlers", "list"])
        .env("PROVISIOND_WORKER__CONCURENCY", "5")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&misspelt.stderr).into_owned();
    assert_eq!(misspelt.status.code(), Some(1));
    assert!(
        stderr.contains("worker.concurency") && stderr.contains("did you mean worker.concurrency"),
        "{stderr}"
    );
    world.set("amqp.url", "amqp://guest:s3cret@127.0.0.1:1/%2f");
    world
        .run(&["publish", "clients.create", "--object-id", "1"])
        .assert_failed(1, "cannot connect to RabbitMQ at 127.0.0.1:1");
    let checked = world.run(&["check"]);
    assert_eq!(checked.output.status.code(), Some(1));
    assert!(
        checked.stdout().contains("FAILED") && checked.stdout().contains("does the database exist"),
        "{}",
        checked.stdout()
    );
    assert!(!checked.stdout().contains("s3cret") && !checked.stderr().contains("s3cret"));
    world.run(&["handlers", "list"]).assert_failed(1, "database.url");
    let config = world.run(&["config"]).stdout();
    assert!(config.contains("amqp.url") && !config.contains("s3cret"), "{config}");
    // Nothing was made under this prefix.
    world.set("amqp.url", &world.amqp_url.clone());
    world.create_database().await;
    world.run(&["migrate"]).assert_done();
    world.abandon().await;
}

#[blocking_test]
async fn json_has_the_names_of_the_design() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    let id = world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]).to_string();
    world.serve().await;
    world.publish("clients.create", Some("e1"), 5, &json!({})).await;
    world.broker.publish("clients.create", Some("e2"), b"garbage").await;
    let executions = world.wait_for_executions(1, &[]).await;
    let expected = [
        "attempt",
        "disposition",
        "duration_ms",
        "error",
        "event",
        "handler",
        "id",
        "max_attempts",
        "modified",
        "request",
        "response",
        "retry_at",
        "run_id",
        "started_at",
        "status",
        "trace_id",
        "worker",
    ];
    let shown = world.json(&["executions", "show", executions[0]["id"].as_str().unwrap()]);
    assert_eq!(keys(&shown), expected);
    // A list is without the bodies, and says when each reached the table.
    let listed: Vec<&str> = keys(&executions[0]).into_iter().filter(|key| *key != "recorded_at").collect();
    let bodiless: Vec<&str> = expected.into_iter().filter(|key| *key != "request").collect();
    assert_eq!(listed, bodiless);
    assert_eq!(keys(&shown["event"]), ["dt", "id", "name", "object_id"]);
    assert_eq!(keys(&shown["handler"]), ["id", "mode", "name", "priority", "task"]);
    assert_eq!(keys(&shown["worker"]), ["host", "pid", "version"]);
    let handler = world.json(&["handlers", "show", &id]);
    for key in [
        "id",
        "name",
        "event",
        "task",
        "status",
        "priority",
        "mode",
        "on_failure",
        "timeout",
        "max_concurrency",
        "created_at",
        "updated_at",
        "version",
    ] {
        assert!(handler.get(key).is_some(), "{key} in {handler}");
    }
    let dead_letters = world.wait_for_dead_letters(1).await;
    for key in [
        "id",
        "event_id",
        "run_id",
        "event_name",
        "object_id",
        "reason",
        "error",
        "handler_id",
        "handler_name",
        "attempts",
        "plan",
        "first_failed_at",
        "died_at",
        "worker",
        "state",
    ] {
        assert!(dead_letters[0].get(key).is_some(), "{key} in {}", dead_letters[0]);
    }
    world.end().await;
}

#[blocking_test]
async fn publish_waits_for_the_executions() {
    let mut world = World::new().await;
    let endpoint =
        Endpoint::start(|call, _| Reply::status(if call.path == "/missing" { 404 } else { 200 })).await;
    world.handler("one", "clients.create", &["--http", &endpoint.url("/"), "--priority", "1"]);
    world.handler("two", "clients.create", &["--http", &endpoint.url("/"), "--priority", "2"]);
    world.serve().await;
    let ran = world.run(&[
        "publish",
        "clients.create",
        "--object-id",
        "12",
        "--data",
        r#"{"a":1}"#,
        "--count",
        "3",
        "--wait",
    ]);
    let lines: Vec<String> = ran.assert_done().stdout().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("success") && line.contains("clients.create")));
    let none = world.run(&["publish", "clients.update", "--object-id", "x-1", "--wait"]);
    assert!(none.assert_done().stdout().contains("no_handler"), "{}", none.stdout());
    let unknown = world.run(&["publish", "clients.creat", "--object-id", "1"]);
    assert!(unknown.assert_done().stderr().contains("has no queue"), "{}", unknown.stderr());
    assert_eq!(endpoint.calls()[0].json()["data"], json!({"a": 1}));
    world.handler("missing", "clients.delete", &["--http", &endpoint.url("/missing")]);
    let given_up = world.run(&["publish", "clients.delete", "--object-id", "1", "--wait"]);
    given_up.assert_failed(1, "dead letters: 1");
    let down = ["--http", "127.0.0.1:1/", "--initial-interval", "4s", "--max-attempts", "2"];
    world.handler("down", "clients.archive", &down);
    let flags = ["clients.archive", "--object-id", "1", "--wait", "--timeout", "2s"];
    let held_up = world.run(&[&["publish"][..], &flags].concat());
    held_up.assert_failed(1, "down failed at attempt 1 of 2 and is tried again at 2");
    assert!(!held_up.stderr().contains("is a worker running"), "{}", held_up.stderr());
    world.wait_for_executions(10, &[]).await;
    world.wait_for_dead_letters(3).await;
    let checked = world.run(&["check"]);
    assert!(checked.assert_done().stdout().contains("topology"), "{}", checked.stdout());
    world.end().await;
}

#[blocking_test]
async fn help_leads_a_new_user() {
    let world = World::new().await;
    let help = world.run(&["--help"]);
    for word in ["serve", "handlers create", "publish", "executions list", "check"] {
        assert!(help.assert_done().stdout().contains(word), "{word} in\n{}", help.stdout());
    }
    assert!(world.run(&["handlers", "create", "--help"]).stdout().contains("Examples:"));
    assert!(world.run(&["completions", "bash"]).assert_done().stdout().contains("provisiond"));
    world.abandon().await;
}

#[blocking_test]
async fn invisible_characters_are_escaped_and_refused_in_names() {
    let world = World::new().await;
    let create = |name: &str| {
        world.run(&[
            "handlers",
            "create",
            "--name",
            name,
            "--event",
            "clients.create",
            "--http",
            "127.0.0.1:1",
        ])
    };
    create("CRM").assert_done();
    for (name, found) in [
        ("CRM\u{200b}", "U+200B, character 4"),
        ("\u{202e}MRC", "U+202E, character 1"),
        ("C\u{ad}RM", "U+00AD, character 2"),
    ] {
        create(name).assert_failed(1, found);
        world.run(&["handlers", "update", "1", "--name", name]).assert_failed(1, found);
        world.run(&["events", "add", "a.b", "--group", name, "--title", "b"]).assert_failed(1, found);
        world.run(&["events", "add", "a.b", "--group", "A", "--title", name]).assert_failed(1, found);
    }
    // One of a time when such a name was taken is read, changed and told.
    world.rows("UPDATE handlers SET name = E'CRM\\u200B' WHERE id = 1", &[]).await;
    world.run(&["handlers", "update", "1", "--priority", "3"]).assert_done();
    let listed = world.run(&["handlers", "list"]);
    assert!(listed.stdout().contains("CRM\\u{200b}"), "{}", listed.stdout());
    let as_json = world.run(&["handlers", "list", "--output", "json"]).stdout();
    assert!(as_json.contains("CRM\\u200b") && !as_json.contains('\u{200b}'), "{as_json}");
    assert_eq!(world.json(&["handlers", "list"])[0]["name"], "CRM\u{200b}");
    world.run(&["handlers", "update", "1", "--name", "CRM"]).assert_done();
    world.end().await;
}
