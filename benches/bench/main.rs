//! `script/bench`: compares the cost of provisiond with the cost of its parts, measured in the same run.
//!
//! Every line is measured several times, alternating with what it is compared with, and shows the median and
//! the range of the values. Compare figures of one run only: the machine, its neighbours and the broker
//! differ from run to run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark fails by panicking, and prints"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

// The benchmark needs only a part of the support code of the tests.
#[expect(dead_code, unused_imports)]
#[path = "../../tests/it/support/mod.rs"]
mod support;

mod contender;
mod cpu;
mod drain;
mod load;
mod minimal;
mod peers;
mod sections;
mod spawning;
mod table;
mod target;
mod work;

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use cpu::Used;
use support::Process;
use table::Table;

/// The services and the target of a run, and how often each line is measured.
pub struct Bench {
    pub broker: u32,
    pub postgres: u32,
    pub target: Target,
    pub scripts: PathBuf,
    pub rounds: usize,
    /// The share of the usual number of events. Less than 1 gives a quick look.
    pub scale: f64,
}

impl Bench {
    fn begin() -> Self {
        let services =
            PathBuf::from(std::env::var("BENCH_SERVICES").expect("BENCH_SERVICES: run this by script/bench"));
        let number = |file: &Path| -> u32 {
            let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a process id")
        };
        let data = std::fs::read_dir(services.join("postgres")).expect("services");
        let data = data
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.join("postmaster.pid").exists());
        let setting =
            |name: &str, default: f64| std::env::var(name).map_or(default, |text| text.parse().expect(name));
        Self {
            broker: number(&services.join("rabbitmq/server.pid")),
            postgres: number(&data.expect("a running PostgreSQL").join("postmaster.pid")),
            target: Target::start(),
            scripts: peers::directory().parent().expect("benches").join("scripts"),
            rounds: setting("BENCH_ROUNDS", 3.0) as usize,
            scale: setting("BENCH_SCALE", 1.0),
        }
    }

    /// The CPU time used until now.
    pub fn used(&self, workers: &[Process], recorder: Option<&Process>) -> Used {
        Used {
            worker: workers.iter().map(|worker| cpu::of_tree(worker.pid())).sum(),
            worker_itself: workers.iter().map(|worker| cpu::of_itself(worker.pid())).sum(),
            recorder: recorder.map_or(0.0, |recorder| cpu::of(recorder.pid())),
            broker: cpu::of(self.broker),
            postgres: cpu::of_tree(self.postgres),
            target: cpu::of(self.target.pid()),
        }
    }

    pub fn script(&self, name: &str) -> String {
        self.scripts.join(name).display().to_string()
    }

    pub fn scaled(&self, count: u64) -> u64 {
        ((count as f64 * self.scale) as u64).max(100)
    }
}

/// The process that handlers call. Dropping it kills it.
pub struct Target {
    child: Child,
    address: String,
    http: reqwest::Client,
}

impl Target {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child =
            Command::new(program).arg("target").stdout(Stdio::piped()).spawn().expect("the target");
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut address).expect("an address");
        Self { child, address: address.trim().to_owned(), http: reqwest::Client::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn calls(&self) -> target::Calls {
        self.http.get(self.url("/calls")).send().await.expect("an answer").json().await.expect("calls")
    }

    pub async fn reset(&self) {
        self.http
            .post(self.url("/reset"))
            .send()
            .await
            .expect("an answer")
            .error_for_status()
            .expect("reset");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures the sections in `names`, or all sections.
async fn measure(names: &[String]) {
    let bench = Bench::begin();
    let mut report = String::new();
    for (name, section) in sections::ALL {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("measuring {name} …");
        let table: Table = section(&bench).await;
        let text = table.print();
        println!("{text}");
        report.push_str(&text);
    }
    let unknown = names.iter().find(|name| !sections::ALL.iter().any(|(known, _)| known == name));
    if let Some(name) = unknown {
        let known: Vec<&str> = sections::ALL.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no section {name:?}; there are {}", known.join(", "));
        std::process::exit(2);
    }
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench.md"), report).expect("target/bench.md");
}

fn main() {
    rustls::crypto::ring::default_provider().install_default().expect("the first");
    // cargo adds the argument `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let one_thread =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let threads = || tokio::runtime::Runtime::new().expect("a runtime");
    match arguments.first().map(String::as_str) {
        Some("target") => one_thread().block_on(target::serve()),
        Some("spawning") => threads().block_on(spawning::measure(&arguments[1..])),
        // In a task, so that it runs on a thread that also does the I/O, as in provisiond.
        Some("minimal") => threads().block_on(async {
            tokio::spawn(minimal::run(contender::Job::from_environment())).await.expect("no panic");
        }),
        _ => threads().block_on(measure(&arguments)),
    }
}
