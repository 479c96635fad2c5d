//! A PostgreSQL that dies, restarts and has a full disk.

use crate::{
    faults::{
        Form, both_forms,
        checker::Allowed,
        scene::{Scene, Setup},
    },
    support::{Services, SmallDisk, World},
};

both_forms!(killed, restarted, disk_full);

async fn killed(form: Form) {
    let services = Services::breakable().await;
    let setup = Setup { services: Some(&services), ..Setup::default() };
    let mut scene = Scene::with("Postgres killed (SIGKILL)", form, setup).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        services.kill("postgres").await;
        services.start().await;
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}

async fn restarted(form: Form) {
    let services = Services::breakable().await;
    let setup = Setup { services: Some(&services), ..Setup::default() };
    let mut scene = Scene::with("Postgres restarted", form, setup).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        services.stop("postgres").await;
        services.start().await;
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
}

/// A full tablespace: what needs another page is refused, for a while. Checkpoints fail too, for every database.
async fn disk_full(form: Form) {
    let services = Services::breakable().await;
    let world = World::empty(&services.amqp_url, &services.database_url).await;
    let disk = SmallDisk::with_database_of(&world).await;
    if disk.is_none() {
        world.create_database().await;
    }
    world.run(&["migrate"]).assert_done();
    let Some(disk) = disk else { return world.end().await };
    let mut scene = Scene::in_world(world, "disk of Postgres full", form, Setup::default()).await;
    for injection in 1..=form.injections() {
        scene.random_moment().await;
        disk.fill();
        scene.says(&scene.recorder, "No space left on device", injection).await;
        let before = scene.receivers.endpoint.count();
        tokio::time::sleep(form.away()).await;
        assert!(scene.receivers.endpoint.count() > before + 100, "events flow meanwhile");
        disk.empty();
        scene.recovered().await;
    }
    scene.end(Allowed::default()).await;
    disk.leave().await;
}
