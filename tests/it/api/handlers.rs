//! Handlers over HTTP.

use serde_json::{Value, json};

use crate::support::{
    Endpoint, World,
    console::{Answer, Api, answer},
};

const SECRET: &str = "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=";

async fn change(api: &Api, method: &str, path: &str, version: &str, body: &Value) -> Answer {
    answer(api.api(method, path).header("if-match", version).json(body)).await
}

#[blocking_test]
async fn a_handler_is_created_changed_and_deleted() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let task =
        json!({"type": "http", "url": "127.0.0.1:5000/api", "headers": {"Authorization": "Bearer s3cret"}});
    let body =
        json!({"name": "CRM", "event": "clients.create", "task": task, "priority": 1, "timeout": "20s"});
    let created = api.post("/handlers", &body).await;
    assert_eq!((created.status, created.header("etag")), (201, "\"1\""), "{}", created.text);
    let path = created.header("location").strip_prefix("/api/v1").unwrap().to_owned();
    let handler = created.json();
    assert_eq!(handler["task"]["url"], "http://127.0.0.1:5000/api");
    assert_eq!(handler["task"]["headers"]["authorization"], "***");
    assert_eq!((&handler["status"], &handler["mode"]), (&json!("enabled"), &json!("notify")));

    let shown = answer(api.api("GET", &path)).await;
    assert_eq!((shown.header("etag"), shown.json()["timeout"].as_str()), ("\"1\"", Some("20s")));
    let known = answer(api.api("GET", &path).header("if-none-match", "\"1\"")).await;
    assert_eq!((known.status, known.text.as_str()), (304, ""));

    // What was shown can be sent back: what is masked stays as it is stored.
    let mut edited = shown.json();
    for read_only in ["id", "signed", "created_at", "updated_at", "version"] {
        edited.as_object_mut().unwrap().remove(read_only);
    }
    edited["name"] = json!("CRM 2");
    edited["task"]["headers"]["x-more"] = json!("1");
    let replaced = change(&api, "PUT", &path, "\"1\"", &edited).await;
    assert_eq!((replaced.status, replaced.header("etag")), (200, "\"2\""), "{}", replaced.text);
    let stored: String = world.rows("SELECT task::text FROM handlers", &[]).await[0].get(0);
    assert!(stored.contains("Bearer s3cret") && stored.contains("x-more"), "{stored}");

    let body = json!({"status": "archived", "timeout": null, "task": {"headers": {"x-more": null}}});
    let archived = change(&api, "PATCH", &path, "\"2\"", &body).await.expect(200);
    assert_eq!((&archived["status"], &archived["timeout"]), (&json!("archived"), &Value::Null));
    assert_eq!(archived["task"]["headers"], json!({"authorization": "***"}));
    let script = json!({"task": {"type": "script", "path": "missing.py"}});
    let script = change(&api, "PATCH", &path, "\"3\"", &script).await.expect(200);
    assert_eq!(script["task"], json!({"type": "script", "path": "missing.py"}));
    assert!(script["warnings"][0].as_str().unwrap().contains("cannot be run"), "{script}");

    assert_eq!(api.get("/handlers").await["items"], json!([]), "archived ones are hidden");
    assert_eq!(
        api.get("/handlers?status=archived&task_type=script&text=crm").await["items"][0]["name"],
        "CRM 2"
    );
    let history = api.get(&format!("{path}/history")).await;
    let actions: Vec<&Value> = history["items"].as_array().unwrap().iter().map(|e| &e["action"]).collect();
    assert_eq!(actions, ["updated", "updated", "updated", "created"]);
    assert_eq!(history["items"][0]["changed_by"], "operator program (token)");
    assert!(!history.to_string().contains("s3cret"), "{history}");

    assert_eq!(answer(api.api("DELETE", &path).header("if-match", "\"4\"")).await.status, 204);
    assert_eq!(answer(api.api("GET", &path)).await.status, 404);
    assert_eq!(api.get(&format!("{path}/history")).await["items"][0]["action"], "deleted");
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn a_stale_edit_is_refused_with_what_changed_in_between() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    api.handler("CRM", "127.0.0.1:5000/api").await;
    let patch = |priority: i64| json!({"priority": priority});
    change(&api, "PATCH", "/handlers/1", "\"1\"", &patch(5)).await.expect(200);
    change(&api, "PATCH", "/handlers/1", "\"2\"", &json!({"status": "disabled"})).await.expect(200);

    for (method, body) in [("PATCH", patch(7)), ("PUT", json!({})), ("DELETE", Value::Null)] {
        let stale = change(&api, method, "/handlers/1", "\"1\"", &body).await;
        assert_eq!(stale.header("content-type"), "application/problem+json");
        let stale = stale.expect(412);
        assert_eq!((&stale["current"]["version"], &stale["current"]["priority"]), (&json!(3), &json!(5)));
        let changes = stale["changes"].as_array().unwrap();
        assert_eq!(changes.len(), 2, "{stale:#}");
        assert_eq!(
            (&changes[0]["action"], &changes[1]["after"]["priority"]),
            (&json!("disabled"), &json!(5))
        );
        assert!(stale["detail"].as_str().unwrap().contains("by operator program (token)"), "{stale}");
    }
    for path in ["/handlers/1/rotate-secret", "/handlers/1/signing-secret"] {
        let method = if path.ends_with("rotate-secret") { "POST" } else { "DELETE" };
        assert_eq!(answer(api.api(method, path).header("if-match", "\"1\"")).await.status, 412);
        assert_eq!(answer(api.api(method, path)).await.status, 428);
    }
    assert_eq!(answer(api.api("PATCH", "/handlers/1").json(&patch(7))).await.status, 428);
    for (version, hint) in [("W/\"3\"", "weak tag"), ("3", "double quotes"), ("\"3", "double quotes")] {
        let refused = change(&api, "PATCH", "/handlers/1", version, &patch(7)).await;
        assert_eq!(refused.status, 400, "{version}: {}", refused.text);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(hint) && detail.contains("such as If-Match: \"3\""), "{detail}");
    }
    assert_eq!(
        change(&api, "PATCH", "/handlers/1", "\"three\"", &patch(7)).await.status,
        412,
        "none of ours"
    );
    assert_eq!(change(&api, "PATCH", "/handlers/99", "\"1\"", &patch(7)).await.status, 404);
    assert_eq!(world.json(&["handlers", "show", "1"])["version"], 3, "nothing was changed by any of these");
    change(&api, "PATCH", "/handlers/1", "\"2\", \"3\"", &patch(7)).await.expect(200);
    change(&api, "PATCH", "/handlers/1", "*", &patch(8)).await.expect(200);

    // Ten at once: one is first, and the others are told.
    let patches: Vec<Value> = (10..20).map(patch).collect();
    let all = patches.iter().map(|patch| change(&api, "PATCH", "/handlers/1", "\"5\"", patch));
    let mut statuses: Vec<u16> = futures_util::future::join_all(all).await.iter().map(|a| a.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412, 412, 412]);
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn a_problem_names_every_field_that_is_wrong() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let bad = json!({
        "name": " ", "event": "clients.nothing", "priority": 0, "timeout": "1h", "status": null, "id": 7, "colour": "red",
        "task": {"type": "http", "url": "ftp://x/", "path": "x", "headers": {"te": "x", "x-a": 1, "x-b": "***"}},
        "retry": {"max_attempts": 0, "tries": 3}, "signing_secret": "hunter2",
    });
    let refused = api.post("/handlers", &bad).await;
    assert_eq!(refused.status, 422);
    let mut named = refused.named();
    named.sort_unstable();
    let expected = [
        "/colour",
        "/event",
        "/id",
        "/name",
        "/priority",
        "/retry/max_attempts",
        "/retry/tries",
        "/signing_secret",
        "/status",
        "/task/headers/te",
        "/task/headers/x-a",
        "/task/headers/x-b",
        "/task/path",
        "/task/url",
        "/timeout",
    ];
    assert_eq!(named, expected, "{}", refused.text);
    assert!(!refused.text.contains("hunter2"), "{}", refused.text);
    let problem = refused.json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.ends_with("(and 14 more, see errors)") && detail.len() < 200, "{detail}");
    for words in ["invalid type", "unknown field", "unknown variant", "expected"] {
        assert!(!refused.text.contains(words), "{words}: {}", refused.text);
    }

    let (name, task) = ("CRM", json!({"type": "http", "url": "127.0.0.1/"}));
    for (body, named) in [
        (json!({}), vec!["/name", "/event", "/task"]),
        (json!({"name": name, "event": "clients.create", "task": {"type": "fax"}}), vec!["/task/type"]),
        (json!({"name": name, "event": "clients.nothing", "task": task}), vec!["/event"]),
        (
            json!({"name": name, "event": "clients.create", "task": {"type": "http", "url": "169.254.169.254/"}}),
            vec!["/task/url"],
        ),
        (
            json!({"name": name, "event": "clients.create", "task": task, "sign": true, "signing_secret": SECRET}),
            vec!["/sign"],
        ),
        (
            json!({"name": "", "event": "clients.nothing", "task": {"type": "http", "url": "169.254.169.254/"}}),
            vec!["/name", "/event", "/task/url"],
        ),
        (
            json!({"name": name, "event": "clients.create", "task": {"type": "script", "path": "../../etc/x.sh"}}),
            vec!["/task/path"],
        ),
        (json!([]), vec![""]),
    ] {
        let refused = api.post("/handlers", &body).await;
        assert_eq!((refused.status, refused.named()), (422, named.into_iter().map(str::to_owned).collect()));
    }
    for (path, named) in [
        ("/handlers?limit=501", "limit"),
        ("/handlers?after=%21", "after"),
        ("/handlers?stat=x&status=on&limit=0", "stat status limit"),
        ("/handlers?limit=x", "limit"),
        ("/handlers?limit=1&limit=2", "limit"),
        ("/handlers/1?x=1", "x"),
        ("/handlers/1/history?a=1&b=2", "a b"),
        ("/executions/01a211d7-c29e-7788-8c32-dd2780d93701?x=1", "x"),
        ("/executions/7", "id"),
        ("/event-types?x=1", "x"),
        ("/handlers?stat=x", "stat"),
        ("/handlers?status=on", "status"),
        ("/handlers/one", "id"),
        ("/executions?since=soon", "since"),
        ("/executions?event=A", "event"),
        ("/dead-letters?reason=bad", "reason"),
        ("/replays?status=1", "status"),
    ] {
        let refused = answer(api.api("GET", path)).await;
        assert_eq!(
            (refused.status, refused.named().join(" ")),
            (400, named.to_owned()),
            "{path}: {}",
            refused.text
        );
        assert!(!refused.text.contains("expected") && !refused.text.contains("invalid"), "{}", refused.text);
    }
    assert_eq!(world.count("SELECT count(*) FROM handlers").await, 0);
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn what_http_itself_refuses_is_a_problem_too() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let post = |media: &'static str, body: Vec<u8>| {
        api.api("POST", "/handlers").header("content-type", media).body(body)
    };
    for (request, status) in [
        (post("application/json", b"{\"name\":".to_vec()), 400),
        (post("application/json", vec![b' '; 27 << 20]), 413),
        (post("text/plain", b"{}".to_vec()), 415),
        (api.api("POST", "/handlers").body("{}"), 415),
        (api.api("PUT", "/handlers"), 405),
        (api.api("GET", "/handlers").header("accept", "text/html"), 406),
        (api.api("GET", "/nothing"), 404),
        (api.api("GET", "/handlers/99"), 404),
    ] {
        let answer = answer(request).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["status"], status);
        assert_eq!(answer.header("allow"), if status == 405 { "GET,HEAD,POST" } else { "" });
    }
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn secrets_do_not_come_back() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let endpoint = Endpoint::ok().await;
    let task = json!({"type": "http", "url": endpoint.url("/"), "headers": {"x-key": "k-e-y"}});
    let body = json!({"name": "CRM", "event": "clients.create", "task": task, "sign": true});
    let made = api.post("/handlers", &body).await.expect(201);
    let secret = made["signing_secret"].as_str().expect("shown once").to_owned();
    let rotated =
        answer(api.api("POST", "/handlers/1/rotate-secret").header("if-match", "\"1\"")).await.expect(200);
    let second = rotated["signing_secret"].as_str().expect("shown once").to_owned();
    assert_ne!(secret, second);
    let rotation = json!({"secret": SECRET, "keep_old": "1m"});
    let given = change(&api, "POST", "/handlers/1/rotate-secret", "\"2\"", &rotation).await.expect(200);
    assert_eq!((&given["signed"], given.get("signing_secret")), (&json!(true), None), "its owner has it");
    let trial = answer(api.api("POST", "/handlers/1/test")).await.expect(200);
    assert_eq!((&trial["status"], &trial["sent"]["headers"]["x-key"]), (&json!("success"), &json!("***")));
    let call = endpoint.calls().pop().expect("a call");
    assert_eq!((call.header("x-key"), call.header("webhook-signature").split(' ').count()), ("k-e-y", 2));

    // Whoever may change where it goes may not have what is stored sent there.
    for url in ["http://127.0.0.1:9/", "https://127.0.0.1:1/", "http://other.example/"] {
        let elsewhere = json!({"task": {"type": "http", "url": url, "headers": {"x-key": "***"}}});
        let refused = change(&api, "PATCH", "/handlers/1", "\"3\"", &elsewhere).await.expect(422);
        assert_eq!(refused["errors"][0]["pointer"], "/task/headers/x-key", "{refused}");
        let refused =
            change(&api, "PATCH", "/handlers/1", "\"3\"", &json!({"task": {"url": url}})).await.expect(422);
        assert_eq!(refused["errors"][0]["pointer"], "/task/headers/x-key", "{refused}");
        world
            .run(&["handlers", "update", "1", "--http", url])
            .assert_failed(2, "the stored value of x-key is not sent there");
    }

    for path in ["/handlers", "/handlers/1", "/handlers/1/history", "/executions", "/stats", "/openapi.json"]
    {
        let text = answer(api.api("GET", path)).await.text;
        for secret in [&secret, &second, "k-e-y", "enc:v1:"] {
            assert!(!text.contains(secret), "{path}: {text}");
        }
    }
    assert!(!api.process.log().contains(&secret) && !api.process.log().contains(&api.keys.operator));
    let unsigned =
        answer(api.api("DELETE", "/handlers/1/signing-secret").header("if-match", "*")).await.expect(200);
    assert_eq!(unsigned["signed"], false);
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn pages_of_a_list_are_whole_while_others_change_it() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    for n in 0..25 {
        api.handler(&format!("handler {n}"), "127.0.0.1:5000/").await;
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/handlers?limit=10{after}")).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|h| h["id"].as_i64().unwrap()));
        // What was seen already goes, and something new comes.
        answer(api.api("DELETE", &format!("/handlers/{}", seen[0])).header("if-match", "*")).await;
        api.handler("late", "127.0.0.1:5000/").await;
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let expected: Vec<i64> = (1..=27).collect();
    assert_eq!(seen, expected, "each once, in order");
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn a_misspelt_url_is_refused_with_what_was_meant() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    for (url, said) in [
        ("http://http://x", "did you mean http://x?"),
        ("https:/x", "did you mean https://x?"),
        ("https//x", "did you mean https://x?"),
        ("ht!tp://x", "did you mean http://x?"),
        ("C:\\x", "backslash"),
        ("/api", "names no host"),
    ] {
        let handler = json!({"name": "x", "event": "clients.create", "task": {"type": "http", "url": url}});
        let request = api.api("POST", "/handlers").json(&handler);
        let refused = answer(request).await.expect(422);
        assert_eq!(refused["errors"][0]["pointer"], "/task/url", "{refused}");
        assert!(refused["errors"][0]["detail"].as_str().unwrap().contains(said), "{refused}");
        world
            .run(&["handlers", "create", "--name", "x", "--event", "clients.create", "--http", url])
            .assert_failed(2, said);
    }
    assert_eq!(world.count("SELECT count(*) FROM handlers").await, 0);
    world.keep(api.process);
    world.end().await;
}
