//! Counts the bytes of unsettled messages, and lowers the prefetch of consumers that hold too many.
//!
//! A prefetch counts messages, whatever their size (RabbitMQ does not implement a prefetch by bytes). If messages are
//! large, a consumer that holds many bytes gets a lower prefetch, until its messages are smaller again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes that a process may hold before consumers of large messages get a lower prefetch.
const MUCH: usize = 64 << 20;
/// Bytes that one consumer may always hold; its prefetch is lowered to fit them.
const SHARE: usize = 16 << 20;

/// Bytes held by all consumers of this process.
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// The unsettled messages of one consumer.
#[derive(Clone, Default)]
pub(super) struct Held(Arc<Counts>);

#[derive(Default)]
struct Counts {
    bytes: AtomicUsize,
    deliveries: AtomicUsize,
    /// The largest message since the last call of `more_than`.
    largest: AtomicUsize,
}

/// One unsettled delivery, counted until this is dropped.
pub(super) struct Part {
    of: Held,
    bytes: usize,
}

impl Held {
    pub(super) fn add(&self, bytes: usize) -> Part {
        BYTES.fetch_add(bytes, Relaxed);
        self.0.bytes.fetch_add(bytes, Relaxed);
        self.0.deliveries.fetch_add(1, Relaxed);
        self.0.largest.fetch_max(bytes, Relaxed);
        Part { of: self.clone(), bytes }
    }

    /// A lower prefetch, if this consumer holds too many bytes with `prefetch`.
    pub(super) fn fewer_than(&self, prefetch: u16) -> Option<u16> {
        self.fewer(prefetch, BYTES.load(Relaxed))
    }

    /// Twice the prefetch, if the messages since the last call are small enough for it.
    pub(super) fn more_than(&self, prefetch: u16) -> Option<u16> {
        let largest = self.0.largest.swap(0, Relaxed);
        let more = prefetch.saturating_mul(2);
        (largest.saturating_mul(more.into()) <= SHARE).then_some(more)
    }

    fn fewer(&self, prefetch: u16, bytes_of_all: usize) -> Option<u16> {
        let (bytes, deliveries) = (self.0.bytes.load(Relaxed), self.0.deliveries.load(Relaxed));
        if bytes_of_all <= MUCH || bytes < SHARE || deliveries < 2 {
            return None;
        }
        let fewer = u16::try_from(SHARE * deliveries / bytes).unwrap_or(u16::MAX).max(1);
        (fewer < prefetch).then_some(fewer)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        BYTES.fetch_sub(self.bytes, Relaxed);
        self.of.0.bytes.fetch_sub(self.bytes, Relaxed);
        self.of.0.deliveries.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn as_many_as_fit_into_a_share() {
        let held = Held::default();
        let parts: Vec<_> = (0..40).map(|_| held.add(MIB)).collect();
        assert_eq!(held.fewer(100, MUCH), None, "the process holds little");
        assert_eq!(held.fewer(100, MUCH + 1), Some(16));
        assert_eq!(held.fewer(16, MUCH + 1), None, "it takes so few already");
        drop(parts);
        assert_eq!(held.fewer(100, MUCH + 1), None, "nothing is held any more");
    }

    #[test]
    fn one_at_a_time_however_large() {
        let held = Held::default();
        let first = held.add(100 * MIB);
        assert_eq!(held.fewer(100, MUCH + 1), None, "a single one has to be taken");
        let _second = held.add(100 * MIB);
        assert_eq!(held.fewer(100, MUCH + 1), Some(1));
        drop(first);
    }

    #[test]
    fn it_takes_more_once_messages_are_smaller() {
        let held = Held::default();
        drop(held.add(10 * MIB));
        assert_eq!(held.more_than(1), None, "two of these are too much");
        drop(held.add(1000));
        assert_eq!(held.more_than(1), Some(2));
        assert_eq!(held.more_than(2), Some(4), "nothing came");
    }

    #[test]
    fn who_holds_little_is_left_alone() {
        let held = Held::default();
        let _parts: Vec<_> = (0..100).map(|_| held.add(1000)).collect();
        assert_eq!(held.fewer(100, 10 * MUCH), None);
    }
}
