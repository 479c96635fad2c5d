//! One event's share of this worker: how much of it may run, whether it moves, and how to cut what is stuck.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{domain::event::EventName, telemetry::metrics::EventMeters};

/// The lane of one event.
pub(super) struct QueueState {
    pub event: EventName,
    /// What may run at a time, over all connections: what was taken on a lost one may still run.
    pub room: Semaphore,
    pub limit: usize,
    pub meters: EventMeters,
    /// Tells the consumer to begin anew, and to give back everything.
    pub renew: Arc<Notify>,
    /// What its consumer may have in hand now.
    pub taking: Arc<AtomicUsize>,
    held: AtomicUsize,
    waiting: AtomicUsize,
    acknowledged: AtomicU64,
    moved: Mutex<Instant>,
    cut: Mutex<CancellationToken>,
}

/// A delivery in its lane, until this is dropped.
pub(super) struct Held<'a>(&'a QueueState);

/// A delivery that waits for its turn, until this is dropped.
pub(super) struct Waiting<'a>(&'a QueueState);

/// How a lane moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Deliveries that it holds.
    pub held: usize,
    /// It holds all that it may.
    pub is_full: bool,
    /// Something in it waits for what others hold.
    pub has_waiting: bool,
    /// When something in it last ended.
    pub moved: Instant,
    /// Deliveries that were acknowledged, so far.
    pub acknowledged: u64,
}

impl QueueState {
    pub(super) fn new(event: EventName, limit: u16) -> Self {
        let limit = usize::from(limit);
        Self {
            meters: EventMeters::new(&event),
            event,
            room: Semaphore::new(limit),
            limit,
            renew: Arc::default(),
            taking: Arc::new(AtomicUsize::new(limit)),
            held: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            acknowledged: AtomicU64::new(0),
            moved: Mutex::new(Instant::now()),
            cut: Mutex::default(),
        }
    }

    pub(super) fn hold(&self) -> Held<'_> {
        self.held.fetch_add(1, Ordering::Relaxed);
        self.meters.held();
        Held(self)
    }

    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Something in it has ended.
    pub(super) fn record_progress(&self) {
        *self.moved.lock() = Instant::now();
    }

    pub(super) fn note_acknowledged(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.meters.acknowledged();
    }

    pub(super) fn progress(&self) -> Progress {
        let held = self.held.load(Ordering::Relaxed);
        Progress {
            held,
            is_full: held >= self.taking.load(Ordering::Relaxed).clamp(1, self.limit),
            has_waiting: self.waiting.load(Ordering::Relaxed) > 0,
            moved: *self.moved.lock(),
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
        }
    }

    /// Cancelled when what was taken up to then is to be let go.
    pub(super) fn cut(&self) -> CancellationToken {
        self.cut.lock().clone()
    }

    /// Lets go of everything, and begins anew.
    pub(super) fn rebuild(&self) {
        std::mem::take(&mut *self.cut.lock()).cancel();
        self.renew.notify_one();
        self.record_progress();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
        self.0.meters.let_go();
        self.0.record_progress();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
