//! A RabbitMQ and a PostgreSQL that may be broken: a pair of their own, started when first needed.
//!
//! Who uses them is in the module `faults::broken`, whose tests nextest runs one at a time.

use std::{path::PathBuf, process::Stdio};

use futures_util::future::join_all;

/// RabbitMQ as it is by default.
const ORDINARY: &str = "vm_memory_monitor:set_vm_memory_high_watermark(0.4),
    application:set_env(rabbit, consumer_timeout, 1800000),
    application:set_env(rabbit, channel_tick_interval, 60000).";

/// The pair of services in `.local/breakable`.
pub struct Services {
    pub amqp_url: String,
    pub database_url: String,
}

impl Services {
    /// Starts what is not running, and sets back what a test that failed may have left: also what cannot be started
    /// again, as where the disk of a database is gone.
    pub async fn breakable() -> Self {
        if !output("breakable", &["start"]).await.status.success() {
            run(&["remove"]).await;
            run(&["start"]).await;
        }
        run(&["ctl", "eval", ORDINARY]).await;
        let environment = run(&["env"]).await;
        let url = |name: &str| {
            let line = environment.lines().find(|line| line.contains(name)).expect("a variable");
            line.split('\'').nth(1).expect("a url").to_owned()
        };
        Self { amqp_url: url("AMQP_URL"), database_url: url("DATABASE_URL") }
    }

    /// Starts what was stopped or killed; its port stays the same.
    pub async fn start(&self) {
        run(&["start"]).await;
        assert!(run(&["env"]).await.contains(&self.amqp_url), "the services came back on other ports");
    }

    pub async fn stop(&self, service: &str) {
        run(&["stop", service]).await;
    }

    /// SIGKILL.
    pub async fn kill(&self, service: &str) {
        run(&["kill", service]).await;
    }

    /// Runs rabbitmqctl.
    pub async fn ctl(&self, args: &[&str]) -> String {
        run(&[&["ctl"], args].concat()).await
    }

    /// Starts RabbitMQ's management API, and gives its url.
    pub async fn start_management(&self) -> String {
        self.stop_management().await;
        let port = super::free_port();
        let listener = format!(
            "application:set_env(rabbitmq_management, tcp_config, [{{ip, \"127.0.0.1\"}}, {{port, {port}}}], [{{persistent, true}}])."
        );
        self.ctl(&["eval", &listener]).await;
        run(&["plugins", "enable", "rabbitmq_management"]).await;
        format!("http://127.0.0.1:{port}")
    }

    pub async fn stop_management(&self) {
        run(&["plugins", "disable", "rabbitmq_management"]).await;
    }
}

/// Three nodes of RabbitMQ that are one cluster, in `.local/cluster`.
pub struct Cluster {
    nodes: [&'static str; 3],
    pub urls: Vec<String>,
}

impl Cluster {
    /// Starts what is not running, and joins what is not joined.
    pub async fn start() -> Self {
        let nodes = ["cluster/1", "cluster/2", "cluster/3"];
        let (mut urls, mut names) = (Vec::new(), Vec::new());
        for node in nodes {
            share_cookie(node);
        }
        // A node that was stopped before the others waits for them.
        join_all(nodes.map(|node| run_in(node, &["start", "rabbitmq"]))).await;
        for node in nodes {
            let status = try_run(node, &["status"]).await;
            let words: Vec<_> = status.lines().next().expect("a line").split_whitespace().collect();
            let word_after = |word: &str| words.iter().position(|w| *w == word).map(|index| words[index + 1]);
            names.push(word_after("node").expect("a node").to_owned());
            let address = words.iter().find(|word| word.starts_with("127.0.0.1:")).expect("an address");
            urls.push(format!("amqp://guest:guest@{address}/%2f"));
        }
        for node in &nodes[1..] {
            if !run_in(node, &["ctl", "cluster_status"]).await.contains(&names[0]) {
                run_in(node, &["ctl", "stop_app"]).await;
                run_in(node, &["ctl", "reset"]).await;
                run_in(node, &["ctl", "join_cluster", &names[0]]).await;
                run_in(node, &["ctl", "start_app"]).await;
            }
        }
        Self { nodes, urls }
    }

    /// SIGKILL to one of the nodes, counted from 0.
    pub async fn kill(&self, node: usize) {
        run_in(self.nodes[node], &["kill", "rabbitmq"]).await;
    }

    pub async fn revive(&self, node: usize) {
        run_in(self.nodes[node], &["start", "rabbitmq"]).await;
    }

    pub async fn stop(self) {
        for node in self.nodes {
            run_in(node, &["stop", "rabbitmq"]).await;
        }
    }
}

/// The nodes of a cluster know each other by their cookie.
fn share_cookie(node: &str) {
    use std::os::unix::fs::PermissionsExt;
    let home = root().join(".local").join(node).join("rabbitmq/home");
    std::fs::create_dir_all(&home).expect("a directory");
    let cookie = home.join(".erlang.cookie");
    if !cookie.exists() {
        std::fs::write(&cookie, "provisiond-test-cluster").expect("written");
        std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o400)).expect("made private");
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

async fn run(args: &[&str]) -> String {
    run_in("breakable", args).await
}

/// Runs `script/services` for the instance `.local/<name>`, and gives what it printed.
async fn run_in(name: &str, args: &[&str]) -> String {
    let output = output(name, args).await;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "script/services {args:?} of {name} failed:\n{stdout}{stderr}");
    stdout
}

/// What it printed, whether or not it did what it was asked.
async fn try_run(name: &str, args: &[&str]) -> String {
    String::from_utf8_lossy(&output(name, args).await.stdout).into_owned()
}

async fn output(name: &str, args: &[&str]) -> std::process::Output {
    let (command, rest) = args.split_first().expect("a command");
    tokio::process::Command::new(root().join("script/services"))
        .arg(command)
        .arg("--dir")
        .arg(root().join(".local").join(name))
        .args(rest)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("script/services")
}

/// rabbitmqctl of the broker that the tests share, which has to be the one of `script/services`.
pub fn rabbitmqctl(args: &[&str]) -> String {
    let services = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("script/services");
    let ran = std::process::Command::new(services).arg("ctl").args(args).output().expect("script/services");
    assert!(ran.status.success(), "rabbitmqctl {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// What a policy does to an event queue; gone with the test.
pub struct Policy(String);

impl Policy {
    pub fn set(world: &super::World, queue: &str, definition: &serde_json::Value) -> Self {
        let name = format!("{}-policy", world.broker.prefix);
        let pattern = format!("^{}$", world.broker.name(queue).replace('.', "\\."));
        rabbitmqctl(&["set_policy", &name, &pattern, &definition.to_string(), "--apply-to", "queues"]);
        Self(name)
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        rabbitmqctl(&["clear_policy", &self.0]);
    }
}
