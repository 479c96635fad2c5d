//! What a hostile endpoint costs the other handlers of its event, and those of other events, once its circuit is open:
//! bursts of events, beside bursts whose handler in its place is well. In the long form only (`script/test --faults`),
//! which has the machine to itself: what is compared is how long something takes.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::{Case, over_tcp, over_tls};
use crate::support::{Endpoint, World, hostile::Authority};

/// Events of a burst, of each of two kinds.
const BURST: u64 = 600;
const ROUNDS: usize = 9;
/// By how many percent a neighbour may be slower.
const MAX_SLOWDOWN_PERCENT: f64 = 20.0;

const HOSTILE: &str = "clients.create";
const HARMLESS: &str = "clients.update";
const OTHER: &str = "clients.delete";

/// The handlers that mean well: after the hostile one, after a fine one, and alone on an event.
struct Neighbours {
    hostile: Endpoint,
    harmless: Endpoint,
    other: Endpoint,
    /// Runs before the harmless one's neighbour.
    _fine: Endpoint,
}

/// How long a burst took: for the neighbour on its event, and for the one on another.
type Took = (Duration, Duration);

impl Neighbours {
    async fn of(world: &World, case: &Case) -> Self {
        let first = ["--priority", "1", "--timeout", "500ms", "--initial-interval", "1h"];
        let fine = Endpoint::ok().await;
        world.handler("hostile", HOSTILE, &[&["--http", &case.url], &first[..]].concat());
        world.handler("fine", HARMLESS, &[&["--http", &fine.url("/")], &first[..]].concat());
        let (hostile, harmless, other) = tokio::join!(Endpoint::ok(), Endpoint::ok(), Endpoint::ok());
        let neighbours = Self { hostile, harmless, other, _fine: fine };
        for (event, endpoint) in
            [(HOSTILE, &neighbours.hostile), (HARMLESS, &neighbours.harmless), (OTHER, &neighbours.other)]
        {
            world.handler("neighbour", event, &["--http", &endpoint.url("/"), "--priority", "200"]);
        }
        neighbours
    }

    /// A burst of `event`, whose neighbour is at `endpoint`, and of another event.
    async fn burst(&self, world: &World, event: &str, endpoint: &Endpoint) -> Took {
        let begun = Instant::now();
        let wait_for_burst = async |endpoint: &Endpoint| {
            let goal = endpoint.count() + usize::try_from(BURST).unwrap();
            while endpoint.count() < goal {
                assert!(begun.elapsed() < Duration::from_mins(1), "a neighbour is stopped");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            begun.elapsed()
        };
        let publish = async |event: &str, number| {
            world.publish(event, None, number, &json!({})).await;
        };
        let publish_all = async {
            for number in 0..BURST / 50 {
                let some = number * 50..(number + 1) * 50;
                join_all(some.flat_map(|n| [publish(event, n), publish(OTHER, n)])).await;
            }
        };
        let (mine, other, ()) =
            tokio::join!(wait_for_burst(endpoint), wait_for_burst(&self.other), publish_all);
        (mine, other)
    }
}

/// By how many percent the second is slower than the first, for one part of what was taken.
fn slowdown_percent(harmless: &[Took], hostile: &[Took], part: fn(&Took) -> Duration) -> f64 {
    let median = |took: &[Took]| {
        let mut all: Vec<_> = took.iter().map(part).collect();
        all.sort();
        all[all.len() / 2].as_secs_f64()
    };
    (median(hostile) / median(harmless) - 1.0) * 100.0
}

#[blocking_test]
#[ignore = "minutes long: script/test --faults"]
async fn hostile_endpoints_do_not_slow_their_neighbours_long() {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let authority = Authority::new(&ca_file);
    let (mut cases, _held) = over_tcp().await;
    cases.extend(over_tls(&authority).await);
    println!("{:<26} {:>8} {:>15} {:>15}", "the endpoint", "circuit", "the same event", "another event");
    let mut beyond = Vec::new();
    for case in &cases {
        let mut world = World::new().await;
        world.set("http.ca_file", ca_file.to_str().unwrap());
        world.set("http.connect_timeout", "300ms");
        let neighbours = Neighbours::of(&world, case).await;
        let worker = world.worker().await;
        // The circuit opens in the first, if what it does is a failure that may pass.
        neighbours.burst(&world, HARMLESS, &neighbours.harmless).await;
        neighbours.burst(&world, HOSTILE, &neighbours.hostile).await;
        let is_open = worker.log().contains("circuit open");
        let (mut harmless, mut hostile) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            harmless.push(neighbours.burst(&world, HARMLESS, &neighbours.harmless).await);
            hostile.push(neighbours.burst(&world, HOSTILE, &neighbours.hostile).await);
        }
        let same = slowdown_percent(&harmless, &hostile, |took| took.0);
        let other = slowdown_percent(&harmless, &hostile, |took| took.1);
        let circuit = if is_open { "open" } else { "closed" };
        println!("{:<26} {circuit:>8} {same:>13.0} % {other:>13.0} %", case.does);
        if is_open && same.max(other) > MAX_SLOWDOWN_PERCENT {
            beyond.push((case.does, same, other));
        }
        drop(worker);
        world.abandon().await;
    }
    assert!(beyond.is_empty(), "slower by more than {MAX_SLOWDOWN_PERCENT} %: {beyond:?}");
}
