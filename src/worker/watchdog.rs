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
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::{
    queue_state::{Progress, QueueState},
    registry::Registry,
};
use crate::{broker::Link, domain::event::EventName, telemetry::metrics::consumer_rebuilt};

const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Time in addition to the longest attempt, for the confirm of its result. A publisher without confirms
/// reconnects after a minute (`broker/publisher.rs`), and must have had that chance.
const GRACE: Duration = Duration::from_secs(90);

/// Watches the event queues of a worker.
pub(super) struct Watchdog {
    /// While one of them is down or blocked, no delivery can end.
    links: [Link; 2],
    registry: Arc<Registry>,
    kill_grace: Duration,
    /// When an attempt of any event last ended.
    last_attempt: Mutex<Instant>,
    /// Event types whose consumers are stuck although they were restarted.
    wedged: Mutex<BTreeSet<EventName>>,
}

impl Watchdog {
    /// `kill_grace`: how long a script may run beyond its timeout.
    pub(super) fn new(links: [Link; 2], registry: Arc<Registry>, kill_grace: Duration) -> Self {
        Self {
            links,
            registry,
            kill_grace,
            last_attempt: Mutex::new(Instant::now()),
            wedged: Mutex::default(),
        }
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

    /// Watches one event queue. Never returns.
    pub(super) async fn watch(&self, queue: &QueueState) {
        let mut poll = interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The number of acknowledgements when the consumer was last restarted.
        let mut acknowledged_at_restart: Option<u64> = None;
        loop {
            poll.tick().await;
            if !self.links.iter().all(Link::takes_messages) {
                // Do not count this time.
                queue.record_progress();
                continue;
            }
            let progress = queue.progress();
            if acknowledged_at_restart.is_some_and(|before| progress.acknowledged > before) {
                acknowledged_at_restart = None;
                if self.note_wedged(&queue.event, false) {
                    info!(event = %queue.event, "consumer makes progress again");
                }
            }
            let longest = self.registry.snapshot().longest_timeout() + self.kill_grace + GRACE;
            if !is_stuck(progress, *self.last_attempt.lock(), longest, Instant::now()) {
                continue;
            }
            if acknowledged_at_restart.is_some() && self.note_wedged(&queue.event, true) {
                error!(event = %queue.event, "consumer is stuck again after its restart: restart this process (/healthz fails)");
            }
            warn!(event = %queue.event, held = progress.held, nothing_ended_for = ?longest, "consumer stuck: requeueing its deliveries and restarting it");
            consumer_rebuilt(&queue.event);
            acknowledged_at_restart = Some(progress.acknowledged);
            queue.rebuild();
        }
    }
}

/// Whether an event queue with this progress is stuck.
///
/// A delivery that waits for a slot or for admission depends on deliveries of other queues. While there is
/// one, an attempt of any event type counts as progress.
fn is_stuck(progress: Progress, last_attempt: Instant, longest: Duration, now: Instant) -> bool {
    let last_ended =
        if progress.has_waiting { progress.last_ended.max(last_attempt) } else { progress.last_ended };
    progress.is_full && now.saturating_duration_since(last_ended) > longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_stuck_if_it_is_full_and_nothing_ends() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let progress = |is_full, has_waiting, last_ended| Progress {
            held: 1,
            is_full,
            has_waiting,
            last_ended: after(last_ended),
            acknowledged: 0,
        };
        for (case, progress, last_attempt, expected) in [
            ("idle", progress(false, false, 0), 0, false),
            ("full and still", progress(true, false, 0), 0, true),
            ("full, and something ended", progress(true, false, 950), 0, false),
            ("full, and others move", progress(true, false, 0), 990, true),
            ("waiting for others, who move", progress(true, true, 0), 990, false),
            ("waiting for others, who do not", progress(true, true, 0), 10, true),
        ] {
            let stuck = is_stuck(progress, after(last_attempt), Duration::from_secs(100), after(1000));
            assert_eq!(stuck, expected, "{case}");
        }
    }
}
