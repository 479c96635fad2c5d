//! Measures queue depths and open dead letters, for the metrics.
//!
//! The recorder does it because an installation has one or two recorders but may have a hundred workers, and
//! each process that measures queries the broker and the database. All recorders report the same values.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    broker::{BrokerSettings, QueueWatch},
    domain::{dead_letter::State, event::EventName},
    store::{DeadLetterFilter, Store},
    telemetry::metrics::{dead_letters_open, queue_messages},
};

const POLL_INTERVAL: Duration = Duration::from_secs(15);
/// Dead letters are counted up to this number: counting a million would load the database for little use.
const MAX_COUNTED: usize = 100_000;

/// Updates the metrics until `stop`.
pub(super) async fn keep(store: Store, broker: BrokerSettings, stop: CancellationToken) {
    let queues = QueueWatch::new(broker);
    let mut events: Vec<EventName> = Vec::new();
    let mut tick = interval(POLL_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let updating = async {
        loop {
            tick.tick().await;
            // With Postgres away, use the last known event types.
            if let Ok(types) = store.list_event_types(false).await {
                events = types.into_iter().map(|event| event.name).collect();
            }
            update_queue_depths(&queues, &events).await;
            update_open_dead_letters(&store).await;
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = updating => {} }
}

async fn update_queue_depths(queues: &QueueWatch, events: &[EventName]) {
    match queues.look(events).await {
        Ok(depths) => {
            for queue in &depths.queues {
                queue_messages(&queue.queue, queue.depth.map(|depth| depth.messages));
            }
        }
        Err(error) => {
            debug!(error = format!("{error:#}"), "cannot read the queue depths");
            queues.names(events).iter().for_each(|queue| queue_messages(queue, None));
        }
    }
}

async fn update_open_dead_letters(store: &Store) {
    let open = DeadLetterFilter { state: Some(State::Open), ..DeadLetterFilter::default() };
    let counted = store.dead_letter_summary(&open, Some(MAX_COUNTED)).await;
    dead_letters_open(counted.ok().map(|summary| summary.total));
}
