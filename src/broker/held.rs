//! Counts the bytes of unsettled messages, and lowers the prefetch of consumers that hold too many.
//!
//! A prefetch counts messages, whatever their size (RabbitMQ does not implement a prefetch by bytes). If messages are
//! large, a consumer that holds many bytes gets a lower prefetch, until its messages are smaller again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes that a process may hold before consumers of large messages get a lower prefetch.
const MAX_PROCESS_BYTES: usize = 64 << 20;
/// Bytes that one consumer may always hold; its prefetch is lowered to fit them.
const MAX_CONSUMER_BYTES: usize = 16 << 20;

/// Bytes held by all consumers of this process.
static TOTAL_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The unsettled messages of one consumer.
#[derive(Clone, Default)]
pub(super) struct Held(Arc<Counts>);

#[derive(Default)]
struct Counts {
    bytes: AtomicUsize,
    deliveries: AtomicUsize,
    /// The largest message since the last call of `higher_prefetch`.
    largest: AtomicUsize,
}

/// One unsettled delivery, counted until this is dropped.
pub(super) struct Part {
    held: Held,
    bytes: usize,
}

impl Held {
    pub(super) fn add(&self, bytes: usize) -> Part {
        TOTAL_BYTES.fetch_add(bytes, Relaxed);
        self.0.bytes.fetch_add(bytes, Relaxed);
        self.0.deliveries.fetch_add(1, Relaxed);
        self.0.largest.fetch_max(bytes, Relaxed);
        Part { held: self.clone(), bytes }
    }

    /// A lower prefetch, if this consumer holds too many bytes with `prefetch`.
    pub(super) fn lower_prefetch(&self, prefetch: u16) -> Option<u16> {
        self.lower_prefetch_at(prefetch, TOTAL_BYTES.load(Relaxed))
    }

    /// Twice the prefetch, if the messages since the last call are small enough for it.
    pub(super) fn higher_prefetch(&self, prefetch: u16) -> Option<u16> {
        let largest = self.0.largest.swap(0, Relaxed);
        let doubled = prefetch.saturating_mul(2);
        (largest.saturating_mul(doubled.into()) <= MAX_CONSUMER_BYTES).then_some(doubled)
    }

    fn lower_prefetch_at(&self, prefetch: u16, total_bytes: usize) -> Option<u16> {
        let (bytes, deliveries) = (self.0.bytes.load(Relaxed), self.0.deliveries.load(Relaxed));
        if total_bytes <= MAX_PROCESS_BYTES || bytes < MAX_CONSUMER_BYTES || deliveries < 2 {
            return None;
        }
        let lower = u16::try_from(MAX_CONSUMER_BYTES * deliveries / bytes).unwrap_or(u16::MAX).max(1);
        (lower < prefetch).then_some(lower)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        TOTAL_BYTES.fetch_sub(self.bytes, Relaxed);
        self.held.0.bytes.fetch_sub(self.bytes, Relaxed);
        self.held.0.deliveries.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn the_prefetch_is_lowered_to_fit_the_limit() {
        let held = Held::default();
        let parts: Vec<_> = (0..40).map(|_| held.add(MIB)).collect();
        assert_eq!(held.lower_prefetch_at(100, MAX_PROCESS_BYTES), None, "the process holds little");
        assert_eq!(held.lower_prefetch_at(100, MAX_PROCESS_BYTES + 1), Some(16));
        assert_eq!(held.lower_prefetch_at(16, MAX_PROCESS_BYTES + 1), None, "it takes so few already");
        drop(parts);
        assert_eq!(held.lower_prefetch_at(100, MAX_PROCESS_BYTES + 1), None, "nothing is held any more");
    }

    #[test]
    fn the_prefetch_is_at_least_one() {
        let held = Held::default();
        let first = held.add(100 * MIB);
        assert_eq!(held.lower_prefetch_at(100, MAX_PROCESS_BYTES + 1), None, "a single one has to be taken");
        let _second = held.add(100 * MIB);
        assert_eq!(held.lower_prefetch_at(100, MAX_PROCESS_BYTES + 1), Some(1));
        drop(first);
    }

    #[test]
    fn the_prefetch_is_raised_once_messages_are_smaller() {
        let held = Held::default();
        drop(held.add(10 * MIB));
        assert_eq!(held.higher_prefetch(1), None, "two of these are too much");
        drop(held.add(1000));
        assert_eq!(held.higher_prefetch(1), Some(2));
        assert_eq!(held.higher_prefetch(2), Some(4), "nothing came");
    }

    #[test]
    fn a_consumer_of_small_messages_keeps_its_prefetch() {
        let held = Held::default();
        let _parts: Vec<_> = (0..100).map(|_| held.add(1000)).collect();
        assert_eq!(held.lower_prefetch_at(100, 10 * MAX_PROCESS_BYTES), None);
    }
}
