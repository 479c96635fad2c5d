//! Detects a stuck consumer: it is full, and nothing in it has ended for longer than an attempt may take.
//!
//! That would be a bug, and without the watchdog nobody would notice before events pile up. The watchdog
//! requeues the deliveries and restarts the consumer. If the new consumer gets stuck before it has
//! acknowledged anything, `/healthz` fails, so that a supervisor can restart the process.
//!
//! Two other faults are handled elsewhere: a broker that sends no deliveries (`broker/consumer.rs` restarts
//! an idle consumer), and a broker that does not answer (`broker/probe.rs`).

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::{
    Worker,
    queue_state::{Progress, QueueState},
};
use crate::{broker::Link, domain::event::EventName, telemetry::metrics::consumer_rebuilt};

const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Time in addition to the longest attempt, for the confirm of its result. A publisher without confirms
/// reconnects after a minute (`broker/publisher.rs`), and must have had that chance.
const GRACE: Duration = Duration::from_secs(90);

/// The state that the watchdogs of all event queues share.
pub(super) struct Watched {
    kill_grace: Duration,
    /// When an attempt of any event last ended.
    last_attempt: Mutex<Instant>,
    /// Event types whose consumers are stuck although they were restarted.
    wedged: Mutex<BTreeSet<EventName>>,
}

impl Watched {
    /// `kill_grace`: how long a script may run beyond its timeout.
    pub(super) fn new(kill_grace: Duration) -> Self {
        Self { kill_grace, last_attempt: Mutex::new(Instant::now()), wedged: Mutex::default() }
    }

    pub(super) fn note_attempt(&self) {
        *self.last_attempt.lock() = Instant::now();
    }

    /// The event types whose consumers are stuck although they were restarted.
    pub(super) fn wedged(&self) -> Vec<String> {
        self.wedged.lock().iter().map(ToString::to_string).collect()
    }

    /// Records whether the consumer of `event` stays stuck after a restart; true if that has changed.
    fn note_wedged(&self, event: &EventName, is_wedged: bool) -> bool {
        let mut wedged = self.wedged.lock();
        if is_wedged { wedged.insert(event.clone()) } else { wedged.remove(event) }
    }
}

/// Watches one event queue. Never returns.
pub(super) async fn watch(worker: &Worker, lane: &QueueState) {
    let mut look = interval(POLL_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The number of acknowledgements when the consumer was last restarted.
    let mut rebuilt: Option<u64> = None;
    loop {
        look.tick().await;
        if !worker.links.iter().all(Link::takes_messages) {
            // While a connection is down or blocked, no delivery can end: do not count this time.
            lane.record_progress();
            continue;
        }
        let pace = lane.progress();
        if rebuilt.is_some_and(|before| pace.acknowledged > before) {
            rebuilt = None;
            if worker.watched.note_wedged(&lane.event, false) {
                info!(event = %lane.event, "consumer makes progress again");
            }
        }
        let longest = worker.registry.snapshot().longest_timeout() + worker.watched.kill_grace + GRACE;
        if !is_stuck(pace, *worker.watched.last_attempt.lock(), longest, Instant::now()) {
            continue;
        }
        if rebuilt.is_some() && worker.watched.note_wedged(&lane.event, true) {
            error!(event = %lane.event, "consumer is stuck again after its restart: restart this process (/healthz fails)");
        }
        warn!(event = %lane.event, held = pace.held, nothing_ended_for = ?longest, "consumer stuck: requeueing its deliveries and restarting it");
        consumer_rebuilt(&lane.event);
        rebuilt = Some(pace.acknowledged);
        lane.rebuild();
    }
}

/// Whether an event queue with this progress is stuck.
///
/// A delivery that waits for a slot or for admission depends on deliveries of other queues. While there is
/// one, an attempt of any event type counts as progress.
fn is_stuck(pace: Progress, elsewhere: Instant, longest: Duration, now: Instant) -> bool {
    let moved = if pace.has_waiting { pace.moved.max(elsewhere) } else { pace.moved };
    pace.is_full && now.saturating_duration_since(moved) > longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_stuck_if_it_is_full_and_nothing_ends() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let pace = |is_full, has_waiting, moved| Progress {
            held: 1,
            is_full,
            has_waiting,
            moved: at(moved),
            acknowledged: 0,
        };
        for (what, pace, elsewhere, expected) in [
            ("idle", pace(false, false, 0), 0, false),
            ("full and still", pace(true, false, 0), 0, true),
            ("full, and something ended", pace(true, false, 950), 0, false),
            ("full, and others move", pace(true, false, 0), 990, true),
            ("waiting for others, who move", pace(true, true, 0), 990, false),
            ("waiting for others, who do not", pace(true, true, 0), 10, true),
        ] {
            let stuck = is_stuck(pace, at(elsewhere), Duration::from_secs(100), at(1000));
            assert_eq!(stuck, expected, "{what}");
        }
    }
}
