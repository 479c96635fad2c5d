//! No route answers without access, and a viewer changes nothing: every route of the document is tried.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::{
    World,
    console::{Api, answer},
};

/// Method and path of every operation, with ids that exist.
async fn operations(api: &Api) -> Vec<(String, String)> {
    let document = api.get("/openapi.json").await;
    let paths = document["paths"].as_object().expect("paths").clone();
    let mut all = Vec::new();
    for (path, item) in paths {
        let id = if path.starts_with("/handlers") || path.starts_with("/replays") { "1" } else { UUID };
        let path = path.replace("{id}", id).replace("{name}", "clients.archive");
        all.extend(
            item.as_object().expect("operations").keys().map(|method| (method.to_uppercase(), path.clone())),
        );
    }
    assert!(all.len() > 25, "{all:?}");
    all
}

const UUID: &str = "01a211d7-c29e-7788-8c32-dd2780d93701";

/// With what would make it succeed, if it were allowed.
fn filled(request: RequestBuilder, method: &str) -> RequestBuilder {
    let request = request.header("if-match", "*");
    if method == "GET" {
        request
    } else {
        request.json(&json!({"status": "disabled", "reason": "x", "all": true}))
    }
}

async fn fingerprint(world: &World) -> Vec<i64> {
    let mut counts = Vec::new();
    for sql in [
        "SELECT count(*) FROM handlers",
        "SELECT coalesce(sum(version), 0)::bigint FROM handlers",
        "SELECT count(*) FROM handler_history",
        "SELECT count(*) FROM event_types WHERE removed_at IS NULL",
        "SELECT count(*) FROM replays",
    ] {
        counts.push(world.count(sql).await);
    }
    counts
}

#[blocking_test]
async fn nothing_answers_without_access() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let operations = operations(&api).await;
    let pages =
        ["/", "/handlers", "/executions", "/dead-letters", "/events", "/nothing", "/api", "/api/v1/docs"];
    let others = pages.map(|path| ("GET".to_owned(), path.to_owned()));
    let api_paths = operations.into_iter().map(|(method, path)| (method, format!("/api/v1{path}")));
    let document = [("GET".to_owned(), "/api/v1/openapi.json".to_owned())];
    for (method, path) in api_paths.chain(others).chain(document) {
        let bare = || api.request(&method, &path);
        for (case, request) in [
            ("without anything", bare()),
            ("with a wrong token", bare().bearer_auth("pvd_wrong")),
            ("with a token in a form of its own", bare().header("authorization", &api.keys.operator)),
            ("with a password", bare().basic_auth("ann", Some(crate::support::console::PASSWORD))),
            ("with a wrong session", bare().header("cookie", "provisiond=wrong")),
            // A token goes before a cookie, and is not made good by one.
        ] {
            let refused = answer(filled(request, &method)).await;
            assert_eq!(refused.status, 401, "{method} {path} {case}: {}", refused.text);
            assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"provisiond\"");
        }
    }
    let health = answer(api.request("GET", "/healthz")).await;
    assert_eq!((health.status, health.text.as_str()), (200, "ok\n"));
    assert!(health.header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
    let page = answer(api.request("GET", "/handlers?text=a").header("accept", "text/html")).await;
    assert_eq!((page.status, page.header("location")), (303, "/sign-in?next=%2Fhandlers%3Ftext%3Da"));
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn a_viewer_looks_and_changes_nothing() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    api.handler("CRM", "127.0.0.1:5000/").await;
    let before = fingerprint(&world).await;
    let (cookie, csrf) = api.sign_in("vic").await;
    for (method, path) in operations(&api).await {
        let path = format!("/api/v1{path}");
        let by_token = api.request(&method, &path).bearer_auth(&api.keys.viewer);
        let session = api.request(&method, &path).header("cookie", &cookie).header("x-csrf-token", &csrf);
        let by_session = session.header("sec-fetch-site", "same-origin");
        for request in [by_token, by_session] {
            let answer = answer(filled(request, &method)).await;
            if method == "GET" {
                assert!([200, 404].contains(&answer.status), "{method} {path}: {}", answer.text);
            } else {
                assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text);
                assert!(answer.json()["detail"].as_str().unwrap().contains("is a viewer"), "{}", answer.text);
            }
        }
    }
    // Methods that no route has, too.
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
        let refused = answer(api.request(method, "/handlers/1").bearer_auth(&api.keys.viewer)).await;
        assert_eq!(refused.status, 403, "{method}");
    }
    assert_eq!(fingerprint(&world).await, before);
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn what_another_site_sends_with_our_cookie_is_refused() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let (cookie, csrf) = api.sign_in("ann").await;
    let before = fingerprint(&world).await;
    let body = json!({"name": "x", "event": "clients.create", "task": {"type": "http", "url": "127.0.0.1/"}});
    let post = || api.request("POST", "/api/v1/handlers").header("cookie", &cookie).json(&body);
    let host = api.url.strip_prefix("http://").unwrap();
    for (case, request) in [
        ("cross-site", post().header("sec-fetch-site", "cross-site").header("x-csrf-token", &csrf)),
        ("a sibling", post().header("sec-fetch-site", "same-site").header("x-csrf-token", &csrf)),
        ("another origin", post().header("origin", "http://evil.example").header("x-csrf-token", &csrf)),
        ("no origin at all", post().header("x-csrf-token", &csrf)),
        ("no token", post().header("sec-fetch-site", "same-origin")),
        ("another token", post().header("sec-fetch-site", "same-origin").header("x-csrf-token", "x")),
    ] {
        let refused = answer(request).await;
        assert_eq!(refused.status, 403, "{case}: {}", refused.text);
    }
    // A form of another site, which needs no script.
    let form =
        api.request("POST", "/sign-out").header("cookie", &cookie).header("origin", "http://evil.example");
    assert_eq!(answer(form.form(&[("csrf", &csrf)])).await.status, 403);
    assert_eq!(fingerprint(&world).await, before);

    let ours = post().header("origin", format!("http://{host}")).header("x-csrf-token", &csrf);
    let created = answer(ours).await.expect(201);
    let history = api.get(&format!("/handlers/{}/history", created["id"])).await;
    assert_eq!(history["items"][0]["changed_by"], "ann (console)");
    let read: Value =
        answer(api.request("GET", "/api/v1/handlers").header("cookie", &cookie)).await.expect(200);
    assert_eq!(read["items"].as_array().unwrap().len(), 1, "to read, the cookie is enough");
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn a_link_from_elsewhere_shows_its_page_and_changes_nothing() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    api.handler("CRM", "127.0.0.1:5000/").await;
    let (cookie, csrf) = api.sign_in("ann").await;
    let before = fingerprint(&world).await;
    // As a browser sends it when a person opens a link in a chat.
    let link = |path: &str| {
        let page = api.request("GET", path).header("cookie", &cookie).header("accept", "text/html");
        page.header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "navigate")
    };
    for path in ["/", "/handlers/1", "/handlers?text=CRM", "/executions", "/dead-letters", "/events"] {
        assert_eq!(answer(link(path)).await.status, 200, "{path}");
    }
    // Those behind which a form waits, and those that only take a form.
    for path in [
        "/handlers/1/delete",
        "/handlers/1/test",
        "/handlers/1/edit",
        "/handlers/1/secret",
        "/handlers/1/disable",
        "/handlers/1/status",
        "/dead-letters/discard",
        "/dead-letters/replay?all=true",
        "/executions/replay?all=true",
        "/events/publish",
        "/events/clients.archive/remove",
        "/replays",
        "/sign-out",
    ] {
        let answered = answer(link(path)).await;
        assert!(answered.status < 500, "{path}: {}", answered.status);
        let form =
            api.request("POST", path).header("cookie", &cookie).header("origin", "https://evil.example");
        let sent = answer(form.header("sec-fetch-site", "cross-site").form(&[("csrf", &csrf)])).await;
        assert_eq!(sent.status, 403, "{path}: {}", sent.text);
    }
    assert_eq!(fingerprint(&world).await, before);
    assert_eq!(answer(link("/handlers/1")).await.status, 200, "still signed in");
    world.keep(api.process);
    world.end().await;
}
