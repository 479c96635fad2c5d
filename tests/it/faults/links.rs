//! Connections that are lost, stand still, creep or carry noise.

use super::{
    Form, both_forms,
    checker::Allowed,
    scene::{Scene, UNDER_WAY},
};

both_forms!(consumer_cut);

async fn consumer_cut(form: Form) {
    let mut scene = Scene::begin("consumer connection cut", form).await;
    for _ in 0..form.injections() {
        scene.random_moment().await;
        assert_eq!(scene.links.worker.cut("worker: consume"), 1, "there is one such connection");
        scene.recovered().await;
    }
    let repeated = UNDER_WAY * form.injections();
    scene.end(Allowed { repeated, ..Allowed::default() }).await;
}
