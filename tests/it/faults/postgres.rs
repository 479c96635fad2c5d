//! PostgreSQL that is away, stands still, talks noise or refuses to write. Events flow; nothing is repeated.

use std::time::Duration;

use super::{Form, both_forms, checker::Allowed, fault_rig::FaultRig};
use crate::support::{Direction, Garble, Mode};

both_forms!(away, frozen, stranded, garbled, refuses_writes, absent_at_start);

async fn away(form: Form) {
    let mut rig = FaultRig::begin("Postgres away", form).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        rig.links.postgres.close().await;
        let before = rig.receivers.endpoint.count();
        tokio::time::sleep(form.outage()).await;
        assert!(rig.receivers.endpoint.count() > before + 100, "events flow meanwhile");
        rig.links.postgres.open();
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

async fn frozen(form: Form) {
    let mut rig = FaultRig::begin("Postgres frozen", form).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        rig.links.postgres.set(Mode::Frozen);
        tokio::time::sleep(form.outage()).await;
        rig.links.postgres.set(Mode::Open);
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

/// PostgreSQL has no heartbeat: what is not answered is given up when the server itself would have (15 s) and a little
/// more. The bound of a frozen link at the default heartbeat of the broker's.
const FROZEN_MAX_RECOVERY: Duration = Duration::from_secs(25);

/// The connections that stand never answer again; new ones are well.
async fn stranded(form: Form) {
    let mut rig = FaultRig::begin("connections to Postgres half-open", form).await;
    rig.max_recovery = FROZEN_MAX_RECOVERY;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        rig.links.postgres.strand();
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

async fn garbled(form: Form) {
    let mut rig = FaultRig::begin("connections to Postgres garbled", form).await;
    rig.max_recovery = FROZEN_MAX_RECOVERY;
    for _ in 0..form.injections() {
        for direction in [Direction::ToService, Direction::ToProcess] {
            rig.random_moment().await;
            rig.links.postgres.garble(direction, Garble::Noise);
            rig.recovered().await;
        }
    }
    rig.end(Allowed::default()).await;
}

/// A database that may only be read: every write is refused, for a while.
async fn refuses_writes(form: Form) {
    let mut rig = FaultRig::begin("Postgres refuses to write", form).await;
    let database = rig.world.database().to_owned();
    for _ in 0..form.injections() {
        rig.random_moment().await;
        let read_only = format!("ALTER DATABASE {database} SET default_transaction_read_only = on");
        rig.world.admin(&read_only).await;
        // It is so from the next session on.
        let end_sessions = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = '{database}' AND application_name = 'provisiond'"
        );
        rig.world.admin(&end_sessions).await;
        tokio::time::sleep(form.outage()).await;
        rig.world.admin(&format!("ALTER DATABASE {database} RESET default_transaction_read_only")).await;
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}

/// A worker takes no event before it knows its handlers.
async fn absent_at_start(form: Form) {
    let mut rig = FaultRig::begin("worker started without Postgres", form).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        rig.links.postgres.close().await;
        rig.replace_worker(0).await;
        rig.wait_for_log(&rig.workers[0], "waiting for PostgreSQL", 1).await;
        let before = rig.receivers.endpoint.count();
        tokio::time::sleep(form.outage()).await;
        assert_eq!(rig.receivers.endpoint.count(), before, "nothing is called meanwhile");
        rig.links.postgres.open();
        rig.recovered().await;
    }
    rig.end(Allowed::default()).await;
}
