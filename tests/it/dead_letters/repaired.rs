//! What anybody types in one line: mend the handler, replay. That the change is live within a second is not to be waited for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Repairable, publish, replay};
use crate::support::{Endpoint, Mode, Process, Proxy, World, address, eventually, query};

/// A worker that reaches the database, and so hears of changes, as its link lets it.
async fn worker_behind_link(world: &mut World) -> (Process, Proxy) {
    let mut link = Proxy::closed(address(&world.database_url));
    link.open();
    let direct = world.database_url.clone();
    world.set("database.url", &link.redirect(&direct));
    let worker = world.worker().await;
    world.set("database.url", &direct);
    (worker, link)
}

/// Lets `link` pass again once so many replays are in the broker.
async fn thaw_after(link: Arc<Proxy>, database_url: String, replayed: i64) {
    eventually("replays are sent", || async {
        let sql = "SELECT count(*) FROM replay_items WHERE state = 'replayed'";
        query(&database_url, sql, &[]).await[0].get::<_, i64>(0) == replayed
    })
    .await;
    link.set(Mode::Open);
}

#[blocking_test]
async fn a_replay_meets_its_handlers_as_they_were_when_it_was_asked_for() {
    let mut world = World::new().await;
    let (broken, healthy, new) = (Repairable::down().await, Endpoint::ok().await, Endpoint::ok().await);
    let id = world.handler("CRM", "clients.create", &["--http", &broken.endpoint.url("/")]).to_string();
    let recorder = world.recorder().await;
    world.keep(recorder);
    let (worker, link) = worker_behind_link(&mut world).await;
    world.keep(worker);
    let (link, database_url) = (Arc::new(link), world.database_url.clone());
    publish(&world, "clients.create", 1).await;
    world.wait_for_dead_letters(1).await;

    link.set(Mode::Frozen);
    tokio::spawn(thaw_after(Arc::clone(&link), database_url.clone(), 1));
    world.run(&["handlers", "update", &id, "--http", &healthy.url("/")]).assert_done();
    assert_eq!(replay(&world, &["--handler", &id])["replayed"], 1);
    healthy.wait_for(1).await;
    assert_eq!(broken.endpoint.count(), 1, "it is not called where it was");

    // Also what is planned afresh meets a handler that is new.
    world.wait_for_executions(2, &[]).await;
    link.set(Mode::Frozen);
    tokio::spawn(thaw_after(Arc::clone(&link), database_url, 2));
    world.handler("new", "clients.create", &["--http", &new.url("/")]);
    let replay_args = ["executions", "replay", "--disposition", "done", "--whole-event", "--yes"];
    world.run(&replay_args).assert_done();
    new.wait_for(1).await;
    world.end().await;
}

/// A worker that takes one event after the other: what holds up one holds up all that is behind it.
struct OneByOne {
    world: World,
    worker: Process,
    /// Between the worker and the database.
    link: Proxy,
    /// The handler of dead letters.
    broken: Endpoint,
    id: String,
    /// Another one for the same events.
    healthy: Endpoint,
}

impl OneByOne {
    const LETTERS: usize = 5;

    async fn with_dead_letters() -> Self {
        let mut world = World::new().await;
        world.set("worker.concurrency", "1");
        let (broken, healthy) = (Repairable::down().await.endpoint, Endpoint::ok().await);
        let id = world.handler("CRM", "clients.create", &["--http", &broken.url("/")]).to_string();
        world.handler("other", "clients.create", &["--http", &healthy.url("/")]);
        let recorder = world.recorder().await;
        world.keep(recorder);
        let (worker, link) = worker_behind_link(&mut world).await;
        publish(&world, "clients.create", Self::LETTERS).await;
        world.wait_for_dead_letters(Self::LETTERS).await;
        world.wait_for_executions(2 * Self::LETTERS, &[]).await;
        Self { world, worker, link, broken, id, healthy }
    }

    /// Whatever each of the copies that wait does, an event behind them comes soon.
    async fn go_on_at_once(&self) {
        let begun = Instant::now();
        publish(&self.world, "clients.create", 1).await;
        self.healthy.wait_for(Self::LETTERS + 1).await;
        assert!(begun.elapsed() < Duration::from_secs(12), "held up for {:?}", begun.elapsed());
    }
}

#[blocking_test]
async fn replays_of_a_handler_that_is_deleted_meanwhile_hold_nothing_up() {
    let mut all = OneByOne::with_dead_letters().await;
    assert!(all.worker.terminate().await.success());
    assert_eq!(replay(&all.world, &["--handler", &all.id])["replayed"], OneByOne::LETTERS);
    all.world.run(&["handlers", "delete", &all.id]).assert_done();
    all.worker = all.world.worker().await;
    all.go_on_at_once().await;
    assert_eq!(all.broken.count(), OneByOne::LETTERS, "what is deleted is not called");
    all.world.keep(all.worker);
    all.world.end().await;
}

#[blocking_test]
async fn replays_hold_nothing_up_while_the_database_is_away() {
    let mut all = OneByOne::with_dead_letters().await;
    all.link.close().await;
    eventually("the worker misses it", || async {
        all.worker.log().contains("using the last known handlers")
    })
    .await;
    all.world.run(&["handlers", "update", &all.id, "--priority", "50"]).assert_done();
    assert_eq!(replay(&all.world, &["--handler", &all.id])["replayed"], OneByOne::LETTERS);
    all.go_on_at_once().await;
    all.link.open();
    all.world.keep(all.worker);
    all.world.end().await;
}
