//! The rig of a fault test: workers and a recorder behind links that can be broken, under load.

mod ending;

use std::time::{Duration, SystemTime};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    Form,
    load::Load,
    receivers::{EVENT, Receivers},
};
use crate::support::{Cluster, Process, Proxy, Services, Vitals, World, address, eventually};

/// Deliveries that a worker holds at a time, in these tests.
pub const PREFETCH: usize = 32;
pub const HANDLERS: usize = 4;
/// Events a second: with four handlers on each, two cores are busy.
pub const RATE: u32 = 150;
/// Everything that can be under way in a worker.
pub const MAX_IN_FLIGHT: usize = PREFETCH * HANDLERS;
/// What a worker that loses its connections may repeat. It knows what it runs, and waits for the record of that; only
/// copies that were sent and not confirmed are sent again.
pub const MAX_REPEATED_BY_CUT: usize = PREFETCH;
/// In these tests; the default is longer, and would only be waited for.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
const MAX_RECOVERY: Duration = Duration::from_secs(15);

/// How a fault is set up.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub workers: usize,
    /// Events a second.
    pub rate: u32,
    /// How often the platform publishes each event.
    pub times: usize,
    /// How often the address of the broker is written into `amqp.url`.
    pub urls: usize,
    /// Before a first retry.
    pub interval: &'a str,
    pub settings: &'a [(&'a str, &'a str)],
    pub services: Option<&'a Services>,
    pub cluster: Option<&'a Cluster>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            workers: 1,
            rate: RATE,
            times: 1,
            urls: 1,
            interval: "1s",
            settings: &[],
            services: None,
            cluster: None,
        }
    }
}

/// What leads from the processes to their services.
pub struct Links {
    pub worker: Proxy,
    pub recorder: Proxy,
    pub postgres: Proxy,
}

pub struct FaultRig {
    pub world: World,
    pub form: Form,
    pub rng: StdRng,
    pub links: Links,
    pub receivers: Receivers,
    pub workers: Vec<Process>,
    pub recorder: Process,
    pub load: Load,
    /// What was published before this number may have been in a queue that was deleted.
    pub may_be_lost_before: u64,
    /// A recovery may take so long.
    pub max_recovery: Duration,
    name: &'static str,
    /// The nodes, as the processes are told; the first is behind the link.
    brokers: Vec<String>,
    injections: usize,
    /// The first event that was published after the last injection.
    recovery_start: u64,
    recoveries: Vec<Duration>,
    /// Of the workers and the recorder, before the fault.
    before: Vec<Vitals>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Worker,
    Recorder,
}

impl FaultRig {
    pub async fn begin(name: &'static str, form: Form) -> Self {
        Self::with(name, form, Setup::default()).await
    }

    pub async fn with(name: &'static str, form: Form, setup: Setup<'_>) -> Self {
        let world = match (setup.services, setup.cluster) {
            (Some(services), _) => World::on(&services.amqp_url, Some(&services.database_url)).await,
            // What the test itself asks, it asks the node that is never killed.
            (_, Some(cluster)) => World::on(&cluster.urls[2], None).await,
            _ => World::new().await,
        };
        Self::in_world(world, name, form, setup).await
    }

    /// In a world with its tables made.
    pub async fn in_world(mut world: World, name: &'static str, form: Form, setup: Setup<'_>) -> Self {
        let seed = std::env::var("PROVISIOND_TEST_SEED")
            .ok()
            .map_or_else(rand::random, |seed| seed.parse().expect("PROVISIOND_TEST_SEED is a number"));
        println!("{name}: PROVISIOND_TEST_SEED={seed}");
        let several = setup.cluster.map(|cluster| cluster.urls.clone());
        let brokers = several.unwrap_or_else(|| vec![world.amqp_url.clone(); setup.urls]);
        let heartbeat = format!("{}s", HEARTBEAT.as_secs());
        for (key, value) in [
            ("worker.concurrency", PREFETCH.to_string().as_str()),
            ("amqp.heartbeat", &heartbeat),
            ("amqp.connect_timeout", "2s"),
        ] {
            world.set(key, value);
        }
        setup.settings.iter().for_each(|(key, value)| world.set(key, value));
        let receivers = Receivers::start(&world, setup.interval).await;
        let mut links = Links::of(&world, &brokers[0]);
        links.open();
        let workers = (0..setup.workers).map(|_| spawn(&mut world, &links, &brokers, Role::Worker)).collect();
        let recorder = spawn(&mut world, &links, &brokers, Role::Recorder);
        wait_for_consumers(&world, setup.workers).await;
        let load = Load::start(&world, setup.rate, form.events(), setup.times);
        let mut rig = Self {
            rng: StdRng::seed_from_u64(seed),
            world,
            form,
            links,
            receivers,
            workers,
            recorder,
            load,
            may_be_lost_before: 0,
            max_recovery: MAX_RECOVERY,
            name,
            brokers,
            injections: 0,
            recovery_start: 0,
            recoveries: Vec::new(),
            before: Vec::new(),
        };
        rig.load.wait_for(100).await;
        rig.before = rig.vitals();
        rig
    }

    fn vitals(&self) -> Vec<Vitals> {
        let endpoint = self.receivers.endpoint.address;
        self.workers.iter().chain([&self.recorder]).map(|process| process.vitals(endpoint)).collect()
    }

    /// Lets the load run on to a moment that is different every time. The injection follows.
    pub async fn random_moment(&mut self) {
        let more = self.rng.random_range(20..120);
        self.load.wait_for(more).await;
        self.record_injection();
    }

    /// An injection at a moment that the fault itself chose.
    pub fn record_injection(&mut self) {
        self.injections += 1;
        self.reset_recovery_start();
    }

    /// What is published from now on shows the recovery.
    pub fn reset_recovery_start(&mut self) {
        self.recovery_start = self.load.next();
    }

    pub async fn kill_worker(&mut self, number: usize) {
        self.workers[number].kill().await;
    }

    /// A fresh process in the place of one that has ended.
    pub fn start_worker(&mut self, number: usize) {
        self.workers[number] = spawn(&mut self.world, &self.links, &self.brokers, Role::Worker);
    }

    pub fn start_recorder(&mut self) {
        self.recorder = spawn(&mut self.world, &self.links, &self.brokers, Role::Recorder);
    }

    /// Called at the moment when everything is there again: waits until an event that was published after the fault has
    /// been run after this moment, and a row of such an event is written. (Not the same row: after an hour without
    /// Postgres the results of that hour come first.)
    pub async fn recovered(&mut self) {
        let restored = SystemTime::now();
        let sql = "SELECT min(started_at + duration_ms * interval '1 ms') FILTER (WHERE started_at > $1), \
                   min(recorded_at) FROM executions WHERE recorded_at > $1 \
                   AND CASE WHEN event_id ~ '^e[0-9]+$' THEN substr(event_id, 2)::bigint >= $2 END";
        let recovery_start = i64::try_from(self.recovery_start).expect("a number");
        let deadline = Instant::now() + Duration::from_mins(2);
        let (ran, wrote): (SystemTime, SystemTime) = loop {
            let row = &self.world.rows(sql, &[&restored, &recovery_start]).await[0];
            if let (Some(ran), Some(wrote)) = (row.get(0), row.get(1)) {
                break (ran, wrote);
            }
            assert!(Instant::now() < deadline, "{}: no recovery; the logs:\n{}", self.name, self.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let took = ran.max(wrote).duration_since(restored).unwrap_or_default();
        println!("{}: injection {}, recovered in {took:.1?}", self.name, self.injections);
        self.recoveries.push(took);
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let end = |process: &Process| {
            let log = process.log();
            let is_relevant = |line: &&str| !line.contains("worker::attempt") && !line.contains("gave up: ");
            let lines: Vec<_> = log.lines().filter(is_relevant).collect();
            let last = log.lines().last().unwrap_or_default();
            let lines = lines[lines.len().saturating_sub(60)..].join("\n");
            format!("--- {}\n{lines}\nthe last line: {last}\n", process.log.display())
        };
        self.workers.iter().chain([&self.recorder]).map(end).collect()
    }

    /// A worker is asked to stop, does, and is replaced.
    pub async fn replace_worker(&mut self, number: usize) {
        let status = self.workers[number].terminate().await;
        assert!(status.success(), "ended with {status}; its log:\n{}", self.workers[number].log());
        self.start_worker(number);
    }

    /// Waits until the log of `process` says `what` the `times`th time.
    pub async fn wait_for_log(&self, process: &Process, text: &str, times: usize) {
        eventually(&format!("{text:?} in {}", process.log.display()), || async {
            process.log().matches(text).count() >= times
        })
        .await;
    }
}

/// Waits until every worker and the recorder consume.
async fn wait_for_consumers(world: &World, workers: usize) {
    let queues =
        [(format!("events.{EVENT}"), workers), ("execution-log".into(), 1), ("dead-letters".into(), 1)];
    for (queue, consumers) in queues {
        eventually(&format!("{consumers} consumers of {queue}"), || async {
            world.broker.depth(&queue).await.is_some_and(|(_, count)| count as usize == consumers)
        })
        .await;
    }
}

fn spawn(world: &mut World, links: &Links, brokers: &[String], role: Role) -> Process {
    let (role, link) = match role {
        Role::Worker => ("worker", &links.worker),
        Role::Recorder => ("recorder", &links.recorder),
    };
    let (amqp_url, database_url) = (world.amqp_url.clone(), world.database_url.clone());
    // Only the first node has the address that is replaced.
    world.set("amqp.url", &link.redirect(&brokers.join(",")));
    world.set("database.url", &links.postgres.redirect(&database_url));
    let process = world.spawn(&["--roles", role]);
    // What the test itself asks goes straight there.
    world.set("amqp.url", &amqp_url);
    world.set("database.url", &database_url);
    process
}

impl Links {
    fn of(world: &World, broker: &str) -> Self {
        let broker = address(broker);
        let postgres = Proxy::closed(address(&world.database_url));
        Self { worker: Proxy::amqp(broker), recorder: Proxy::amqp(broker), postgres }
    }

    fn open(&mut self) {
        self.worker.open();
        self.recorder.open();
        self.postgres.open();
    }
}
