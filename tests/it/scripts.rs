//! Script handlers: what a script gets, and what its exit code means.

use serde_json::json;

use crate::support::{World, envelope};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_gets_the_event_and_its_environment() {
    let mut world = World::new().await;
    world.script("show.sh", "#!/bin/sh\ncat\nenv | sort\nprintf '%s|' \"$@\"\necho oops >&2\n");
    let id = world.handler("show", "clients.create", &["--script", "show.sh", "--arg", "a b", "--arg", "-x"]);
    world.serve().await;
    let body = envelope("clients.create", 12, &json!({"id": 12}));
    world.broker.publish("clients.create", Some("e1"), body.as_bytes()).await;
    let listed = world.wait_for_executions(1, &["--status", "success"]).await;
    let shown = world.json(&["executions", "show", listed[0]["id"].as_str().unwrap()]);
    let stdout = shown["response"]["stdout"].as_str().unwrap();
    assert!(stdout.starts_with(&body), "the event is on stdin");
    for line in [
        "PROVISIONING_ATTEMPT=1",
        "PROVISIONING_EVENT=clients.create",
        "PROVISIONING_EVENT_ID=e1",
        "PROVISIONING_OBJECT_ID=12",
        &format!("PROVISIONING_DELIVERY_ID=e1_{id}"),
        &format!("PROVISIONING_HANDLER_ID={id}"),
        "PROVISIONING_HANDLER_NAME=show",
    ] {
        assert!(stdout.lines().any(|l| l == line), "{line} in {stdout}");
    }
    assert!(!stdout.contains("PROVISIOND_"), "the configuration stays out");
    assert!(stdout.ends_with("a b|-x|"));
    assert_eq!(shown["response"]["stderr"], "oops\n");
    assert_eq!(shown["response"]["exit_code"], 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_say_whether_to_try_again() {
    let mut world = World::new().await;
    world.set("retry.initial_interval", "1s");
    world.script("data.sh", "#!/bin/sh\nexit 65\n");
    world.script("later.sh", "#!/bin/sh\n[ \"$PROVISIONING_ATTEMPT\" = 2 ] || exit 75\n");
    world.handler("data", "clients.create", &["--script", "data.sh"]);
    world.handler("later", "clients.update", &["--script", "later.sh"]);
    world.handler("outside", "clients.delete", &["--script", "/bin/true"]);
    world.serve().await;
    for event in ["clients.create", "clients.update", "clients.delete"] {
        world.broker.publish(event, Some(event), envelope(event, 1, &json!({})).as_bytes()).await;
    }
    let letters = world.wait_for_dead_letters(2).await;
    let error = |id: &str| {
        letters.iter().find(|l| l["event_id"] == id).unwrap()["error"].as_str().unwrap().to_owned()
    };
    assert!(error("clients.create").contains("65"), "{}", error("clients.create"));
    assert!(error("clients.delete").contains("outside of script.roots"), "{}", error("clients.delete"));
    let later = world.wait_for_executions(2, &["--event", "clients.update"]).await;
    assert_eq!((&later[0]["disposition"], &later[1]["disposition"]), (&json!("done"), &json!("retrying")));
    world.wait_for_executions(4, &[]).await;
    world.end().await;
}
