//! Circuit breakers: a handler that mostly fails is left alone for a while, then asked once.
//!
//! One for each handler, of this worker alone: no worker waits for what another has seen. A changed
//! handler begins anew.

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

/// Attempts are counted for this long.
const WINDOW: Duration = Duration::from_mins(1);
/// Fewer attempts than this say nothing.
const MIN_ATTEMPTS: usize = 10;
/// Of a hundred, how many must fail.
const FAILURE_PERCENT: usize = 70;
/// How long no call is made.
const OPEN_INTERVAL: Duration = Duration::from_secs(30);
/// What is refused while one call is made asks again after this.
const PROBE_RETRY_DELAY: Duration = Duration::from_secs(5);
/// More than these are not remembered one by one: a handler that takes thousands a minute is judged by
/// its latest.
const MAX_ATTEMPTS: usize = 1000;

/// The breakers of one worker.
#[derive(Default)]
pub(super) struct Breakers(Mutex<HashMap<HandlerId, Circuit>>);

/// Leave to make one call. Dropped without a word of how it ended, it says nothing.
pub(super) struct Permit<'a> {
    breakers: &'a Breakers,
    handler: HandlerId,
    version: i64,
    /// It decides whether the circuit closes.
    is_probe: bool,
}

/// No call is to be made now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    /// Until a probe may be made, or the one under way has ended.
    pub wait: Duration,
    pub error: String,
}

#[derive(Debug)]
struct Circuit {
    /// The handler's: a changed one is another.
    version: i64,
    state: State,
    /// Since when it is not closed, for those who look.
    opened_at: Timestamp,
    /// When attempts ended, oldest first, and whether they failed.
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
    /// One call decides.
    Probing,
}

impl Breakers {
    /// Asks to call `handler`.
    pub(super) fn pass(&self, handler: &Handler) -> Result<Permit<'_>, Rejected> {
        let is_probe = self.with(handler.id, handler.version, |circuit| circuit.admit(Instant::now()))?;
        Ok(Permit { breakers: self, handler: handler.id, version: handler.version, is_probe })
    }

    /// The circuits that are not closed, and the version of the handler that they are of.
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

    fn with<T>(&self, id: HandlerId, version: i64, act: impl FnOnce(&mut Circuit) -> T) -> T {
        let mut circuits = self.0.lock();
        let circuit = circuits.entry(id).or_insert_with(|| Circuit::new(version));
        if circuit.version < version {
            *circuit = Circuit::new(version);
        }
        act(circuit)
    }
}

impl Permit<'_> {
    /// The endpoint answered: a success, or a failure that trying again would not mend.
    pub(super) fn answered(self) {
        self.end(None);
    }

    /// The attempt failed in a way that may pass.
    pub(super) fn failed(self, error: &str) {
        self.end(Some(error));
    }

    fn end(self, error: Option<&str>) {
        let ended = |circuit: &mut Circuit| circuit.note(self.version, self.is_probe, error, Instant::now());
        match self.breakers.with(self.handler, self.version, ended) {
            Some(Change::Opened) => {
                warn!(handler = %self.handler, error, "circuit open: no call for {} s, then one", OPEN_INTERVAL.as_secs());
            }
            Some(Change::Closed) => info!(handler = %self.handler, "circuit closed: calls are made again"),
            None => {}
        }
    }
}

impl Drop for Permit<'_> {
    /// A probe that was cut decides nothing: the next one may.
    fn drop(&mut self) {
        if self.is_probe {
            self.breakers.with(self.handler, self.version, |circuit| {
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

    /// Whether the call that may be made is a probe.
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

    /// Notes how a call of the handler at `version` ended: with a passing `error`, or well.
    fn note(&mut self, version: i64, is_probe: bool, error: Option<&str>, now: Instant) -> Option<Change> {
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
            // Calls that began before it opened.
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
        while let Some((at, failed)) = self.attempts.front() {
            if now.duration_since(*at) <= WINDOW && self.attempts.len() <= MAX_ATTEMPTS {
                break;
            }
            self.failures -= usize::from(*failed);
            self.attempts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
