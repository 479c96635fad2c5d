//! What the broker's user may do is taken away while everything runs, and given back.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::json;

use crate::{
    monitoring::metrics_address,
    support::{Endpoint, Process, Reply, World, console, eventually, rabbitmqctl},
};

/// A user of the broker for one world, gone with it.
struct User(String);

impl User {
    fn new(world: &mut World) -> Self {
        let name = world.broker.prefix.clone();
        rabbitmqctl(&["add_user", &name, "secret"]);
        let url = world.amqp_url.replacen("guest:guest", &format!("{name}:secret"), 1);
        assert!(url.contains(&name), "{url}");
        world.set("amqp.url", &url);
        let user = Self(name);
        user.allow([".*", ".*", ".*"]);
        user
    }

    fn allow(&self, [configure, write, read]: [&str; 3]) {
        rabbitmqctl(&["set_permissions", &self.0, configure, write, read]);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        rabbitmqctl(&["delete_user", &self.0]);
    }
}

async fn all_ready(worker: &str, recorder: &str) {
    eventually("all is ready", || async { is_ready(worker).await && is_ready(recorder).await }).await;
}

async fn is_ready(at: &str) -> bool {
    console::client().get(format!("{at}/readyz")).send().await.expect("an answer").status() == 200
}

fn warnings(process: &Process) -> usize {
    process.log().lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).count()
}

#[blocking_test]
async fn missing_rights_are_reported_once_and_recovery_is_prompt() {
    let mut world = World::new().await;
    let endpoint = Endpoint::start(|_, _| Reply::status(200)).await;
    world.handler("CRM", "clients.create", &["--http", &endpoint.url("/")]);
    let user = User::new(&mut world);
    world.set("telemetry.listen", "127.0.0.1:0");
    let (worker, recorder) = (world.worker().await, world.recorder().await);
    let (worker_at, recorder_at) = (metrics_address(&worker).await, metrics_address(&recorder).await);
    let published = AtomicU64::new(0);
    // Of each connection: that it was lost, and why there is no other.
    for (missing, allowed, reconnects, max_warnings) in [
        ("all", ["", "", ""], false, 1),
        ("configure", ["", ".*", ".*"], true, 6),
        ("read", [".*", ".*", ""], true, 6),
    ] {
        all_ready(&worker_at, &recorder_at).await;
        let before = warnings(&worker);
        user.allow(allowed);
        if reconnects {
            // Else it is not noticed: a channel remembers what it was allowed.
            rabbitmqctl(&["close_all_user_connections", &user.0, "to look at its rights"]);
        }
        eventually(&format!("without {missing} rights, not ready"), || async {
            let object_id = published.fetch_add(1, Ordering::Relaxed);
            world.publish("clients.create", None, object_id, &json!({})).await;
            !is_ready(&worker_at).await
        })
        .await;
        // For as long as some ten tries take.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!is_ready(&worker_at).await, "without {missing} rights");
        let new_warnings = warnings(&worker) - before;
        assert!(
            (1..=max_warnings).contains(&new_warnings),
            "{new_warnings} warnings of {missing} rights: {}",
            worker.log()
        );
        user.allow([".*", ".*", ".*"]);
    }
    all_ready(&worker_at, &recorder_at).await;
    let published = usize::try_from(published.into_inner()).expect("a number");
    world.wait_for_executions(published, &["--status", "success"]).await;
    assert_eq!(endpoint.calls().len(), published, "each is called once");
    world.keep(worker);
    world.keep(recorder);
    world.end().await;
}
