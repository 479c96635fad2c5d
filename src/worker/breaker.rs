//! Circuit breakers: a worker stops calling a handler that mostly fails, then makes one probe call.
//!
//! Each worker has its own circuit for each handler; workers share no state. A changed handler starts with a
//! closed circuit.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::domain::{
    handler::{Handler, HandlerId},
    process::{CircuitReport, CircuitState},
};

/// How long an attempt counts.
const WINDOW: Duration = Duration::from_mins(1);
/// With fewer attempts in the window, the circuit stays closed.
const MIN_ATTEMPTS: usize = 10;
/// The circuit opens if at least this percentage of the attempts failed.
const FAILURE_PERCENT: usize = 70;
/// How long an open circuit rejects all calls.
const OPEN_INTERVAL: Duration = Duration::from_secs(30);
/// Suggested delay for a call that is rejected while a probe runs.
const PROBE_RETRY_DELAY: Duration = Duration::from_secs(5);
/// How many attempts are remembered. A handler with thousands of attempts a minute is judged by its latest
/// ones.
const MAX_ATTEMPTS: usize = 1000;

/// The circuits of all handlers of one worker.
#[derive(Default)]
pub(super) struct Breakers(Mutex<HashMap<HandlerId, Circuit>>);

/// Permission for one call. Dropping it without a result leaves the circuit unchanged; after a dropped probe,
/// the next call is the probe.
pub(super) struct Permit<'a> {
    breakers: &'a Breakers,
    handler: HandlerId,
    version: i64,
    /// The result of this call decides whether the circuit closes.
    is_probe: bool,
}

/// The call was rejected.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    /// When to try again: the rest of the open interval, or a fixed delay while a probe runs.
    pub wait: Duration,
    pub error: String,
}

#[derive(Debug)]
struct Circuit {
    /// The version of the handler. Another version gets a new circuit.
    version: i64,
    state: State,
    /// When the circuit left the state closed. Shown in reports.
    opened_at: Timestamp,
    /// When each attempt ended and whether it failed, oldest first.
    attempts: VecDeque<(Instant, bool)>,
    failures: usize,
    last_error: String,
}

#[derive(Debug)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// The probe runs; its result decides.
    Probing,
}

impl Breakers {
    /// Asks for permission to call `handler`.
    pub(super) fn permit(&self, handler: &Handler) -> Result<Permit<'_>, Rejected> {
        let is_probe = self.update(handler.id, handler.version, |circuit| circuit.admit(Instant::now()))?;
        Ok(Permit { breakers: self, handler: handler.id, version: handler.version, is_probe })
    }

    /// The circuits that are not closed, each with the version of its handler.
    pub(super) fn not_closed(&self) -> Vec<(CircuitReport, i64)> {
        let (now, clock) = (Timestamp::now(), Instant::now());
        let circuits = self.0.lock();
        let report = |(id, circuit): (&HandlerId, &Circuit)| {
            let (state, until) = match circuit.state {
                State::Closed => return None,
                State::Open { until } => {
                    (CircuitState::Open, Some(now + until.saturating_duration_since(clock)))
                }
                State::Probing => (CircuitState::Probing, None),
            };
            let (since, error) = (circuit.opened_at, circuit.last_error.clone());
            Some((CircuitReport { handler_id: *id, state, since, until, error }, circuit.version))
        };
        circuits.iter().filter_map(report).collect()
    }

    fn update<T>(&self, id: HandlerId, version: i64, update: impl FnOnce(&mut Circuit) -> T) -> T {
        let mut circuits = self.0.lock();
        let circuit = circuits.entry(id).or_insert_with(|| Circuit::new(version));
        if circuit.version < version {
            *circuit = Circuit::new(version);
        }
        update(circuit)
    }
}

impl Permit<'_> {
    /// The call succeeded, or failed with a permanent failure: the endpoint answers.
    pub(super) fn answered(self) {
        self.end(None);
    }

    /// The call failed with a transient failure.
    pub(super) fn failed(self, error: &str) {
        self.end(Some(error));
    }

    fn end(self, error: Option<&str>) {
        let record =
            |circuit: &mut Circuit| circuit.record(self.version, self.is_probe, error, Instant::now());
        match self.breakers.update(self.handler, self.version, record) {
            Some(Change::Opened) => {
                warn!(handler = %self.handler, error, "circuit open: making no calls for {} s, then one probe call", OPEN_INTERVAL.as_secs());
            }
            Some(Change::Closed) => info!(handler = %self.handler, "circuit closed: making calls again"),
            None => {}
        }
    }
}

impl Drop for Permit<'_> {
    /// A probe that was aborted decides nothing: the next call may be the probe.
    fn drop(&mut self) {
        if self.is_probe {
            self.breakers.update(self.handler, self.version, |circuit| {
                if circuit.version == self.version && matches!(circuit.state, State::Probing) {
                    circuit.state = State::Open { until: Instant::now() };
                }
            });
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Opened,
    Closed,
}

impl Circuit {
    const fn new(version: i64) -> Self {
        Self {
            version,
            state: State::Closed,
            opened_at: Timestamp::UNIX_EPOCH,
            attempts: VecDeque::new(),
            failures: 0,
            last_error: String::new(),
        }
    }

    /// Allows or rejects a call. `Ok(true)`: the call is a probe.
    fn admit(&mut self, now: Instant) -> Result<bool, Rejected> {
        let wait = match self.state {
            State::Closed => return Ok(false),
            State::Open { until } if until <= now => {
                self.state = State::Probing;
                return Ok(true);
            }
            State::Open { until } => until - now,
            State::Probing => PROBE_RETRY_DELAY,
        };
        Err(Rejected { wait, error: format!("circuit open; the last failure: {}", self.last_error) })
    }

    /// Records how a call of the handler at `version` ended: `error` for a transient failure, else None.
    fn record(&mut self, version: i64, is_probe: bool, error: Option<&str>, now: Instant) -> Option<Change> {
        if version != self.version {
            return None;
        }
        if let Some(error) = error {
            error.clone_into(&mut self.last_error);
        }
        match self.state {
            State::Closed => {
                self.count(error.is_some(), now);
                let enough = self.attempts.len() >= MIN_ATTEMPTS;
                if !enough || self.failures * 100 < self.attempts.len() * FAILURE_PERCENT {
                    return None;
                }
                self.open(now);
                Some(Change::Opened)
            }
            State::Probing if is_probe && error.is_none() => {
                *self = Self::new(version);
                Some(Change::Closed)
            }
            State::Probing if is_probe => {
                self.open(now);
                None
            }
            // Calls that started before the circuit opened decide nothing.
            State::Open { .. } | State::Probing => None,
        }
    }

    fn open(&mut self, now: Instant) {
        if matches!(self.state, State::Closed) {
            self.opened_at = Timestamp::now();
        }
        self.state = State::Open { until: now + OPEN_INTERVAL };
        self.attempts.clear();
        self.failures = 0;
    }

    fn count(&mut self, failed: bool, now: Instant) {
        self.attempts.push_back((now, failed));
        self.failures += usize::from(failed);
        while let Some((ended_at, failed)) = self.attempts.front() {
            if now.duration_since(*ended_at) <= WINDOW && self.attempts.len() <= MAX_ATTEMPTS {
                break;
            }
            self.failures -= usize::from(*failed);
            self.attempts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
