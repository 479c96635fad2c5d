//! What a viewer does not get to see, wherever they look.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use crate::support::{
    World,
    console::{Api, answer},
    eventually,
};

const SECRETS: [&str; 4] = ["path-secret", "query-secret", "first-secret", "argument-secret"];

/// Two handlers with secrets in all places that are not for secrets, each with a past, an execution and a dead letter.
async fn set_up(world: &mut World) -> Api {
    let api = Api::start(world).await;
    let url = "http://127.0.0.1:1/bot-path-secret/send?key=query-secret";
    let first = json!({"name": "Bot", "event": "clients.create", "retry": {"max_attempts": 1},
        "task": {"type": "http", "url": "http://127.0.0.1:1/?first-secret"}});
    let made = api.post("/handlers", &first).await.expect(201);
    let change = json!({"task": {"url": url}});
    let path = format!("/handlers/{}", made["id"]);
    answer(api.api("PATCH", &path).header("if-match", "*").json(&change)).await.expect(200);
    world.script("sync.sh", "#!/bin/sh\nexit 1\n");
    let script = json!({"name": "Sync", "event": "clients.create", "retry": {"max_attempts": 1},
        "task": {"type": "script", "path": "sync.sh", "args": ["--key=argument-secret"]}});
    api.post("/handlers", &script).await.expect(201);
    world.serve().await;
    let body = json!({"event": "clients.create", "object_id": 1, "data": {}});
    api.post("/events", &body).await.expect(202);
    for path in ["/dead-letters", "/executions"] {
        eventually("both have failed", || async {
            api.get(path).await["items"].as_array().is_some_and(|items| items.len() == 2)
        })
        .await;
    }
    api
}

/// Everything that can be reached from the first page, and every answer of the API, by address.
async fn all_that_is_shown(api: &Api, user: &str, token: &str) -> BTreeMap<String, String> {
    let (cookie, _) = api.sign_in(user).await;
    let (mut shown, mut open) = (BTreeMap::new(), VecDeque::from(["/".to_owned()]));
    while let Some(address) = open.pop_front() {
        if shown.contains_key(&address) || address.contains("/live?") {
            continue;
        }
        assert!(shown.len() < 500, "{:?}", shown.keys());
        let page = answer(api.request("GET", &address).header("cookie", &cookie)).await;
        let links = page.text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        let ours = links.filter(|link| link.starts_with('/') && !link.starts_with("/assets/"));
        open.extend(ours.map(|link| link.split('#').next().unwrap_or_default().replace("&amp;", "&")));
        shown.insert(address, page.text);
    }
    let by_token =
        async |path: &str| answer(api.request("GET", &format!("/api/v1{path}")).bearer_auth(token)).await;
    let document = by_token("/openapi.json").await.json();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        if operations["get"].is_null() {
            continue;
        }
        let list = path.split("/{").next().expect("a path").trim_start_matches("/api/v1");
        let ids: Vec<Value> = if path.contains('{') {
            by_token(list).await.json()["items"]
                .as_array()
                .expect("items")
                .iter()
                .map(|i| i["id"].clone())
                .collect()
        } else {
            vec![json!("")]
        };
        for id in ids {
            let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            let path = path.trim_start_matches("/api/v1").replace("{id}", &id);
            shown.insert(format!("/api/v1{path}"), by_token(&path).await.text);
        }
    }
    shown
}

#[blocking_test]
async fn secrets_in_urls_and_arguments_are_for_operators() {
    let mut world = World::new().await;
    let api = set_up(&mut world).await;
    let places = |shown: &BTreeMap<String, String>, secret: &str| -> Vec<String> {
        shown.iter().filter(|(_, text)| text.contains(secret)).map(|(at, _)| at.clone()).collect()
    };
    let to_viewer = all_that_is_shown(&api, "vic", &api.keys.viewer).await;
    let to_operator = all_that_is_shown(&api, "ann", &api.keys.operator).await;
    for secret in SECRETS {
        assert_eq!(places(&to_viewer, secret), Vec::<String>::new(), "{secret}");
        assert!(places(&to_operator, secret).len() >= 2, "{secret} is on no page: {:?}", to_operator.keys());
    }
    assert!(to_viewer["/handlers"].contains("http://127.0.0.1:1/***"), "{}", to_viewer["/handlers"]);

    // What is looked for letter by letter is found, too.
    let found = async |token: &str, text: &str| {
        let list = api.request("GET", &format!("/api/v1/handlers?text={text}")).bearer_auth(token);
        answer(list).await.expect(200)["items"].as_array().expect("items").len()
    };
    for secret in ["path-secret", "query-secret", "argument-secret"] {
        assert_eq!(found(&api.keys.viewer, secret).await, 0, "{secret}");
        assert_eq!(found(&api.keys.operator, secret).await, 1, "{secret}");
    }
    for text in ["127.0.0.1", "sync.sh", "bot"] {
        assert_eq!(found(&api.keys.viewer, text).await, 1, "{text}");
    }
    world.keep(api.process);
    world.end().await;
}
