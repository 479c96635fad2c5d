//! Services that are not there yet, or go away: the program waits, says so, and goes on.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Endpoint, Proxy, Reply, World, address,
    console::{answer, client, listening},
    eventually,
};

pub(crate) fn behind_proxies(world: &mut World) -> (Proxy, Proxy) {
    let (broker, postgres) =
        (Proxy::closed(address(&world.amqp_url)), Proxy::closed(address(&world.database_url)));
    world.set("amqp.url", &broker.redirect(&world.amqp_url));
    world.set("database.url", &postgres.redirect(&world.database_url));
    (broker, postgres)
}

#[blocking_test]
async fn serve_starts_before_its_services_and_works_once_they_are_there() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let (direct_amqp, direct_database) = (world.amqp_url.clone(), world.database_url.clone());
    let (mut broker, mut postgres) = behind_proxies(&mut world);
    let mut process = world.spawn(&[]);
    world.set("amqp.url", &direct_amqp);
    world.set("database.url", &direct_database);
    eventually("it waits for Postgres and says so", || async {
        process.log().contains("waiting for PostgreSQL")
    })
    .await;
    let console = listening(&process).await;
    let get = |path: &str| answer(client().get(format!("{console}{path}")));
    assert_eq!(get("/healthz").await.status, 200);
    let handlers = get("/api/v1/handlers").await;
    assert!(
        matches!(handlers.status, 401 | 503),
        "the console answers before Postgres does: {}",
        handlers.text
    );
    postgres.open();
    eventually("it waits for the broker and says so", || async {
        process.log().contains("cannot connect to the broker")
    })
    .await;
    broker.open();
    world.wait_for_consumer("events.clients.create").await;
    world.publish("clients.create", Some("e1"), 1, &json!({})).await;
    world.wait_for_executions(1, &["--status", "success"]).await;
    assert!(process.is_running());
    world.keep(process);
    world.end().await;
}

#[blocking_test]
async fn with_postgres_away_the_last_known_handlers_serve_and_results_wait() {
    let mut world = World::new().await;
    let endpoint = Endpoint::ok().await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let (direct_amqp, direct_database) = (world.amqp_url.clone(), world.database_url.clone());
    let (mut broker, mut postgres) = behind_proxies(&mut world);
    broker.open();
    postgres.open();
    let process = world.spawn(&[]);
    world.set("amqp.url", &direct_amqp);
    world.set("database.url", &direct_database);
    world.wait_for_consumer("execution-log").await;
    world.wait_for_consumer("events.clients.create").await;
    postgres.close().await;
    for number in 0..50 {
        world.publish("clients.create", Some(&format!("e{number}")), number, &json!({})).await;
    }
    endpoint.wait_for(50).await;
    assert!(world.executions(&[]).is_empty());
    postgres.open();
    world.wait_for_executions(50, &["--status", "success"]).await;

    // The broker goes away in mid-load as well; everything goes on by itself.
    for number in 50..100 {
        world.publish("clients.create", Some(&format!("e{number}")), number, &json!({})).await;
        if number == 60 {
            broker.close().await;
        }
    }
    eventually("the loss is noticed", || async { process.log().contains("connection to the broker lost") })
        .await;
    broker.open();
    eventually("every event was executed", || async {
        world.count("SELECT count(DISTINCT event_id) FROM executions WHERE status = 'success'").await == 100
    })
    .await;
    world.keep(process);
    world.end().await;
}

#[blocking_test]
async fn a_process_ends_although_the_broker_is_away() {
    let mut world = World::new().await;
    let endpoint = Endpoint::start(|_, _| Reply::status(200).after(Duration::from_secs(1))).await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    world.set("worker.drain_timeout", "3s");
    let (mut broker, mut postgres) = behind_proxies(&mut world);
    broker.open();
    postgres.open();
    let mut process = world.spawn(&[]);
    world.wait_for_consumer("events.clients.create").await;
    world.publish("clients.create", Some("e1"), 1, &json!({})).await;
    endpoint.wait_for(1).await;
    broker.close().await;
    eventually("the loss is noticed", || async { process.log().contains("connection to the broker lost") })
        .await;
    process.signal(nix::sys::signal::Signal::SIGTERM);
    let status = process.ended(Duration::from_secs(30)).await;
    assert!(status.success(), "ended with {status}:\n{}", process.log());

    // What it could not tell the broker is done again.
    broker.open();
    let process = world.spawn(&[]);
    world.keep(process);
    world.wait_for_executions(1, &["--status", "success"]).await;
    world.end().await;
}

#[blocking_test]
async fn an_idle_worker_is_small() {
    let mut world = World::new().await;
    let worker = world.worker().await;
    // Without the pages of the program itself: those of a debug build are several times a release's.
    let memory_kib = worker.anonymous_kib();
    assert!(memory_kib <= 16 * 1024, "an idle worker takes {memory_kib} KiB of its own");
    world.keep(worker);
    world.end().await;
}
