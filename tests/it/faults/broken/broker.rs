//! A RabbitMQ that dies, restarts and is away.

use crate::{
    faults::{
        Form, both_forms,
        checker::Allowed,
        scene::{Scene, Setup, UNDER_WAY},
    },
    support::Services,
};

both_forms!(broker_killed);

async fn broker_killed(form: Form) {
    let services = Services::breakable().await;
    let setup = Setup { services: Some(&services), ..Setup::default() };
    let mut scene = Scene::with("broker killed (SIGKILL)", form, setup).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        services.kill("rabbitmq").await;
        services.start().await;
        scene.recovered().await;
    }
    let repeated = UNDER_WAY * form.injections();
    scene.end(Allowed { repeated, ..Allowed::default() }).await;
}
