//! What a recorder tells of itself.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::{
    broker::Link,
    domain::{execution::Execution, process::RecorderReport},
    presence::Presence,
};

/// What was written, so far.
#[derive(Default)]
pub(super) struct Written(Mutex<RecorderReport>);

impl Written {
    /// Lets `presence` tell of it.
    pub(super) fn tell_by(self: &Arc<Self>, presence: &Presence, link: Link) {
        let written = Arc::clone(self);
        presence.tells(move |report| {
            let so_far = written.with(|so_far| so_far.clone());
            report.recorder = Some(RecorderReport { link: link.report(), ..so_far });
        });
    }

    /// Notes that `batch` is in the table, of which so many are `new` there.
    pub(super) fn executions(&self, new: u64, batch: &[Execution]) {
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

    pub(super) fn dead_letters(&self, new: u64) {
        self.with(|written| {
            written.dead_letters += new;
            written.written_at = Some(Timestamp::now());
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut RecorderReport) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
