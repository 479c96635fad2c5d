//! A PostgreSQL that dies, restarts and has a full disk.

use crate::{
    faults::{
        Form, both_forms,
        checker::Allowed,
        fault_rig::{FaultRig, Setup},
    },
    support::{Services, SmallDisk, World},
};

both_forms!(killed, restarted, disk_full);

async fn killed(form: Form) {
    let services = Services::breakable().await;
    let setup = Setup { services: Some(&services), ..Setup::default() };
    let mut rig = FaultRig::with("Postgres killed (SIGKILL)", form, setup).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        services.kill("postgres").await;
        services.start().await;
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

async fn restarted(form: Form) {
    let services = Services::breakable().await;
    let setup = Setup { services: Some(&services), ..Setup::default() };
    let mut rig = FaultRig::with("Postgres restarted", form, setup).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        services.stop("postgres").await;
        services.start().await;
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
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
    let mut rig = FaultRig::in_world(world, "disk of Postgres full", form, Setup::default()).await;
    for injection in 1..=form.injections() {
        rig.random_moment().await;
        disk.fill();
        rig.wait_for_log(&rig.recorder, "No space left on device", injection).await;
        let before = rig.receivers.endpoint.count();
        tokio::time::sleep(form.outage()).await;
        assert!(rig.receivers.endpoint.count() > before + 100, "events flow meanwhile");
        disk.empty();
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
    disk.leave().await;
}
