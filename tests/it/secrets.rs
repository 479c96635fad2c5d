//! Secrets at rest: encrypted with `secrets.key`, and never left out of a request.

use serde_json::json;

use crate::support::{Endpoint, Reply, World, eventually};

/// The base64 of 32 bytes.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEXT: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

const IN_CLEAR: &str =
    "SELECT count(*) FROM handlers h WHERE h::text LIKE '%whsec_%' OR h::text LIKE '%s3cret%'";

#[blocking_test]
async fn secrets_are_encrypted_and_requests_carry_them() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    let flags = ["--http", &endpoint.url("/"), "--header", "Authorization: Bearer s3cret", "--sign"];
    let id = world.handler("CRM", "clients.create", &flags).to_string();
    assert_eq!(world.count(IN_CLEAR).await, 1);
    let check = world.run(&["check"]).stdout();
    assert!(check.contains("header values of 1 handler are stored unencrypted: set secrets.key"), "{check}");

    world.set("secrets.key", "hunter2");
    world.run(&["check"]).assert_failed(1, "secrets.key (environment variable PROVISIOND_SECRETS__KEY): must be the base64 of 32 random bytes, as `openssl rand -base64 32` prints it");
    world.set("secrets.key", KEY);
    assert!(!world.run(&["config"]).stdout().contains(KEY));
    let check = world.run(&["check"]).stdout();
    assert!(check.contains("provisiond migrate encrypts them"), "{check}");
    let migrated = world.run(&["migrate"]);
    assert!(migrated.assert_done().stderr().contains("the secrets of 1 handler are now encrypted"));
    assert_eq!(world.count(IN_CLEAR).await, 0);

    // Changed like any other, also by who has no key at hand.
    world.set("secrets.key", "");
    world.run(&["handlers", "update", &id, "--priority", "7"]).assert_done();
    world.set("secrets.key", NEXT);
    world.set("secrets.previous_keys", KEY);
    let shown = world.json(&["handlers", "show", &id]);
    assert_eq!((&shown["task"]["headers"]["authorization"], &shown["signed"]), (&json!("***"), &json!(true)));
    world.run(&["handlers", "update", &id, "--header", "X-Tenant: s3cret-too"]).assert_done();
    assert_eq!(world.count(IN_CLEAR).await, 0);
    world.serve().await;
    world.publish("clients.create", Some("e1"), 1, &json!({})).await;
    endpoint.wait_for(1).await;
    let call = &endpoint.calls()[0];
    assert_eq!((call.header("authorization"), call.header("x-tenant")), ("Bearer s3cret", "s3cret-too"));
    assert!(call.header("webhook-signature").starts_with("v1,"));

    let removed = world.json(&["handlers", "update", &id, "--remove-header", "X-Tenant"]);
    assert_eq!(removed["task"]["headers"], json!({"authorization": "***"}));
    world
        .run(&["handlers", "update", &id, "--remove-header", "X-Tenant"])
        .assert_failed(2, "no header x-tenant");
    world.wait_for_executions(1, &["--status", "success"]).await;
    world.end().await;
}

#[blocking_test]
async fn a_worker_without_the_key_puts_off_and_never_calls_unsigned() {
    let mut world = World::new().await;
    let endpoint = Endpoint::start(|call, _| {
        let signed = !call.header("webhook-signature").is_empty();
        Reply::status(if call.path == "/signed" && !signed { 401 } else { 200 })
    })
    .await;
    world.set("secrets.key", KEY);
    world.handler(
        "CRM",
        "clients.create",
        &["--http", &endpoint.url("/signed"), "--sign", "--max-attempts", "1"],
    );
    world.handler("other", "clients.create", &["--http", &endpoint.url("/"), "--priority", "200"]);

    world.set("secrets.key", NEXT);
    let check = world.run(&["check"]);
    assert_eq!(check.output.status.code(), Some(1));
    let expected =
        "a secret of handler 1 (CRM) cannot be used, so its attempts are deferred: it cannot be decrypted";
    assert!(check.stdout().contains(expected), "{}", check.stdout());
    world.run(&["migrate"]).assert_failed(1, "cannot be decrypted and stay as they are: 1");
    let recorder = world.recorder().await;
    world.keep(recorder);
    let mut worker = world.worker().await;
    world.publish("clients.create", Some("e1"), 1, &json!({})).await;
    let put_off = world.wait_for_executions(1, &["--status", "fail"]).await;
    assert_eq!(put_off[0]["disposition"], "retrying");
    let error = put_off[0]["error"].as_str().unwrap();
    assert!(error.starts_with("not called: its signing secret cannot be used"), "{error}");
    assert!(worker.log().contains("this worker cannot call a handler"), "{}", worker.log());
    endpoint.wait_for(1).await;
    assert!(endpoint.calls()[0].header("webhook-signature").is_empty(), "the other handler's");
    assert!(worker.terminate().await.success());

    // With the key in its place the same event ends well; that it waited cost it no attempt.
    world.set("secrets.previous_keys", KEY);
    let worker = world.worker().await;
    world.keep(worker);
    eventually("the signed call", || async { endpoint.count() == 2 }).await;
    assert!(endpoint.calls()[1].header("webhook-signature").starts_with("v1,"));
    world.wait_for_executions(1, &["--status", "success", "--handler", "1"]).await;
    world.end().await;
}
