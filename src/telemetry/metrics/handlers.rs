//! Counts attempts by handler.

use std::collections::HashMap;

use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;

use super::describe::{ATTEMPTS, ATTEMPTS_IN_FLIGHT};
use crate::domain::{
    event::EventName,
    handler::HandlerId,
    task::{ByTaskType, TaskType},
};

/// The outcome of an attempt, as it is counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptOutcome {
    Success,
    Forbidden,
    Transient,
    Permanent,
    /// No call was made.
    PutOff,
}

impl AttemptOutcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Forbidden => "forbidden",
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::PutOff => "put_off",
        }
    }
}

/// Attempt counters by handler. Only `limit` handlers have series of their own: a handler has one for each outcome, and
/// series last as long as the process.
pub struct HandlerMeters {
    limit: usize,
    known: Mutex<HashMap<HandlerId, Known>>,
    in_flight: ByTaskType<Gauge>,
}

struct Known {
    event: EventName,
    attempts: HashMap<AttemptOutcome, Counter>,
}

impl HandlerMeters {
    pub fn new(limit: usize) -> Self {
        let in_flight = ByTaskType::new(|task| gauge!(ATTEMPTS_IN_FLIGHT, "task" => task.as_str()));
        Self { limit, known: Mutex::default(), in_flight }
    }

    /// Counts a running attempt, until the result is dropped.
    pub fn under_way(&self, task: TaskType) -> impl Drop + use<> {
        struct UnderWay(Gauge);
        impl Drop for UnderWay {
            fn drop(&mut self) {
                self.0.decrement(1);
            }
        }
        let gauge = self.in_flight.get(task).clone();
        gauge.increment(1);
        UnderWay(gauge)
    }

    pub fn attempted(&self, handler: HandlerId, event: &EventName, outcome: AttemptOutcome) {
        let count = |handler: String| counter!(ATTEMPTS, "event" => event.to_string(), "handler" => handler, "outcome" => outcome.label());
        let mut known = self.known.lock();
        if !known.contains_key(&handler) && known.len() >= self.limit {
            drop(known);
            return count("other".to_owned()).increment(1);
        }
        let new_entry = || Known { event: event.clone(), attempts: HashMap::new() };
        let entry = known.entry(handler).or_insert_with(new_entry);
        if entry.event != *event {
            *entry = new_entry();
        }
        entry.attempts.entry(outcome).or_insert_with(|| count(handler.to_string())).increment(1);
    }

    /// The handlers that have series of their own.
    pub fn known(&self) -> Vec<HandlerId> {
        self.known.lock().keys().copied().collect()
    }
}
