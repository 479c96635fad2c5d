//! The users of `deploy/rabbitmq/users.sh`: they suffice, and reach nothing else.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use serde_json::json;

use super::file;
use crate::support::{Broker, Endpoint, Reply, World, envelope, rabbitmqctl};

const ACCESS_REFUSED: &str = "ACCESS_REFUSED";

fn services(args: &[&str]) -> Option<String> {
    let output = Command::new(file("script/services")).args(args).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A virtual host of its own with the users of the script.
struct Users {
    vhost: String,
    host: String,
}

impl Users {
    /// None where the tests run on a broker whose rabbitmqctl is not at hand.
    fn virtual_host() -> Option<Self> {
        let url = std::env::var("AMQP_URL").unwrap_or_default();
        if url.is_empty() || !services(&["env"])?.contains(&url) {
            return None;
        }
        let host = url.rsplit('@').next()?.split('/').next()?.to_owned();
        let vhost = format!("least-{}", uuid::Uuid::new_v4().simple());
        rabbitmqctl(&["add_vhost", &vhost]);
        rabbitmqctl(&["set_permissions", "-p", &vhost, "guest", ".*", ".*", ".*"]);
        Some(Self { vhost, host })
    }

    fn make(&self, prefix: &str) {
        let made = Command::new(file("deploy/rabbitmq/users.sh"))
            .envs([("VHOST", &self.vhost), ("SUFFIX", &self.suffix())])
            .env("PREFIX", prefix)
            .env("RABBITMQCTL", format!("{} ctl", file("script/services").display()))
            .output()
            .expect("the script");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for name in ["provisiond", "provisiond-worker", "platform"] {
            rabbitmqctl(&["change_password", &self.name(name), "secret"]);
        }
    }

    fn suffix(&self) -> String {
        format!("-{}", self.vhost)
    }

    fn name(&self, user: &str) -> String {
        format!("{user}{}", self.suffix())
    }

    fn url(&self, user: &str) -> String {
        format!("amqp://{}:secret@{}/{}", self.name(user), self.host, self.vhost)
    }

    fn remove(&self) {
        for name in ["provisiond", "provisiond-worker", "platform"] {
            rabbitmqctl(&["delete_user", &self.name(name)]);
        }
        rabbitmqctl(&["delete_vhost", &self.vhost]);
    }
}

/// What the broker says to taking a message.
async fn get(url: &str, queue: &str) -> Result<(), String> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("a broker");
    let channel = connection.create_channel().await.expect("a channel");
    channel.basic_get(queue.into(), BasicGetOptions::default()).await.map(drop).map_err(|e| e.to_string())
}

async fn declare(url: &str, queue: &str) -> Result<(), String> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("a broker");
    let channel = connection.create_channel().await.expect("a channel");
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
    declared.map(drop).map_err(|e| e.to_string())
}

async fn publish(url: &str, exchange: &str, key: &str) -> Result<(), String> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("a broker");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let confirm = channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties).await;
    confirm.map_err(|e| e.to_string())?.await.map(drop).map_err(|e| e.to_string())
}

struct Handlers {
    /// The id of the one that is given up.
    refused: i64,
    _endpoints: [Endpoint; 2],
}

impl Handlers {
    /// One that fails once, so that the ladder is used, and one that is given up.
    async fn create(world: &World) -> Self {
        let calls = AtomicU32::new(0);
        let failing_once = move || if calls.fetch_add(1, Ordering::Relaxed) == 0 { 503 } else { 200 };
        let endpoint = Endpoint::start(move |_, _| Reply::status(failing_once())).await;
        let refusing = Endpoint::start(|_, _| Reply::status(400)).await;
        let retry = ["--http", &endpoint.url("/"), "--initial-interval", "1s"];
        world.handler("CRM", "clients.create", &retry);
        let refused = world.handler("refusing", "clients.create", &["--http", &refusing.url("/")]);
        Self { refused, _endpoints: [endpoint, refusing] }
    }
}

async fn an_event_goes_all_its_ways(world: &World, handlers: &Handlers, platform: &str) {
    let publisher = Broker::connect(platform, &world.broker.prefix).await;
    let body = envelope("clients.create", 1, &json!({}));
    publisher.publish("clients.create", Some("e1"), body.as_bytes()).await;
    publisher.publish("clients.nobody_knows", Some("e2"), body.as_bytes()).await;
    world.wait_for_executions(3, &[]).await;
    world.wait_for_dead_letters(2).await;
    let refused = handlers.refused.to_string();
    world
        .run(&["dead-letters", "replay", "--handler", &refused, "--max-failures", "100", "--yes"])
        .assert_done();
    world.wait_for_executions(4, &[]).await;
    let data = ["--object-id", "7", "--wait"];
    world.run(&[&["publish", "clients.update"], &data[..]].concat()).assert_done();
    world.run(&["events", "add", "clients.suspend"]).assert_done();
    world.run(&["check"]).assert_done();
}

#[blocking_test]
async fn the_users_of_the_broker_suffice_and_reach_nothing_else() {
    let Some(users) = Users::virtual_host() else {
        println!("SKIPPED: AMQP_URL is not the broker of script/services");
        return;
    };
    let guest = format!("amqp://guest:guest@{}/{}", users.host, users.vhost);
    let mut world = World::on(&guest, None).await;
    let prefix = world.broker.prefix.clone();
    users.make(&prefix);
    declare(&guest, "others").await.expect("declared");
    let (ours, worker_url, platform) =
        (users.url("provisiond"), users.url("provisiond-worker"), users.url("platform"));

    let handlers = Handlers::create(&world).await;
    world.set("amqp.url", &worker_url);
    let worker = world.worker().await;
    world.set("amqp.url", &ours);
    let recorder = world.recorder().await;
    an_event_goes_all_its_ways(&world, &handlers, &platform).await;
    for process in [&worker, &recorder] {
        assert!(!process.log().contains(ACCESS_REFUSED), "{}", process.log());
    }

    let log = format!("{prefix}.execution-log");
    let events = format!("{prefix}.events");
    for refused in [
        get(&ours, "others").await,
        get(&worker_url, &log).await,
        get(&platform, &log).await,
        get(&platform, &format!("{events}.clients.create")).await,
        declare(&ours, "others-too").await,
        declare(&platform, &format!("{prefix}.mine")).await,
        publish(&ours, "", "others").await,
        publish(&platform, "", "others").await,
        publish(&platform, &format!("{prefix}.results"), "clients.create.success").await,
    ] {
        let message = refused.expect_err("refused");
        assert!(message.contains(ACCESS_REFUSED), "{message}");
    }
    publish(&worker_url, "", "others").await.expect("replies go by the default exchange");

    world.keep(worker);
    world.keep(recorder);
    let channel = world.broker.connection.create_channel().await.expect("a channel");
    channel.queue_delete("others".into(), QueueDeleteOptions::default()).await.expect("deleted");
    world.set("amqp.url", &guest);
    world.end().await;
    users.remove();
}
