//! A process of provisiond.

use std::{
    collections::BTreeSet,
    fs::File,
    net::SocketAddr,
    os::unix::fs::FileExt,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// What a process holds of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    pub threads: usize,
    pub descriptors: usize,
}

/// Killed, by its id, when it is dropped before it ended. When its test fails its log is shown.
pub struct Process {
    child: Child,
    pub log: std::path::PathBuf,
    /// Outlives the directory of its test.
    log_file: File,
    /// It takes what the others have done.
    pub records: bool,
}

impl Process {
    pub fn new(child: Child, log: std::path::PathBuf) -> Self {
        let log_file = File::open(&log).expect("a log");
        Self { child, log, log_file, records: false }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().expect("a pid")), signal).expect("a running process");
    }

    /// SIGTERM, and its end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended(Duration::from_secs(90)).await
    }

    /// SIGKILL, and its end.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.ended(Duration::from_secs(10)).await;
    }

    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not end; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Whether it has ended, without taking note of it.
    pub fn has_ended(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // After the name in brackets: Z is a process that is dead and not yet waited for.
        status.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    }

    pub fn log(&self) -> String {
        let length = self.log_file.metadata().expect("a log").len();
        let mut text = vec![0; length.try_into().expect("a log that fits")];
        self.log_file.read_exact_at(&mut text, 0).expect("a log");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Its threads and descriptors, but for connections to `apart`: how many of those are kept open depends on how many
    /// calls ran at a time.
    pub fn vitals(&self, excluded: SocketAddr) -> Vitals {
        let proc = |rest: &str| format!("/proc/{}/{rest}", self.pid());
        let excluded = format!(":{:04X}", excluded.port());
        let connections = std::fs::read_to_string(proc("net/tcp")).expect("a running process");
        // Column 2 is the remote address, column 9 the inode.
        let left_out: BTreeSet<String> = connections
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|columns| columns.get(2).is_some_and(|remote| remote.ends_with(&excluded)))
            .map(|columns| format!("socket:[{}]", columns[9]))
            .collect();
        let descriptors = std::fs::read_dir(proc("fd")).expect("a running process");
        let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let descriptors = targets.filter(|target| !left_out.contains(&*target.to_string_lossy())).count();
        let threads = std::fs::read_dir(proc("task")).expect("a running process").count();
        Vitals { threads, descriptors }
    }

    /// Resident memory that is backed by no file, in KiB.
    pub fn anonymous_kib(&self) -> u64 {
        self.status_kib("RssAnon")
    }

    /// Resident memory in KiB, from which [`Process::peak_kib`] counts anew.
    pub fn begin_peak_kib(&self) -> u64 {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("a running process of ours");
        self.status_kib("VmRSS")
    }

    /// The most that was resident since, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running process");
        let line = status.lines().find(|line| line.starts_with(field)).expect(field);
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let log = self.log();
        if std::thread::panicking() {
            println!("--- {}\n{log}", self.log.display());
        } else {
            assert!(!log.contains("panicked at"), "a process has panicked:\n{log}");
        }
    }
}
