//! A RabbitMQ and a PostgreSQL that may be broken: a pair of their own, started when first needed.
//!
//! Who uses them is in the module `faults::broken`, whose tests nextest runs one at a time.

use std::{path::PathBuf, process::Stdio};

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
    /// Starts what is not running, and sets back what a test that failed may have left.
    pub async fn breakable() -> Self {
        run(&["start"]).await;
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
}

/// Runs `script/services` for that pair.
async fn run(args: &[&str]) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let (command, rest) = args.split_first().expect("a command");
    let output = tokio::process::Command::new(root.join("script/services"))
        .arg(command)
        .arg("--dir")
        .arg(root.join(".local/breakable"))
        .args(rest)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("script/services");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "script/services {args:?} failed:\n{said}{complaints}");
    said
}
