//! Publishing by hand, and finding it again: what is given arrives as it is, or is refused before anything is published.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::support::{
    Call, Endpoint, World,
    console::{Answer, Api, answer},
    envelope,
};

/// Numbers that no float holds, keys twice and in an odd order, an escape that nobody needs.
const ODD: &str = r#"{"iccid":89490200001234567890123,"z":1.10,"a":-0,"e":1E2,"a":1e400,"n":"\u0041"}"#;

async fn post(api: &Api, path: &str, body: String) -> Answer {
    answer(api.api("POST", path).header("content-type", "application/json").body(body)).await
}

#[blocking_test]
async fn data_arrives_as_it_was_written() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    let id = world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    let api = Api::start(&mut world).await;

    let published = format!(r#"{{"event":"clients.create","object_id":1,"data":{ODD}}}"#);
    post(&api, "/events", published).await.expect(202);
    endpoint.wait_for(1).await;
    world.run(&["publish", "clients.create", "--object-id", "2", "--data", ODD]).assert_done();
    endpoint.wait_for(2).await;
    let tried = post(&api, &format!("/handlers/{id}/test"), format!(r#"{{"data":{ODD}}}"#)).await;
    assert_eq!(tried.status, 200, "{}", tried.text);
    world.run(&["handlers", "test", &id.to_string(), "--data", ODD]).assert_done();
    endpoint.wait_for(4).await;
    for call in endpoint.calls() {
        let body = String::from_utf8(call.body.to_vec()).expect("text");
        assert!(body.ends_with(&format!("\"data\":{ODD}}}")), "{body}");
    }
    for data in ["[1]", "\"text\"", "null1", "null", "7"] {
        let refused =
            post(&api, "/events", format!(r#"{{"event":"clients.create","object_id":1,"data":{data}}}"#))
                .await;
        assert!(matches!(refused.status, 400 | 422), "{data}: {}", refused.text);
    }
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn what_no_worker_would_take_is_not_published() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    let api = Api::start(&mut world).await;

    let (longest, longer) = ("ü".repeat(512), "ü".repeat(512) + "x");
    let large = format!("{{\"pad\":\"{}\"}}", "x".repeat(1_100_000));
    let file = world.dir.path().join("large.json");
    std::fs::write(&file, &large).expect("written");
    let ran = world.run(&[
        "publish",
        "clients.create",
        "--object-id",
        "1",
        "--data",
        &format!("@{}", file.display()),
    ]);
    ran.assert_failed(2, "nothing was published: the body has 1100");
    world.run(&["publish", "clients.create", "--object-id", &longer]).assert_failed(2, "at most 1024 bytes");
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    world
        .run(&["publish", "clients.create", "--object-id", "1", "--data", &deep])
        .assert_failed(2, "nested deeper");
    let event = |object: &str, data: &str| {
        format!(r#"{{"event":"clients.create","object_id":"{object}","data":{data}}}"#)
    };
    assert_eq!(post(&api, "/events", event("1", &large)).await.status, 413);
    let refused = post(&api, "/events", event(&longer, "{}")).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("at most 1024 bytes"), "{}", refused.text);
    assert_eq!(post(&api, "/events", event("1", &deep)).await.status, 422);

    // The longest goes everywhere, and so does one that begins like an option.
    post(&api, "/events", event(&longest, "{}")).await.expect(202);
    world.run(&["publish", "clients.create", "--object-id", &longest]).assert_done();
    world.run(&["publish", "clients.create", "--object-id", "-5"]).assert_done();
    world.wait_for_executions(3, &[]).await;
    assert_eq!(world.executions(&["--object-id", &longest]).len(), 2);
    assert_eq!(world.executions(&["--object-id", "-5"]).len(), 1);
    assert_eq!(endpoint.count(), 3);
    assert!(world.json(&["dead-letters", "list", "--object", "-5"]).as_array().is_some_and(Vec::is_empty));
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn events_are_found_by_the_id_that_they_were_published_with() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    let api = Api::start(&mut world).await;
    let long = "i".repeat(255);
    let ids = ["  ", "ü", &long, "-7", "plain"];
    for (object, id) in (0..).zip(ids) {
        world.publish("clients.create", Some(id), object, &json!({})).await;
        world.broker.publish("clients.create", Some(id), b"no event").await;
    }
    world.wait_for_executions(ids.len(), &[]).await;
    world.wait_for_dead_letters(ids.len()).await;
    for id in ids {
        assert_eq!(world.executions(&["--event-id", id]).len(), 1, "{id:?}");
        assert_eq!(world.json(&["dead-letters", "list", "--event-id", id]).as_array().map(Vec::len), Some(1));
        for path in ["/executions", "/dead-letters"] {
            let query = serde_urlencoded::to_string([("event_id", id)]).expect("a query");
            let found = api.get(&format!("{path}?{query}")).await;
            assert_eq!(found["items"].as_array().map(Vec::len), Some(1), "{path} {id:?}");
        }
    }
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn marks_compression_and_odd_times_are_read() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    let good = envelope("clients.create", 1, &json!({}));
    let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
    zipped.write_all(good.as_bytes()).expect("compressed");
    let marked = format!("\u{feff}{good}");
    let never = good.replace("2026-01-01T00:00:00+00:00", "9999-12-31T23:59:59Z");
    let basic = good.replace("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00.1234567891+0000");
    for body in [marked.as_bytes(), &zipped.finish().expect("compressed"), never.as_bytes(), basic.as_bytes()]
    {
        world.broker.publish("clients.create", None, body).await;
    }
    let executions = world.wait_for_executions(4, &[]).await;
    assert!(executions.iter().all(|e| e["disposition"] == "done"), "{executions:?}");
    let bodies: Vec<Value> = endpoint.calls().iter().map(Call::json).collect();
    assert!(bodies.iter().all(|body| body["event"]["object_id"] == 1));
    assert!(bodies.iter().any(|body| body["event"]["dt"] == "9999-12-31T23:59:59Z"), "as it was written");
    world.end().await;
}

#[blocking_test]
async fn a_dead_letter_of_a_compressed_event_is_kept_unpacked() {
    let mut world = World::new().await;
    world.serve().await;
    let valid = envelope("clients.create", 7, &json!({"name": "Anna"}));
    let broken = valid.replace("clients.create", "clients.delete");
    for (event, body) in [("clients.create", &broken), ("clients.nowhere", &valid)] {
        let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
        zipped.write_all(body.as_bytes()).expect("compressed");
        world.broker.publish(event, None, &zipped.finish().expect("compressed")).await;
    }
    world.wait_for_dead_letters(2).await;
    let found = world.json(&["dead-letters", "list", "--text", "Anna", "--object-id", "7"]);
    assert_eq!(found.as_array().map(Vec::len), Some(2), "{found}");
    for dead_letter in found.as_array().expect("a list") {
        let shown = world.json(&["dead-letters", "show", dead_letter["id"].as_str().expect("an id")]);
        let body = if dead_letter["reason"] == "malformed" { &broken } else { &valid };
        assert_eq!(shown["body"], json!(body));
    }
    world.end().await;
}

#[blocking_test]
async fn a_time_without_a_zone_is_utc_and_not_midnight() {
    let mut world = World::new().await;
    world.serve().await;
    for id in ["early", "late"] {
        world.broker.publish("clients.create", Some(id), b"no event").await;
    }
    world.wait_for_dead_letters(2).await;
    world.count("WITH moved AS (UPDATE dead_letters SET died_at = '2026-11-28T15:00:00Z' WHERE event_id = 'early' RETURNING 1)
        SELECT count(*) FROM moved").await;
    let discard =
        |since: &str| world.run(&["dead-letters", "discard", "--since", since, "--reason", "r", "--yes"]);
    for bad in ["2026-11-28T25:00", "2026-11-28T15", "2026-11-28T15:00:00 CET", "2026-11-28x"] {
        discard(bad).assert_failed(2, "is not a valid time");
    }
    discard("2026-11-28T23:00:00").assert_done();
    let open = world.json(&["dead-letters", "list"]);
    assert_eq!(open.as_array().map(Vec::len), Some(1));
    assert_eq!(open[0]["event_id"], "early");
    let api = Api::start(&mut world).await;
    let found =
        |since: &'static str| answer(api.api("GET", &format!("/dead-letters?state=open&since={since}")));
    assert_eq!(found("2026-11-28T15:00:00").await.expect(200)["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(found("2026-11-28T15:00:01").await.expect(200)["items"].as_array().map(Vec::len), Some(0));
    assert_eq!(found("2026-11-28T15").await.status, 400);
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn an_object_id_is_the_same_however_it_is_published() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.serve().await;
    let api = Api::start(&mut world).await;
    let large = "12345678901234567890123";
    let by_rest = async |object_id: &str| {
        let body = format!(r#"{{"event":"clients.create","object_id":{object_id}}}"#);
        answer(api.api("POST", "/events").header("content-type", "application/json").body(body)).await
    };
    let by_hand = |object_id: &str| world.run(&["publish", "clients.create", "--object-id", object_id]);
    for json in ["12", "\"12\"", large] {
        assert_eq!(by_rest(json).await.status, 202, "{json}");
    }
    for typed in ["12", "-5", "007", large] {
        by_hand(typed).assert_done();
    }
    endpoint.wait_for(7).await;
    let sent = |json: &str| {
        let part = format!("\"object_id\":{json}}}");
        endpoint.calls().iter().filter(|call| String::from_utf8_lossy(&call.body).contains(&part)).count()
    };
    let counts = ["12", "\"12\"", "-5", "\"007\"", large].map(sent);
    assert_eq!(counts, [2, 1, 1, 1, 2]);

    for (json, expected) in
        [("\"\"", "is empty"), ("1e400", "out of range"), ("null", "must be a number or a string")]
    {
        let refused = by_rest(json).await;
        assert!(refused.status == 422 && refused.text.contains(expected), "{json}: {}", refused.text);
    }
    by_hand("").assert_failed(2, "is empty");
    world
        .run(&["publish", "clients.create", "--object-id", "1", "--data", "-x"])
        .assert_failed(2, "is not JSON");
    world.run(&["dead-letters", "list", "--text", "-5"]).assert_done();
    let url = endpoint.url("/");
    let twice = ["--http", &url, "--header", "A: 1", "--header", "a: 2"];
    let create = [&["handlers", "create", "--name", "-x", "--event", "clients.create"][..], &twice].concat();
    world.run(&create).assert_failed(2, "the header a is given twice");
    let task = json!({"type": "http", "url": url, "headers": {"A": "1", "a": "2"}});
    let refused = api.post("/handlers", &json!({"name": "x", "event": "clients.create", "task": task})).await;
    assert!(refused.status == 422 && refused.text.contains("is given twice"), "{}", refused.text);

    let (cookie, _) = api.sign_in("vic").await;
    for (path, location) in
        [("/executions/?status=fail", "/executions?status=fail"), ("/handlers//", "/handlers")]
    {
        let answered = answer(api.request("GET", path).header("cookie", &cookie)).await;
        assert_eq!(
            (answered.status, answered.headers["location"].to_str().expect("a text")),
            (308, location)
        );
    }
    let odd = answer(api.request("GET", "//evil.example/").header("cookie", &cookie)).await;
    assert_eq!(odd.status, 404);
    world.keep(api.process);
    world.end().await;
}
