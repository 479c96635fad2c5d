//! The state of one event queue in this worker: how many deliveries may run, and whether they make progress.

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

/// The state of one event queue.
pub(super) struct QueueState {
    pub event: EventName,
    /// Limits how many deliveries run at a time, over all connections: a delivery whose connection was lost
    /// may still run.
    pub permits: Semaphore,
    pub limit: usize,
    pub meters: EventMeters,
    /// Makes the consumer requeue all its deliveries and start again.
    pub renew: Arc<Notify>,
    /// How many deliveries the consumer may hold now; the consumer sets it.
    pub taking: Arc<AtomicUsize>,
    held: AtomicUsize,
    waiting: AtomicUsize,
    acknowledged: AtomicU64,
    last_ended: Mutex<Instant>,
    requeue_token: Mutex<CancellationToken>,
}

/// Counts a delivery as held until it is dropped.
pub(super) struct Held<'a>(&'a QueueState);

/// Counts a delivery as waiting until it is dropped: for admission, or for a slot.
pub(super) struct Waiting<'a>(&'a QueueState);

/// The progress of one event queue, for the watchdog.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Deliveries that the worker holds.
    pub held: usize,
    /// It holds as many deliveries as it may.
    pub is_full: bool,
    /// At least one delivery waits for admission or a slot, which other deliveries may hold.
    pub has_waiting: bool,
    /// When an attempt or a delivery last ended.
    pub last_ended: Instant,
    /// Deliveries acknowledged so far.
    pub acknowledged: u64,
}

impl QueueState {
    pub(super) fn new(event: EventName, limit: u16) -> Self {
        let limit = usize::from(limit);
        Self {
            meters: EventMeters::new(&event),
            event,
            permits: Semaphore::new(limit),
            limit,
            renew: Arc::default(),
            taking: Arc::new(AtomicUsize::new(limit)),
            held: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            acknowledged: AtomicU64::new(0),
            last_ended: Mutex::new(Instant::now()),
            requeue_token: Mutex::default(),
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

    /// Records that an attempt or a delivery has ended.
    pub(super) fn record_progress(&self) {
        *self.last_ended.lock() = Instant::now();
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
            last_ended: *self.last_ended.lock(),
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
        }
    }

    /// Cancelled when the deliveries taken so far must be requeued.
    pub(super) fn requeue_token(&self) -> CancellationToken {
        self.requeue_token.lock().clone()
    }

    /// Requeues all deliveries and restarts the consumer.
    pub(super) fn rebuild(&self) {
        std::mem::take(&mut *self.requeue_token.lock()).cancel();
        self.renew.notify_one();
        self.record_progress();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
        self.0.meters.released();
        self.0.record_progress();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
