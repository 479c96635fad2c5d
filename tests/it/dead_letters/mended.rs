//! What anybody types in one line: mend the handler, replay. That the change is live within a second is not to be waited for.

use std::sync::Arc;

use super::{Mendable, publish, replay};
use crate::support::{Endpoint, Mode, Proxy, World, address, eventually, query};

/// Lets `link` pass again once so many replays are in the broker.
async fn thaw_after(link: Arc<Proxy>, database_url: String, replayed: i64) {
    eventually("replays are sent", || async {
        let sql = "SELECT count(*) FROM replay_items WHERE state = 'replayed'";
        query(&database_url, sql, &[]).await[0].get::<_, i64>(0) == replayed
    })
    .await;
    link.set(Mode::Open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_meets_its_handlers_as_they_were_when_it_was_asked_for() {
    let mut world = World::new().await;
    let (broken, well, new) = (Mendable::down().await, Endpoint::ok().await, Endpoint::ok().await);
    let id = world.handler("CRM", "clients.create", &["--http", &broken.endpoint.url("/")]).to_string();
    let recorder = world.recorder().await;
    world.keep(recorder);
    // The worker hears of changes when this lets it.
    let mut link = Proxy::closed(address(&world.database_url));
    link.open();
    let (link, database_url) = (Arc::new(link), world.database_url.clone());
    world.set("database.url", &link.lead(&database_url));
    let worker = world.worker().await;
    world.keep(worker);
    world.set("database.url", &database_url);
    publish(&world, "clients.create", 1).await;
    world.wait_for_dead_letters(1).await;

    link.set(Mode::Frozen);
    tokio::spawn(thaw_after(Arc::clone(&link), database_url.clone(), 1));
    world.run(&["handlers", "update", &id, "--http", &well.url("/")]).assert_done();
    assert_eq!(replay(&world, &["--handler", &id])["replayed"], 1);
    well.wait_for(1).await;
    assert_eq!(broken.endpoint.count(), 1, "it is not called where it was");

    // Also what is planned afresh meets a handler that is new.
    world.wait_for_executions(2, &[]).await;
    link.set(Mode::Frozen);
    tokio::spawn(thaw_after(Arc::clone(&link), database_url, 2));
    world.handler("new", "clients.create", &["--http", &new.url("/")]);
    let whole = ["executions", "replay", "--disposition", "done", "--whole-event", "--yes"];
    world.run(&whole).assert_done();
    new.wait_for(1).await;
    world.end().await;
}
