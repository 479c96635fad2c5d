//! What a recorder tells of itself.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use tracing::warn;

use crate::{
    broker::Link,
    domain::{dead_letter::DeadLetterMessage, execution::Execution, process::RecorderReport},
    status_reporter::StatusReporter,
    telemetry::metrics::{BatchMeters, dead_letter_without_worker},
};

/// What was written, so far.
#[derive(Default)]
pub(super) struct RecorderStats {
    so_far: Mutex<RecorderReport>,
    meters: BatchMeters,
}

impl RecorderStats {
    /// Lets `presence` tell of it.
    pub(super) fn tell_by(self: &Arc<Self>, presence: &StatusReporter, link: Link) {
        let written = Arc::clone(self);
        presence.add_report(move |report| {
            let so_far = written.with(|so_far| so_far.clone());
            report.recorder = Some(RecorderReport { link: link.report(), ..so_far });
        });
    }

    /// Notes that `batch` is in the table, of which so many are `new` there.
    pub(super) fn executions(&self, new: u64, batch: &[Execution]) {
        self.meters.executions(batch.len(), new);
        let now = Timestamp::now();
        let ended = batch
            .last()
            .map(|last| last.started_at.as_millisecond().saturating_add_unsigned(last.duration_ms));
        self.with(|written| {
            written.executions += new;
            written.written_at = Some(now);
            // A clock that differs has nothing end in the future.
            written.behind_ms = ended
                .map(|ended| u64::try_from(now.as_millisecond().saturating_sub(ended)).unwrap_or_default());
        });
    }

    /// Notes that a batch was written, whatever was in it.
    pub(super) fn took(&self, duration: Duration) {
        self.meters.took(duration);
    }

    /// Notes that `batch` is in the table, of which so many are `new` there.
    pub(super) fn dead_letters(&self, new: u64, batch: &[DeadLetterMessage]) {
        for facts in batch.iter().map(|letter| &letter.facts).filter(|facts| facts.worker.is_none()) {
            dead_letter_without_worker(facts.reason);
            // No worker has told of it. The name may be any text, and is quoted.
            warn!(event = facts.event_name, reason = %facts.reason, error = facts.error, "no worker took it: a dead letter");
        }
        self.meters.dead_letters(new);
        self.with(|written| {
            written.dead_letters += new;
            written.written_at = Some(Timestamp::now());
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut RecorderReport) -> T) -> T {
        act(&mut self.so_far.lock())
    }
}
