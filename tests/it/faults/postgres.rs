//! PostgreSQL that is away, stands still, talks noise or refuses to write. Events flow; nothing is repeated.

use std::time::Duration;

use super::{Form, both_forms, checker::Allowed, scene::Scene};
use crate::support::{Garble, Mode, Way};

both_forms!(away, frozen, stranded, garbled, refuses_writes, absent_at_start);

async fn away(form: Form) {
    let mut scene = Scene::begin("Postgres away", form).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        scene.links.postgres.close().await;
        let before = scene.receivers.endpoint.count();
        tokio::time::sleep(form.away()).await;
        assert!(scene.receivers.endpoint.count() > before + 100, "events flow meanwhile");
        scene.links.postgres.open();
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}

async fn frozen(form: Form) {
    let mut scene = Scene::begin("Postgres frozen", form).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        scene.links.postgres.set(Mode::Frozen);
        tokio::time::sleep(form.away()).await;
        scene.links.postgres.set(Mode::Open);
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}

/// PostgreSQL has no heartbeat: what is not answered is given up when the server itself would have (15 s) and a little
/// more. The bound of a frozen link at the default heartbeat of the broker's.
const FROZEN: Duration = Duration::from_secs(25);

/// The connections that stand never answer again; new ones are well.
async fn stranded(form: Form) {
    let mut scene = Scene::begin("connections to Postgres half-open", form).await;
    scene.patience = FROZEN;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        scene.links.postgres.strand();
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}

async fn garbled(form: Form) {
    let mut scene = Scene::begin("connections to Postgres garbled", form).await;
    scene.patience = FROZEN;
    for _ in 0..form.injections() {
        for way in [Way::There, Way::Back] {
            scene.random_moment().await;
            scene.links.postgres.garble(way, Garble::Noise);
            scene.recovered().await;
        }
    }
    scene.end(Allowed::default()).await;
}

/// A database that may only be read: every write is refused, for a while.
async fn refuses_writes(form: Form) {
    let mut scene = Scene::begin("Postgres refuses to write", form).await;
    let database = scene.world.database().to_owned();
    for _ in 0..form.injections() {
        scene.random_moment().await;
        let read_only = format!("ALTER DATABASE {database} SET default_transaction_read_only = on");
        scene.world.admin(&read_only).await;
        // It is so from the next session on.
        let end_sessions = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = '{database}' AND application_name = 'provisiond'"
        );
        scene.world.admin(&end_sessions).await;
        tokio::time::sleep(form.away()).await;
        scene.world.admin(&format!("ALTER DATABASE {database} RESET default_transaction_read_only")).await;
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}

/// A worker takes no event before it knows its handlers.
async fn absent_at_start(form: Form) {
    let mut scene = Scene::begin("worker started without Postgres", form).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        scene.links.postgres.close().await;
        scene.replace_worker(0).await;
        scene.says(&scene.workers[0], "waiting for PostgreSQL", 1).await;
        let before = scene.receivers.endpoint.count();
        tokio::time::sleep(form.away()).await;
        assert_eq!(scene.receivers.endpoint.count(), before, "nothing is called meanwhile");
        scene.links.postgres.open();
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}
