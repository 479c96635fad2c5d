//! `handlers test`, and where a handler may not point.

use serde_json::json;

use crate::support::{Endpoint, Reply, World};

#[blocking_test]
async fn a_test_call_shows_the_request_and_what_a_worker_would_do() {
    let world = World::new().await;
    let endpoint = Endpoint::start(|call, _| match call.path.as_str() {
        "/gone" => Reply::status(410),
        "/busy" => Reply::status(503).header("retry-after", "900"),
        "/forbid" => Reply::status(200).body(r#"{"verdict":"forbid","reason":"debt"}"#),
        "/modify" => Reply::status(200).body(r#"{"data":{"a":2}}"#),
        _ => Reply::status(200),
    })
    .await;
    let try_out = |path: &str, event: &str, more: &[&str], args: &[&str]| {
        let url = endpoint.url(path);
        let id = world.handler(path, event, &[&["--http", &url, "--status", "disabled"], more].concat());
        let ran = world.run(&[&["handlers", "test", &id.to_string(), "--output", "json"], args].concat());
        let trial: serde_json::Value = serde_json::from_slice(&ran.output.stdout).expect("JSON");
        (ran.output.status.code(), trial)
    };
    let header = ["--header", "Authorization: Bearer s3cret"];
    let (code, trial) = try_out("/ok", "clients.create", &header, &[]);
    assert_eq!((code, &trial["status"], &trial["disposition"]), (Some(0), &json!("success"), &json!("done")));
    assert_eq!(trial["response"], json!({"http_status": 200, "body": "{}", "truncated": false}));
    let call = endpoint.calls().pop().unwrap();
    assert_eq!((call.header("authorization"), call.header("x-provisioning-attempt")), ("Bearer s3cret", "1"));
    assert_eq!(trial["sent"]["headers"]["authorization"], "***", "{trial}");
    for name in ["webhook-id", "webhook-timestamp", "x-provisioning-event", "content-type"] {
        assert_eq!(trial["sent"]["headers"][name], call.header(name), "{name}");
    }
    assert_eq!(trial["sent"]["body"], call.json());
    assert_eq!(call.json()["data"]["name"], "Ann Example");

    let given = ["--data", r#"{"a":1}"#, "--object-id", "007"];
    let (_, trial) = try_out("/given", "clients.balance_zero", &[], &given);
    assert_eq!(trial["sent"]["body"]["event"]["object_id"], "007");
    assert_eq!(trial["sent"]["body"]["data"], json!({"a": 1}));
    assert_eq!(try_out("/none", "clients.balance_zero", &[], &[]).1["sent"]["body"]["data"], json!({}));

    let (code, trial) = try_out("/gone", "clients.create", &[], &[]);
    assert_eq!(
        (code, &trial["dead_letter"], &trial["disables"]),
        (Some(1), &json!("permanent"), &json!(true))
    );
    let (code, trial) = try_out("/busy", "clients.create", &[], &[]);
    assert_eq!((code, &trial["retry_in"]), (Some(1), &json!("16m")), "{trial}");
    let intercept = ["--mode", "intercept"];
    let (code, trial) = try_out("/forbid", "clients.create", &intercept, &[]);
    assert_eq!((code, &trial["verdict"], &trial["error"]), (Some(0), &json!("forbid"), &json!("debt")));
    let (_, trial) = try_out("/modify", "clients.create", &intercept, &given);
    assert_eq!((&trial["verdict"], &trial["modified"]["data"]), (&json!("modify"), &json!({"a": 2})));
    assert_eq!(world.count("SELECT count(*) FROM executions").await, 0, "nothing is recorded");
    world.abandon().await;
}

#[blocking_test]
async fn a_script_is_tried_as_a_worker_runs_it() {
    let world = World::new().await;
    world.script("sync.sh", "#!/bin/sh\necho \"$PROVISIONING_EVENT $1\"; cat >&2; exit 65\n");
    let args = ["--script", "sync.sh", "--arg", "fast"];
    let id = world.handler("Sync", "clients.packages.renew", &args).to_string();
    let ran = world.run(&["handlers", "test", &id, "--object-id", "x-1"]);
    assert_eq!(ran.output.status.code(), Some(1), "{}", ran.stderr());
    for part in [
        "Exit code  65",
        "clients.packages.renew fast",
        "\"object_id\":\"x-1\"",
        "would make a dead letter (permanent)",
    ] {
        assert!(ran.stdout().contains(part), "{part} in\n{}", ran.stdout());
    }
    world.run(&["handlers", "test", "999"]).assert_failed(3, "there is no handler 999");
    world.run(&["handlers", "test", &id, "--data", "[]"]).assert_failed(2, "must be a JSON object");
    world.abandon().await;
}

#[blocking_test]
async fn a_denied_address_is_refused_when_saved_when_tested_and_when_called() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    let create = |url: &str| {
        world.run(&["handlers", "create", "--name", "x", "--event", "clients.create", "--http", url])
    };
    create("169.254.169.254/latest")
        .assert_failed(1, "the address 169.254.169.254 is denied by 169.254.0.0/16");
    create("http://0xa9fea9fe/").assert_failed(1, "http.allow can permit it");
    create("nowhere.invalid").assert_done();
    let url = format!("http://localhost:{}/", endpoint.address.port());
    let id = world.handler("CRM", "clients.update", &["--http", &url, "--status", "enabled"]).to_string();
    let literal = world.handler("CRM 2", "clients.delete", &["--http", &endpoint.url("/")]).to_string();
    world
        .run(&["handlers", "update", &id, "--http", "[::ffff:169.254.1.1]/"])
        .assert_failed(1, "169.254.1.1");

    // What was fine when it was saved is not any more.
    world.set("http.deny", "127.0.0.0/8, ::1/128");
    let denied = "the name localhost resolves only to";
    world.run(&["handlers", "update", &id, "--http", &url]).assert_failed(1, denied);
    world.run(&["handlers", "update", &id, "--priority", "7"]).assert_done();
    let tested = world.run(&["handlers", "test", &id]);
    assert_eq!(tested.output.status.code(), Some(1));
    assert!(tested.stdout().contains(denied) && tested.stdout().contains("permanent"), "{}", tested.stdout());
    let checked = world.run(&["check"]).stdout();
    assert!(
        checked.contains(&format!("handler {literal} (CRM 2): the address 127.0.0.1 is denied")),
        "{checked}"
    );
    world.serve().await;
    for event in ["clients.update", "clients.delete"] {
        world.publish(event, None, 1, &json!({})).await;
    }
    let dead_letters = world.wait_for_dead_letters(2).await;
    assert!(
        dead_letters
            .iter()
            .all(|dead_letter| dead_letter["reason"] == "permanent" && dead_letter["attempts"] == 1),
        "{dead_letters:?}"
    );
    assert!(
        dead_letters.iter().any(|dead_letter| dead_letter["error"].as_str().unwrap().contains(denied)),
        "{dead_letters:?}"
    );
    assert_eq!(endpoint.count(), 0);
    world.wait_for_executions(2, &[]).await;
    world.end().await;
}

#[blocking_test]
async fn unusable_tls_files_are_reported() {
    let mut world = World::new().await;
    world.set("http.ca_file", "/nowhere/ca.pem");
    let checked = world.run(&["check"]).stdout();
    assert!(checked.contains("FAILED   http.ca_file /nowhere/ca.pem cannot be read"), "{checked}");
    let id = world.handler("CRM", "clients.create", &["--http", "h/"]).to_string();
    world.run(&["handlers", "test", &id]).assert_failed(1, "http.ca_file /nowhere/ca.pem");
    world.run(&["serve"]).assert_failed(1, "http.ca_file /nowhere/ca.pem");
    world.abandon().await;
}
