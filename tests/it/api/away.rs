//! What is told when what the console needs is away.

use serde_json::json;

use crate::support::{
    World,
    console::{Api, answer},
    eventually,
};

#[blocking_test]
async fn an_unavailable_database_is_reported_and_reconnected() {
    let mut world = World::new().await;
    let api = Api::start(&mut world).await;
    let (cookie, _) = api.sign_in("ann").await;
    assert_eq!(api.get("/executions").await, json!({"items": [], "next": null}), "an empty result is a list");
    let name = world.database().to_owned();
    world.admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    world.admin(&cut).await;
    for request in [
        api.api("GET", "/handlers"),
        api.api("GET", "/executions/01a211d7-c29e-7788-8c32-dd2780d93701"),
        api.api("POST", "/event-types").json(&json!({"name": "a.b"})),
        api.request("GET", "/api/v1/handlers").header("cookie", &cookie),
    ] {
        let away = answer(request).await;
        assert_eq!((away.status, away.header("retry-after")), (503, "5"), "{}", away.text);
        let problem = away.json();
        assert_eq!(problem["type"], "urn:provisiond:problem:database-unavailable");
        assert!(problem["detail"].as_str().unwrap().contains("the database does not answer"), "{problem}");
    }
    for path in [
        "/",
        "/handlers",
        "/handlers/1",
        "/handlers/new",
        "/executions",
        "/dead-letters",
        "/replays",
        "/events",
    ] {
        let page =
            answer(api.request("GET", path).header("cookie", &cookie).header("accept", "text/html")).await;
        assert!(page.status == 503 && page.text.contains("PostgreSQL is not available"), "{path}: {page:?}");
    }
    assert_eq!(answer(api.request("GET", "/healthz")).await.status, 200);

    world.admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    eventually("it answers again", || async { answer(api.api("GET", "/handlers")).await.status == 200 })
        .await;
    world.keep(api.process);
    world.end().await;
}

#[blocking_test]
async fn an_unavailable_broker_is_reported() {
    let mut world = World::new().await;
    // Nobody listens there.
    world.set("amqp.url", "amqp://guest:s3cret@127.0.0.1:1/%2f");
    let api = Api::start(&mut world).await;
    let body = json!({"event": "clients.create", "object_id": 1});
    let away = api.post("/events", &body).await;
    assert_eq!(away.status, 503, "{}", away.text);
    assert_eq!(away.json()["type"], "urn:provisiond:problem:broker-unavailable");
    assert!(away.text.contains("cannot connect to RabbitMQ at 127.0.0.1:1") && !away.text.contains("s3cret"));
    let stats = api.get("/stats").await;
    assert!(stats["waiting"]["error"].as_str().unwrap().contains("cannot connect"), "{stats}");
    assert!(api.end().await.success());
    world.abandon().await;
}
