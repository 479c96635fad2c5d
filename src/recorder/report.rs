//! The recorder's part of the process report, and its metrics.

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

/// What this recorder has written so far.
#[derive(Default)]
pub(super) struct RecorderStats {
    so_far: Mutex<RecorderReport>,
    meters: BatchMeters,
}

impl RecorderStats {
    /// Adds the recorder to the reports of this process.
    pub(super) fn add_to_reports(self: &Arc<Self>, status_reporter: &StatusReporter, link: Link) {
        let stats = Arc::clone(self);
        status_reporter.add_report(move |report| {
            let so_far = stats.with(|so_far| so_far.clone());
            report.recorder = Some(RecorderReport { link: link.report(), ..so_far });
        });
    }

    /// Counts a written batch. `new`: rows that were not in the table before.
    pub(super) fn executions(&self, new: u64, batch: &[Execution]) {
        self.meters.executions(batch.len(), new);
        let now = Timestamp::now();
        let ended = batch
            .last()
            .map(|last| last.started_at.as_millisecond().saturating_add_unsigned(last.duration_ms));
        self.with(|written| {
            written.executions += new;
            written.written_at = Some(now);
            // The worker's clock may be ahead: then the delay is zero.
            written.behind_ms = ended
                .map(|ended| u64::try_from(now.as_millisecond().saturating_sub(ended)).unwrap_or_default());
        });
    }

    /// Records how long it took to write a batch of any kind.
    pub(super) fn took(&self, duration: Duration) {
        self.meters.took(duration);
    }

    /// Counts a written batch. `new`: rows that were not in the table before.
    pub(super) fn dead_letters(&self, new: u64, batch: &[DeadLetterMessage]) {
        for dead_letter in
            batch.iter().map(|message| &message.facts).filter(|dead_letter| dead_letter.worker.is_none())
        {
            dead_letter_without_worker(dead_letter.reason);
            // No worker has logged this dead letter. The event name may be any text, so it is logged quoted.
            warn!(event = dead_letter.event_name, event_id = dead_letter.event_id, reason = %dead_letter.reason, error = dead_letter.error, "stored a dead letter that no worker published");
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
