//! The programs that are compared: provisiond, the minimal loop, and the programs in `benches/peers`.

use std::process::Stdio;

use crate::{
    Bench,
    support::{Process, World},
    work::Work,
};

/// The settings of a contender other than provisiond. It gets them in its environment.
pub struct Job {
    pub amqp_url: String,
    pub queues: Vec<String>,
    pub results: String,
    pub target: String,
    pub script: String,
    /// The prefetch of each queue.
    pub concurrency: u16,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

impl Job {
    fn of(bench: &Bench, world: &World, work: &Work) -> Self {
        Self {
            amqp_url: world.amqp_url.clone(),
            queues: work.events.iter().map(|event| world.broker.name(&format!("events.{event}"))).collect(),
            results: world.broker.name("results"),
            target: bench.target.url(work.path),
            script: work.script.map(|script| bench.script(script)).unwrap_or_default(),
            concurrency: work.concurrency,
        }
    }

    pub fn from_environment() -> Self {
        Self {
            amqp_url: variable("AMQP_URL"),
            queues: variable("QUEUES").split(',').map(str::to_owned).collect(),
            results: variable("RESULTS"),
            target: variable("TARGET"),
            script: variable("SCRIPT"),
            concurrency: variable("CONCURRENCY").parse().expect("a number"),
        }
    }

    fn environment(&self) -> [(&'static str, String); 6] {
        [
            ("AMQP_URL", self.amqp_url.clone()),
            ("QUEUES", self.queues.join(",")),
            ("RESULTS", self.results.clone()),
            ("TARGET", self.target.clone()),
            ("SCRIPT", self.script.clone()),
            ("CONCURRENCY", self.concurrency.to_string()),
        ]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Workers without a recorder: results wait in their queue, as those of the other contenders do.
    Worker,
    WorkerAndRecorder,
    Minimal,
    Peer(&'static str),
}

impl Contender {
    pub fn name(self) -> String {
        match self {
            Self::Worker => "provisiond, worker alone".to_owned(),
            Self::WorkerAndRecorder => "provisiond, with recorder".to_owned(),
            Self::Minimal => "minimal loop".to_owned(),
            Self::Peer(name) => name.to_owned(),
        }
    }

    pub fn is_product(self) -> bool {
        matches!(self, Self::Worker | Self::WorkerAndRecorder)
    }

    /// Whether it publishes results. A contender without results is done when its queue is empty.
    pub fn has_results(self) -> bool {
        self != Self::Peer("amqp-consume")
    }

    /// Starts it. Its output goes to a file of the world.
    pub fn spawn(self, bench: &Bench, world: &World, work: &Work) -> Process {
        let mut command = match self {
            Self::Worker | Self::WorkerAndRecorder => return world.spawn(&["--roles", "worker"]),
            Self::Minimal => {
                let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
                command.arg("minimal");
                command
            }
            Self::Peer(name) => {
                let mut command = std::process::Command::new(crate::peers::directory().join("run.sh"));
                command.arg(name).arg(variable("BENCH_PEERS"));
                command
            }
        };
        let log = world.dir.path().join("contender.log");
        let file = std::fs::File::create(&log).expect("a log");
        command
            .envs(Job::of(bench, world, work).environment())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log"))
            .stderr(file);
        Process::new(command.spawn().expect("the program"), log)
    }
}
