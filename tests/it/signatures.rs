//! The signatures of our requests, verified by the library that receivers use: `standardwebhooks`, in Python.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Call, Endpoint, World, envelope};

const VERIFY: &str = r#"
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
for case in json.load(sys.stdin):
    try:
        Webhook(case["secret"]).verify(case["body"], case["headers"])
        print("verified")
    except WebhookVerificationError as error:
        print(error)
"#;

/// What the library says of each case: `verified`, or why not.
fn verify(cases: &[Value]) -> Vec<String> {
    let python = std::env::var("PROVISIOND_TEST_PYTHON").expect("./script/test sets it");
    let mut verifier = Command::new(python)
        .args(["-c", VERIFY])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a python3 with standardwebhooks");
    verifier.stdin.take().unwrap().write_all(json!(cases).to_string().as_bytes()).unwrap();
    let output = verifier.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A request as its receiver has it.
fn received(call: &Call, secret: &str) -> Value {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: serde_json::Map<_, _> =
        names.into_iter().map(|name| (name.to_owned(), json!(call.header(name)))).collect();
    json!({"secret": secret, "body": std::str::from_utf8(&call.body).unwrap(), "headers": headers})
}

fn with(mut case: Value, pointer: &str, value: impl Into<Value>) -> Value {
    *case.pointer_mut(pointer).unwrap() = value.into();
    case
}

#[blocking_test]
async fn the_standard_library_verifies_our_requests_also_during_a_rotation() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    let create = ["handlers", "create", "--name", "CRM", "--event", "clients.create", "--sign"];
    let created = world.json(&[&create[..], &["--http", &endpoint.url("/hook")]].concat());
    let (id, old) = (created["id"].to_string(), created["signing_secret"].as_str().unwrap().to_owned());
    world.serve().await;
    // What a parser would write otherwise is signed as it came.
    let body = envelope("clients.create", 5, &json!({"name": "Zoë \u{1f600}"})).replace("\":", "\" :  ");
    world.broker.publish("clients.create", Some("e1"), body.as_bytes()).await;
    endpoint.wait_for(1).await;
    let rotated = world.json(&["handlers", "rotate-secret", &id, "--keep-old", "1h"]);
    let new = rotated["signing_secret"].as_str().unwrap().to_owned();
    // A trial needs no worker to have heard of the new secret.
    world.run(&["handlers", "test", &id]).assert_done();
    endpoint.wait_for(2).await;

    let calls = endpoint.calls();
    let (first, second) = (&calls[0], &calls[1]);
    assert_eq!(first.body, body);
    assert_eq!(first.header("webhook-signature").split(' ').count(), 1);
    assert_eq!(second.header("webhook-signature").split(' ').count(), 2);
    let during = received(second, &new);
    let timestamp: i64 = second.header("webhook-timestamp").parse().unwrap();
    let none = "No matching signature found";
    let cases = [
        (received(first, &old), "verified"),
        (received(first, &new), none),
        (received(second, &old), "verified"),
        (during.clone(), "verified"),
        (with(during.clone(), "/body", format!("{} ", during["body"].as_str().unwrap())), none),
        (with(during.clone(), "/headers/webhook-id", "e2_1"), none),
        (with(during.clone(), "/headers/webhook-timestamp", (timestamp - 1).to_string()), none),
        (
            with(during.clone(), "/headers/webhook-timestamp", (timestamp - 600).to_string()),
            "Message timestamp too old",
        ),
        (
            with(during, "/headers/webhook-timestamp", (timestamp + 600).to_string()),
            "Message timestamp too new",
        ),
    ];
    let results = verify(&cases.iter().map(|(case, _)| case.clone()).collect::<Vec<_>>());
    assert_eq!(results, cases.iter().map(|(_, expected)| *expected).collect::<Vec<_>>());
    world.wait_for_executions(1, &[]).await;
    world.end().await;
}
