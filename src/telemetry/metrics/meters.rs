//! The counters, gauges and histograms that the roles update. Others are computed when they are read (`gauges.rs`).

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::describe::{
    ATTEMPT_DURATION, BATCH_DURATION, BATCH_ROWS, CONNECTIONS_LOST, CONSOLE_DURATION, CONSOLE_REQUESTS,
    DEAD_LETTERS, DELIVERIES, EVENT_WAIT, IDS_REUSED, IN_FLIGHT, PUBLISHED, QUEUE_MESSAGES, REBUILT, REFUSED,
    RETRIES, ROWS, SETTLED, SKIPS, WRITES_FAILED,
};
use crate::domain::{
    dead_letter::Reason,
    event::EventName,
    execution::Disposition,
    task::{ByTaskType, TaskType},
};

/// Which kind of delivery it is.
#[derive(Clone, Copy)]
pub enum DeliveryKind {
    /// An event that the platform published.
    First,
    /// A retry, a replay, or the rest of a plan.
    Copy,
    /// It was delivered before, and not acknowledged.
    Redelivered,
}

/// Metrics of one event type.
pub struct EventMeters {
    kinds: [Counter; 3],
    acknowledged: Counter,
    returned: Counter,
    in_flight: Gauge,
    wait: Histogram,
    durations: ByTaskType<Histogram>,
    retries: Counter,
}

impl EventMeters {
    pub fn new(event: &EventName) -> Self {
        let kind = |kind: &'static str| counter!(DELIVERIES, "event" => event.to_string(), "kind" => kind);
        let settled = |settlement: &'static str| counter!(SETTLED, "event" => event.to_string(), "settlement" => settlement);
        let duration = |task: TaskType| histogram!(ATTEMPT_DURATION, "event" => event.to_string(), "task" => task.as_str());
        Self {
            kinds: [kind("first"), kind("copy"), kind("redelivered")],
            acknowledged: settled("acknowledged"),
            returned: settled("returned"),
            in_flight: gauge!(IN_FLIGHT, "event" => event.to_string()),
            wait: histogram!(EVENT_WAIT, "event" => event.to_string()),
            durations: ByTaskType::new(duration),
            retries: counter!(RETRIES, "event" => event.to_string()),
        }
    }

    pub fn delivered(&self, kind: DeliveryKind) {
        let [first, copy, redelivered] = &self.kinds;
        match kind {
            DeliveryKind::First => first.increment(1),
            DeliveryKind::Copy => copy.increment(1),
            DeliveryKind::Redelivered => redelivered.increment(1),
        }
    }

    /// Records the time from an event to its first delivery.
    pub fn waited(&self, wait: Duration) {
        self.wait.record(wait);
    }

    pub fn held(&self) {
        self.in_flight.increment(1);
    }

    pub fn released(&self) {
        self.in_flight.decrement(1);
    }

    pub fn acknowledged(&self) {
        self.acknowledged.increment(1);
    }

    pub fn returned(&self) {
        self.returned.increment(1);
    }

    pub fn retried(&self) {
        self.retries.increment(1);
    }

    pub fn attempted(&self, task: TaskType, duration: Duration) {
        self.durations.get(task).record(duration);
    }
}

/// Metrics of one publisher.
pub struct PublishMeters {
    published: Counter,
    refused: Counter,
}

impl PublishMeters {
    pub fn new(purpose: &'static str) -> Self {
        Self {
            published: counter!(PUBLISHED, "purpose" => purpose),
            refused: counter!(REFUSED, "purpose" => purpose),
        }
    }

    pub fn confirmed(&self) {
        self.published.increment(1);
    }

    pub fn refused(&self) {
        self.refused.increment(1);
    }
}

/// Metrics of a recorder.
pub struct BatchMeters {
    executions: Counter,
    dead_letters: Counter,
    rows: Histogram,
    duration: Histogram,
}

impl Default for BatchMeters {
    fn default() -> Self {
        Self {
            executions: counter!(ROWS, "table" => "executions"),
            dead_letters: counter!(ROWS, "table" => "dead_letters"),
            rows: histogram!(BATCH_ROWS),
            duration: histogram!(BATCH_DURATION),
        }
    }
}

impl BatchMeters {
    /// Counts a batch of `rows` executions, of which `new` were not stored before.
    pub fn executions(&self, rows: usize, new: u64) {
        self.executions.increment(new);
        self.rows.record(u32::try_from(rows).unwrap_or(u32::MAX));
    }

    pub fn dead_letters(&self, new: u64) {
        self.dead_letters.increment(new);
    }

    pub fn took(&self, duration: Duration) {
        self.duration.record(duration);
    }
}

pub fn write_failed() {
    counter!(WRITES_FAILED).increment(1);
}

pub fn dead_letter(event: &EventName, reason: Reason) {
    counter!(DEAD_LETTERS, "event" => event.to_string(), "reason" => reason.as_str()).increment(1);
}

/// Counts a dead letter that no worker made: the broker gave up a message, or no queue took it. Its event name may be
/// any text, so the label is `other`.
pub fn dead_letter_without_worker(reason: Reason) {
    counter!(DEAD_LETTERS, "event" => "other", "reason" => reason.as_str()).increment(1);
}

pub fn skip(event: &EventName, disposition: Disposition) {
    counter!(SKIPS, "event" => event.to_string(), "disposition" => disposition.as_str()).increment(1);
}

pub fn id_reused(event: &EventName) {
    counter!(IDS_REUSED, "event" => event.to_string()).increment(1);
}

pub fn consumer_rebuilt(event: &EventName) {
    counter!(REBUILT, "event" => event.to_string()).increment(1);
}

pub fn connection_lost(purpose: &'static str) {
    counter!(CONNECTIONS_LOST, "connection" => purpose).increment(1);
}

/// `None` if unknown.
pub fn dead_letters_open(count: Option<i64>) {
    // The database counts up to 100000 of them, so the number fits.
    let count = count.and_then(|count| u32::try_from(count).ok());
    gauge!("provisiond_dead_letters_open").set(count.map_or(f64::NAN, f64::from));
}

/// `None` if unknown.
pub fn queue_messages(queue: &str, messages: Option<u32>) {
    gauge!(QUEUE_MESSAGES, "queue" => queue.to_owned()).set(messages.map_or(f64::NAN, f64::from));
}

pub fn console_request(method: &str, status: u16, duration: Duration) {
    // A client can send any word as a method.
    let method = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].into_iter().find(|known| *known == method);
    counter!(CONSOLE_REQUESTS, "method" => method.unwrap_or("other"), "status" => status.to_string())
        .increment(1);
    histogram!(CONSOLE_DURATION).record(duration);
}
