//! A PostgreSQL that dies and restarts.

use crate::{
    faults::{
        Form, both_forms,
        checker::Allowed,
        scene::{Scene, Setup},
    },
    support::Services,
};

both_forms!(killed, restarted);

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
