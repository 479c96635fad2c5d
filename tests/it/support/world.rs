//! One test's world.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::File,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Broker, Process, eventually};

/// The queues that a recorder empties.
const SHARED_QUEUES: [&str; 3] = ["execution-log", "dead-letters", "unrouted"];

/// A prefix on the broker and a database; everything is removed at the end.
pub struct World {
    pub broker: Broker,
    pub dir: TempDir,
    /// Where databases are made and dropped.
    pub admin_url: String,
    pub database_url: String,
    pub amqp_url: String,
    env: BTreeMap<String, String>,
    /// Who runs what is started from now on, if not the user of the tests.
    pub uid: Option<u32>,
    processes: Vec<Process>,
    /// Programs that are not provisiond; killed at the end.
    others: Vec<Process>,
    logs: AtomicU32,
    ended: bool,
}

/// Runs one statement on the database at `url`.
pub async fn query(
    url: &str,
    sql: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Vec<tokio_postgres::Row> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("postgres");
    let driving = tokio::spawn(connection);
    let rows = client.query(sql, parameters).await.expect("the query");
    drop(client);
    let _ = driving.await;
    rows
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

impl World {
    /// A world with its tables made, and nothing running.
    pub async fn new() -> Self {
        let world = Self::without_database().await;
        world.create_database().await;
        world.run(&["migrate"]).assert_done();
        world
    }

    /// A world on another broker than the usual one, and perhaps on another Postgres.
    pub async fn on(amqp_url: &str, admin_url: Option<&str>) -> Self {
        let usual = || variable("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres");
        let admin_url = admin_url.map_or_else(usual, str::to_owned);
        let world = Self::empty(amqp_url, &admin_url).await;
        world.create_database().await;
        world.run(&["migrate"]).assert_done();
        world
    }

    /// A world whose database does not exist yet.
    pub async fn without_database() -> Self {
        let amqp_url = variable("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f");
        let admin_url = variable("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres");
        Self::empty(&amqp_url, &admin_url).await
    }

    /// A world on these services, whose database does not exist yet.
    pub async fn empty(amqp_url: &str, admin_url: &str) -> Self {
        let (amqp_url, admin_url) = (amqp_url.to_owned(), admin_url.to_owned());
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let prefix = format!("test-{}", &unique[..12]);
        let (server, _) = admin_url.rsplit_once('/').expect("a url with a database");
        let database_url = format!("{server}/{}", prefix.replace('-', "_"));
        let broker = Broker::connect(&amqp_url, &prefix).await;
        let dir = tempfile::tempdir().expect("a directory");
        let env = BTreeMap::from([
            ("PROVISIOND_AMQP__URL".to_owned(), amqp_url.clone()),
            ("PROVISIOND_AMQP__PREFIX".to_owned(), prefix.clone()),
            ("PROVISIOND_DATABASE__URL".to_owned(), database_url.clone()),
            ("PROVISIOND_DATABASE__POOL_SIZE".to_owned(), "4".to_owned()),
            ("PROVISIOND_SCRIPT__ROOTS".to_owned(), dir.path().display().to_string()),
            ("PROVISIOND_RECORDER__BATCH_DELAY".to_owned(), "20ms".to_owned()),
            ("PROVISIOND_CONSOLE__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("PROVISIOND_TELEMETRY__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
        ]);
        let (processes, others, logs) = (Vec::new(), Vec::new(), AtomicU32::new(0));
        Self {
            broker,
            dir,
            admin_url,
            database_url,
            amqp_url,
            env,
            uid: None,
            processes,
            others,
            logs,
            ended: false,
        }
    }

    pub fn database(&self) -> &str {
        self.database_url.rsplit_once('/').expect("a database").1
    }

    pub async fn create_database(&self) {
        self.admin(&format!("CREATE DATABASE {}", self.database())).await;
    }

    pub async fn admin(&self, sql: &str) {
        query(&self.admin_url, sql, &[]).await;
    }

    /// One row's first column, from the database itself.
    pub async fn count(&self, sql: &str) -> i64 {
        self.rows(sql, &[]).await[0].get(0)
    }

    /// Rows, from the database itself.
    pub async fn rows(
        &self,
        sql: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Vec<tokio_postgres::Row> {
        query(&self.database_url, sql, parameters).await
    }

    /// The test's own connection again, after the broker was down.
    pub async fn reconnect(&mut self) {
        self.broker = Broker::connect(&self.amqp_url, &self.broker.prefix).await;
    }

    /// Sets a configuration value for what is started from now on.
    pub fn set(&mut self, key: &str, value: &str) {
        let name = key.to_uppercase().replace('.', "__");
        self.env.insert(format!("PROVISIOND_{name}"), value.to_owned());
    }

    /// What was set, by the name of its variable.
    pub fn variable(&self, name: &str) -> String {
        self.env.get(name).cloned().unwrap_or_default()
    }

    /// Sets a variable that is no key of the configuration, as [`World::set`] does.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// The program; for another user a copy of it in the directory of the test, since a clone below /root is root's alone.
    fn program(&self) -> PathBuf {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_provisiond"));
        if self.uid.is_none() {
            return built;
        }
        let copy = self.dir.path().join("provisiond");
        if !copy.exists() {
            std::fs::copy(&built, &copy).expect("a copy of the program");
        }
        copy
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        command
            .current_dir(self.dir.path())
            .env_remove("AMQP_URL")
            .env_remove("DATABASE_URL")
            .envs(&self.env);
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        let output = self.command().args(args).stdin(Stdio::null()).output().expect("the program");
        Ran { args: args.join(" "), output }
    }

    /// Runs a command with `--output json`, and gives what it printed.
    pub fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["--output", "json"]].concat());
        ran.assert_done();
        serde_json::from_slice(&ran.output.stdout)
            .unwrap_or_else(|e| panic!("{} printed no JSON: {e}", ran.args))
    }

    /// Starts `serve` without waiting for it.
    pub fn spawn(&self, args: &[&str]) -> Process {
        self.spawn_with_stderr(args, None)
    }

    /// Starts `serve`, which has standard error from elsewhere if it is given.
    pub fn spawn_with_stderr(&self, args: &[&str], stderr: Option<Stdio>) -> Process {
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        let path: PathBuf = self.dir.path().join(format!("serve-{number}.log"));
        let log = File::create(&path).expect("a log");
        let child = self
            .command()
            .arg("serve")
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(stderr.unwrap_or_else(|| log.into()))
            .spawn()
            .expect("the program");
        Process::new(child, path)
    }

    /// Starts a worker and waits until it consumes.
    pub async fn worker(&self) -> Process {
        self.consuming(self.spawn(&["--roles", "worker"]), "events.clients.create").await
    }

    pub async fn recorder(&self) -> Process {
        let mut recorder = self.spawn(&["--roles", "recorder"]);
        recorder.records = true;
        self.consuming(recorder, "execution-log").await
    }

    /// Starts a worker and a recorder that run until the end of the test.
    pub async fn serve(&mut self) {
        let (worker, recorder) = (self.worker().await, self.recorder().await);
        self.keep(worker);
        self.keep(recorder);
    }

    /// Leaves a process to the end of the test.
    pub fn keep(&mut self, process: Process) {
        self.processes.push(process);
    }

    /// Leaves a program that is not provisiond to the end of the test.
    pub fn keep_other(&mut self, process: Process) {
        self.others.push(process);
    }

    async fn consuming(&self, process: Process, queue: &str) -> Process {
        // More than there were: counted from when this process has not had the time to connect. The broker may still count
        // one that has just gone, so the least that was seen is what there was.
        let min_consumers = Cell::new(u32::MAX);
        eventually(&format!("a consumer of {queue}; the log:\n{}", process.log()), || async {
            let consumers = self.broker.depth(queue).await.map_or(0, |(_, consumers)| consumers);
            min_consumers.set(min_consumers.get().min(consumers));
            consumers > min_consumers.get()
        })
        .await;
        process
    }

    /// Waits until one process consumes a queue.
    pub async fn wait_for_consumer(&self, queue: &str) {
        eventually(&format!("a consumer of {queue}"), || async {
            self.broker.depth(queue).await.is_some_and(|(_, consumers)| consumers == 1)
        })
        .await;
    }

    /// Publishes an event in the platform's envelope.
    pub async fn publish(&self, event: &str, message_id: Option<&str>, object_id: u64, data: &Value) {
        let body = super::envelope(event, object_id, data);
        self.broker.publish(event, message_id, body.as_bytes()).await;
    }

    /// Creates a handler and gives its id.
    pub fn handler(&self, name: &str, event: &str, args: &[&str]) -> i64 {
        let create = ["handlers", "create", "--name", name, "--event", event];
        self.json(&[&create, args].concat())["id"].as_i64().expect("an id")
    }

    /// The executions as the command line lists them.
    pub fn executions(&self, args: &[&str]) -> Vec<Value> {
        let list = ["executions", "list", "--limit", "10000"];
        self.json(&[&list, args].concat()).as_array().expect("an array").clone()
    }

    pub async fn wait_for_executions(&self, count: usize, args: &[&str]) -> Vec<Value> {
        eventually(&format!("{count} executions {args:?}"), || async {
            self.executions(args).len() >= count
        })
        .await;
        let found = self.executions(args);
        assert_eq!(found.len(), count, "executions {args:?}: {found:#?}");
        found
    }

    pub fn dead_letters(&self) -> Vec<Value> {
        self.json(&["dead-letters", "list", "--limit", "10000"]).as_array().expect("an array").clone()
    }

    pub async fn wait_for_dead_letters(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} dead letters"), || async { self.dead_letters().len() >= count }).await;
        let found = self.dead_letters();
        assert_eq!(found.len(), count, "dead letters: {found:#?}");
        found
    }

    /// Writes an executable script into the script root.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("made executable");
        path
    }

    /// Ends the test: every process ends well, and nothing is left in a queue. Who records ends when all is recorded.
    pub async fn end(mut self) {
        let processes = std::mem::take(&mut self.processes);
        let (recorders, others): (Vec<_>, Vec<_>) = processes.into_iter().partition(|p| p.records);
        end_well(others).await;
        if !recorders.is_empty() {
            let remaining = || async { self.left_in(SHARED_QUEUES.map(str::to_owned)).await };
            eventually("all is recorded", || async { remaining().await.is_empty() }).await;
        }
        end_well(recorders).await;
        let remaining = self.left_in_queues().await;
        assert!(remaining.is_empty(), "messages are left in {remaining:?}");
        let events = self.event_names();
        self.remove(&events).await;
        self.ended = true;
    }

    /// The queues that hold messages, and how many.
    pub async fn left_in_queues(&self) -> Vec<(String, u32)> {
        let queues = self.event_names().into_iter().map(|event| format!("events.{event}"));
        let shared = SHARED_QUEUES.map(str::to_owned);
        self.left_in(queues.chain(shared).chain((0..20).map(|n| format!("delay.v1.level-{n}")))).await
    }

    async fn left_in(&self, queues: impl IntoIterator<Item = String>) -> Vec<(String, u32)> {
        let mut remaining = Vec::new();
        for queue in queues {
            match self.broker.depth(&queue).await {
                Some((0, _)) | None => {}
                Some((messages, _)) => remaining.push((queue, messages)),
            }
        }
        remaining
    }

    /// Ends a test that leaves messages on purpose.
    pub async fn abandon(mut self) {
        self.processes.clear();
        let events = self.event_names();
        self.remove(&events).await;
        self.ended = true;
    }

    fn event_names(&self) -> Vec<String> {
        let listed = self.json(&["events", "list"]);
        listed
            .as_array()
            .expect("an array")
            .iter()
            .map(|t| t["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    async fn remove(&self, events: &[String]) {
        self.broker.remove_topology(events).await;
        self.admin(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database())).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A failed test leaves its database and queues to be looked at; its processes end here.
        assert!(self.ended || std::thread::panicking(), "a test ends its world with end() or abandon()");
    }
}

async fn end_well(processes: Vec<Process>) {
    for mut process in processes {
        let status = process.terminate().await;
        assert!(status.success(), "ended with {status}; its log:\n{}", process.log());
    }
}

/// What a command did.
pub struct Ran {
    args: String,
    pub output: Output,
}

impl Ran {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    pub fn assert_done(&self) -> &Self {
        assert!(self.output.status.success(), "provisiond {} failed:\n{}", self.args, self.stderr());
        self
    }

    /// It failed with this exit code, and said so.
    pub fn assert_failed(&self, code: i32, message: &str) -> &Self {
        assert_eq!(self.output.status.code(), Some(code), "provisiond {}: {}", self.args, self.stderr());
        assert!(
            self.stderr().contains(message),
            "provisiond {} should say {message:?}:\n{}",
            self.args,
            self.stderr()
        );
        self
    }
}
