//! Executions, dead letters and replays over HTTP.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use serde_json::{Value, json};

use crate::support::{
    Endpoint, Reply, World,
    console::{Api, answer},
    eventually,
};

/// An endpoint whose status can be changed, and a handler of it.
async fn broken(world: &mut World) -> (Api, Endpoint, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(400));
    let answered = Arc::clone(&status);
    let endpoint = Endpoint::start(move |_, _| Reply::status(answered.load(Ordering::Relaxed))).await;
    let api = Api::start(world).await;
    api.handler("CRM", &endpoint.url("/api")).await;
    world.serve().await;
    (api, endpoint, status)
}

async fn publish(api: &Api, object_id: i64) -> Value {
    let body = json!({"event": "clients.create", "object_id": object_id, "data": {"name": "Ann"}});
    let published = api.post("/events", &body).await.expect(202);
    assert_eq!(published["has_queue"], true);
    published
}

async fn wait_for_dead_letters(api: &Api, count: usize) -> Vec<Value> {
    let list =
        || async { api.get("/dead-letters?state=open&limit=500").await["items"].as_array().unwrap().clone() };
    eventually(&format!("{count} dead letters"), || async { list().await.len() == count }).await;
    list().await
}

#[blocking_test]
async fn a_dead_letter_is_read_mended_and_replayed() {
    let mut world = World::new().await;
    let (api, endpoint, status) = broken(&mut world).await;
    let event_id = publish(&api, 1).await["event_id"].as_str().unwrap().to_owned();
    let dead_letter = wait_for_dead_letters(&api, 1).await.remove(0);
    assert_eq!((&dead_letter["reason"], &dead_letter["event_id"]), (&json!("permanent"), &json!(event_id)));
    let path = format!("/dead-letters/{}", dead_letter["id"].as_str().unwrap());
    // The letter may be recorded before the execution.
    eventually("its execution", || async { api.get(&path).await["executions"][0].is_object() }).await;
    let shown = api.get(&path).await;
    assert_eq!(
        (&shown["executions"][0]["response"]["http_status"], &shown["replay"]["obstacle"]),
        (&json!(400), &Value::Null)
    );
    let found = api.get(&format!("/executions?event_id={event_id}&status=fail&data=ann")).await;
    let execution = format!("/executions/{}", found["items"][0]["id"].as_str().unwrap());
    assert_eq!(api.get(&execution).await["request"]["data"]["name"], "Ann");
    assert_eq!(api.get("/dead-letters/summary?state=open").await["lines"][0]["count"], 1);

    let no_event = api.post(&format!("{path}/replay"), &json!({"event": {"data": {}}})).await;
    assert_eq!((no_event.status, no_event.named()), (422, vec!["/event".to_owned()]), "{}", no_event.text);
    status.store(200, Ordering::Relaxed);
    let mut event: Value = serde_json::from_str(shown["body"].as_str().unwrap()).unwrap();
    event["data"]["name"] = json!("Anna");
    let replay = api.post(&format!("{path}/replay"), &json!({"event": event})).await.expect(200);
    assert_eq!((&replay["replayed"], &replay["created_by"]), (&json!(1), &json!("operator program (token)")));
    eventually("the call", || async { endpoint.count() == 2 }).await;
    let call = endpoint.calls().pop().unwrap();
    assert_eq!(call.json()["data"]["name"], "Anna");
    assert!(!call.header("webhook-id").starts_with(&event_id), "an edited event is another");

    let closed = api.get(&path).await;
    assert_eq!(
        (&closed["state"], &closed["state_changed_by"]),
        (&json!("replayed"), &json!("operator program (token)"))
    );
    for action in ["replay", "discard"] {
        let body = if action == "replay" { json!({}) } else { json!({"reason": "x"}) };
        let again = api.post(&format!("{path}/{action}"), &body).await.expect(409);
        assert!(again["detail"].as_str().unwrap().contains("was replayed already"), "{again}");
    }
    // The execution too, whose handler is switched off meanwhile: refused, with the reason.
    answer(api.api("PATCH", "/handlers/1").header("if-match", "*").json(&json!({"status": "disabled"})))
        .await
        .expect(200);
    let refused = answer(api.api("POST", &format!("{execution}/replay"))).await.expect(409);
    assert!(refused["detail"].as_str().unwrap().contains("handler 1 is not enabled"), "{refused}");
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn many_are_counted_replayed_stopped_and_resumed() {
    let mut world = World::new().await;
    let (api, endpoint, status) = broken(&mut world).await;
    for object in 0..30 {
        publish(&api, object).await;
    }
    let open = wait_for_dead_letters(&api, 30).await;
    for (body, named) in [
        (json!({}), "/filter"),
        (json!({"filter": {}}), "/filter"),
        (json!({"all": true, "rate": 0}), "/rate"),
    ] {
        let refused = api.post("/dead-letters/replay", &body).await;
        assert_eq!((refused.status, refused.named()), (422, vec![named.to_owned()]));
    }
    let request = json!({"filter": {"handler": 1, "since": "2h"}, "dry_run": true});
    let plan = api.post("/dead-letters/replay", &request).await.expect(200);
    assert_eq!((&plan["total"], &plan["lines"][0]["handler_name"]), (&json!(30), &json!("CRM")));
    assert_eq!(world.count("SELECT count(*) FROM replays").await, 0, "counting begins nothing");

    status.store(200, Ordering::Relaxed);
    let begun = api.post("/dead-letters/replay", &json!({"filter": {"handler": 1}, "rate": 2})).await;
    let job = begun.header("location").strip_prefix("/api/v1").unwrap().to_owned();
    assert_eq!((begun.status, &begun.json()["waiting"]), (202, &json!(30)));
    eventually("some are replayed", || async { api.get(&job).await["replayed"].as_i64() >= Some(2) }).await;
    let again = answer(api.api("POST", &format!("{job}/resume"))).await.expect(422);
    assert!(again["detail"].as_str().unwrap().contains("running already"), "{again}");

    // Another process is asked to stop it.
    let keys = crate::support::console::Keys { operator: api.keys.operator.clone(), viewer: String::new() };
    let other = Api::with(&world, keys).await;
    answer(other.api("POST", &format!("{job}/stop"))).await.expect(200);
    eventually("it stops", || async { other.get(&job).await["state"] == "stopped" }).await;
    let stopped = other.get(&job).await;
    assert_eq!(stopped["note"], "stopped by operator program (token)");
    assert!(stopped["waiting"].as_i64().unwrap() > 0, "{stopped}");

    answer(other.api("POST", &format!("{job}/resume")).json(&json!({"rate": 500}))).await.expect(202);
    eventually("it ends", || async { api.get(&job).await["state"] == "finished" }).await;
    let ended = api.get(&job).await;
    assert_eq!((&ended["replayed"], &ended["waiting"], &ended["rate"]), (&json!(30), &json!(0), &json!(500)));
    eventually("each is called once more", || async { endpoint.count() == 60 }).await;
    assert_eq!(api.get("/replays?limit=1").await["items"][0]["id"], ended["id"]);
    assert_eq!(open.len(), 30);
    assert!(other.end().await.success());
    world.wait_for_executions(60, &[]).await;
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn dead_letters_are_paged_exported_and_discarded() {
    let mut world = World::new().await;
    let (api, _endpoint, _) = broken(&mut world).await;
    for object in 0..7 {
        publish(&api, object).await;
    }
    let all: Vec<Value> =
        wait_for_dead_letters(&api, 7).await.iter().map(|dead_letter| dead_letter["id"].clone()).collect();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/dead-letters?limit=3{after}")).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|dead_letter| dead_letter["id"].clone()));
        if seen.len() == 3 {
            // What comes meanwhile is newer, and moves nothing.
            publish(&api, 100).await;
            wait_for_dead_letters(&api, 8).await;
        }
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, all);

    let export = answer(api.api("GET", "/dead-letters/export?object_id=3")).await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> = export.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let body: Value = serde_json::from_str(lines[0]["body"].as_str().unwrap()).unwrap();
    assert_eq!((lines.len(), &body["event"]["object_id"]), (1, &json!(3)));
    assert_eq!(answer(api.api("GET", "/dead-letters/export")).await.text.lines().count(), 8);

    let filter = json!({"object_id": "3"});
    let refused = api.post("/dead-letters/discard", &json!({"filter": filter, "reason": " "})).await;
    assert_eq!(refused.named(), ["/reason"]);
    let dry = json!({"filter": filter, "reason": "known", "dry_run": true});
    assert_eq!(api.post("/dead-letters/discard", &dry).await.expect(200)["total"], 1);
    let discard = json!({"filter": filter, "reason": "known"});
    assert_eq!(api.post("/dead-letters/discard", &discard).await.expect(200)["discarded"], 1);
    let ids = json!({"ids": [all[0]], "reason": "known"});
    assert_eq!(api.post("/dead-letters/discard", &ids).await.expect(200)["discarded"], 1);
    assert_eq!(
        api.post("/dead-letters/discard", &json!({"all": true, "reason": "x"})).await.expect(200)["discarded"],
        6
    );
    let closed = api.get("/dead-letters?state=discarded&object_id=3").await;
    assert_eq!(closed["items"][0]["state_note"], "known");
    world.wait_for_executions(8, &[]).await;
    world.keep(api.process);
    world.end().await;
}
