//! The runs that are in progress in this process: a redelivery waits until the earlier delivery has ended.
//!
//! After a lost connection the broker redelivers events that this process still runs. The process will finish
//! them, and publish their results on another connection.

use std::collections::{HashMap, hash_map::Entry};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::domain::event::RunId;

#[derive(Default)]
pub(super) struct Running(Mutex<HashMap<RunId, Vec<CancellationToken>>>);

/// Marks a run as in progress until this is dropped.
pub(super) struct UnderWay<'a> {
    running: &'a Running,
    run: RunId,
    ended: CancellationToken,
}

impl Running {
    /// Marks `run` as in progress. The second value has one token for each earlier delivery of the same run;
    /// it is cancelled when that delivery ends.
    pub(super) fn begin(&self, run: &RunId) -> (UnderWay<'_>, Vec<CancellationToken>) {
        let ended = CancellationToken::new();
        let mut runs = self.0.lock();
        let deliveries = runs.entry(run.clone()).or_default();
        let earlier = deliveries.clone();
        deliveries.push(ended.clone());
        (UnderWay { running: self, run: run.clone(), ended }, earlier)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.ended.cancel();
        let mut runs = self.running.0.lock();
        if let Entry::Occupied(mut deliveries) = runs.entry(self.run.clone()) {
            deliveries.get_mut().retain(|token| !token.is_cancelled());
            if deliveries.get().is_empty() {
                deliveries.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::EventId;

    #[test]
    fn an_earlier_delivery_is_known_until_it_ends() {
        let running = Running::default();
        let run = RunId::from(EventId::from_message_id("e1"));
        let (first, none) = running.begin(&run);
        assert!(none.is_empty());
        let (second, earlier) = running.begin(&run);
        assert!(matches!(earlier.as_slice(), [token] if !token.is_cancelled()));
        drop(first);
        assert!(earlier.iter().all(CancellationToken::is_cancelled));
        drop(second);
        assert!(running.0.lock().is_empty());
    }
}
