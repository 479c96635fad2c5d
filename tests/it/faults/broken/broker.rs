//! A RabbitMQ that dies, restarts and is away.

use crate::{
    faults::{
        Form, both_forms,
        checker::Allowed,
        fault_rig::{FaultRig, MAX_IN_FLIGHT, Setup},
    },
    support::{Reply, Services},
};

both_forms!(killed, restarted, away, killed_with_a_full_ladder);

/// Worker and recorder come back at their own times: a delivery that comes again may be asked about before what was
/// published of it is recorded.
fn lost_connections(times: usize) -> Allowed {
    Allowed { repeated: MAX_IN_FLIGHT * times, ..Allowed::default() }
}

async fn killed(form: Form) {
    let services = Services::breakable().await;
    let setup = Setup { services: Some(&services), ..Setup::default() };
    let mut rig = FaultRig::with("broker killed (SIGKILL)", form, setup).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        services.kill("rabbitmq").await;
        services.start().await;
        rig.recovered().await;
    }
    rig.end(lost_connections(form.injections())).await;
}

async fn restarted(form: Form) {
    let services = Services::breakable().await;
    let setup = Setup { services: Some(&services), ..Setup::default() };
    let mut rig = FaultRig::with("broker restarted", form, setup).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        services.stop("rabbitmq").await;
        services.start().await;
        rig.recovered().await;
    }
    rig.end(lost_connections(form.injections())).await;
}

async fn away(form: Form) {
    let services = Services::breakable().await;
    let setup = Setup { services: Some(&services), ..Setup::default() };
    let mut rig = FaultRig::with("broker away", form, setup).await;
    for _ in 0..form.injections() {
        rig.random_moment().await;
        services.stop("rabbitmq").await;
        tokio::time::sleep(form.outage()).await;
        services.start().await;
        rig.recovered().await;
    }
    rig.end(lost_connections(form.injections())).await;
}

/// Every event has a retry that waits in the broker when that is killed.
async fn killed_with_a_full_ladder(form: Form) {
    let services = Services::breakable().await;
    let setup = Setup { services: Some(&services), interval: "4s", ..Setup::default() };
    let mut rig = FaultRig::with("broker killed with a full delay ladder", form, setup).await;
    for _ in 0..form.injections() {
        rig.receivers.override_reply(|handler, _, attempt| {
            ((handler, attempt) == ("flaky", 1)).then(|| Reply::status(503))
        });
        rig.load.wait_for(200).await;
        rig.random_moment().await;
        // On all levels: once its circuit is open, the handler's retries wait for longer than its schedule says.
        let queues = rig.world.left_in_queues().await;
        let waiting: u32 = queues.iter().filter(|(queue, _)| queue.contains("delay")).map(|(_, n)| n).sum();
        services.kill("rabbitmq").await;
        // Well again at all events: the first probe closes the circuit.
        rig.receivers.override_reply(|handler, _, attempt| {
            ((handler, attempt) == ("flaky", 1)).then(|| Reply::status(200))
        });
        services.start().await;
        assert!(waiting > 30, "only {waiting} retries were waiting");
        rig.recovered().await;
        rig.world.reconnect().await;
    }
    rig.end(lost_connections(form.injections())).await;
}
