//! A cluster of three nodes, queues with three members: a node dies, and the majority. In the long form only.

use crate::{
    faults::{
        Form,
        checker::Allowed,
        fault_rig::{FaultRig, Setup},
    },
    support::Cluster,
};

const FORM: Form = Form::LONG;

#[blocking_test]
#[ignore = "minutes long: script/test --faults"]
async fn the_node_that_is_connected_to_is_killed_long() {
    let cluster = Cluster::start().await;
    let setup = Setup { cluster: Some(&cluster), ..Setup::default() };
    let mut rig = FaultRig::with("cluster: node of the worker killed", FORM, setup).await;
    for _ in 0..FORM.injections() {
        rig.random_moment().await;
        cluster.kill(0).await;
        // The next node is tried: nothing needs to come back.
        rig.recovered().await;
        cluster.revive(0).await;
        // Back to the first node, for the next time.
        rig.replace_worker(0).await;
        rig.recovered().await;
    }
    let repeated = FORM.max_repeated_by_kill(FORM.injections());
    rig.end(Allowed { repeated, ..Allowed::default() }).await;
    cluster.stop().await;
}

#[blocking_test]
#[ignore = "minutes long: script/test --faults"]
async fn the_majority_is_lost_and_restored_long() {
    let cluster = Cluster::start().await;
    let setup = Setup { cluster: Some(&cluster), ..Setup::default() };
    let mut rig = FaultRig::with("cluster: majority lost and restored", FORM, setup).await;
    for _ in 0..FORM.injections() {
        rig.random_moment().await;
        cluster.kill(0).await;
        cluster.kill(1).await;
        tokio::time::sleep(FORM.outage() / 6).await;
        cluster.revive(0).await;
        // Two of three are a majority.
        rig.recovered().await;
        cluster.revive(1).await;
    }
    let repeated = FORM.max_repeated_by_kill(FORM.injections());
    rig.end(Allowed { repeated, ..Allowed::default() }).await;
    cluster.stop().await;
}
