//! Acknowledges the deliveries of one channel. Each channel has its own acker.
//!
//! One frame (`multiple`) acknowledges the contiguous prefix of finished deliveries. A delivery that finishes out of
//! order is acknowledged separately after a few milliseconds. Otherwise one slow handler would hold back every later
//! acknowledgement, and the broker would send no new deliveries in their place.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use futures_util::future::try_join_all;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicNackOptions},
};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, sleep_until},
};

use super::delivery::Settled;

/// How long an acknowledgement waits to become part of the prefix. Most do so in this time when the CPU is the limit.
/// When the number of handlers is the limit, it is short compared with their runtime.
const BATCH_DELAY: Duration = Duration::from_millis(5);
const BATCH: usize = 512;

/// Acknowledges until every `AckHandle` of the channel is settled and dropped, or the channel is lost.
pub(super) async fn run(channel: Channel, mut settled: UnboundedReceiver<Settled>) -> lapin::Result<()> {
    let mut ledger = Ledger::default();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let due = ledger.next_due();
        let received = tokio::select! {
            biased;
            count = settled.recv_many(&mut batch, BATCH) => Some(count),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
        };
        let now = Instant::now();
        for settlement in batch.drain(..) {
            if let Settled::Requeued(tag) = settlement {
                channel.basic_nack(tag, BasicNackOptions { requeue: true, multiple: false }).await?;
            }
            ledger.note(settlement, now);
        }
        if let Some(tag) = ledger.take_prefix() {
            channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
        let is_end = received == Some(0);
        let due = ledger.take_due(if is_end { now + BATCH_DELAY } else { now });
        // Concurrently, so that lapin writes them together.
        let alone = BasicAckOptions { multiple: false };
        try_join_all(due.into_iter().map(|tag| channel.basic_ack(tag, alone))).await?;
        if is_end {
            return Ok(());
        }
    }
}

/// The tags that are settled. Tags of a channel count from 1 without gaps.
///
/// A handler that runs for minutes holds the prefix back while hundreds of thousands of later tags are settled. No
/// method may iterate over all of them.
#[derive(Debug, Default)]
struct Ledger {
    /// All tags up to and including this one are settled.
    prefix: u64,
    /// Settled tags after the prefix; true if their ack or nack was sent.
    after_prefix: BTreeMap<u64, bool>,
    /// Tags not yet acknowledged, earliest deadline first. Some may already be part of the prefix.
    waiting: VecDeque<(Instant, u64)>,
}

impl Ledger {
    fn note(&mut self, settlement: Settled, now: Instant) {
        match settlement {
            Settled::Acknowledged(tag) => {
                self.after_prefix.insert(tag, false);
                self.waiting.push_back((now + BATCH_DELAY, tag));
            }
            Settled::Requeued(tag) => {
                self.after_prefix.insert(tag, true);
            }
        }
    }

    /// Moves the prefix forward, and returns the highest tag in it that is not acknowledged yet. Acknowledging a tag
    /// twice, even with `multiple`, would close the channel.
    fn take_prefix(&mut self) -> Option<u64> {
        let mut highest = None;
        while let Some(entry) = self.after_prefix.first_entry() {
            if *entry.key() != self.prefix + 1 {
                break;
            }
            let (tag, sent) = entry.remove_entry();
            self.prefix = tag;
            if !sent {
                highest = Some(tag);
            }
        }
        highest
    }

    /// The deadline of the next tag that still waits.
    fn next_due(&mut self) -> Option<Instant> {
        while let Some((due, tag)) = self.waiting.front() {
            if *tag > self.prefix {
                return Some(*due);
            }
            self.waiting.pop_front();
        }
        None
    }

    /// Takes the tags whose deadline has passed.
    fn take_due(&mut self, now: Instant) -> Vec<u64> {
        let mut tags = Vec::new();
        while self.next_due().is_some_and(|due| due <= now) {
            let Some((_, tag)) = self.waiting.pop_front() else { break };
            self.after_prefix.insert(tag, true);
            tags.push(tag);
        }
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Settled::{Acknowledged, Requeued},
        *,
    };

    fn ledger(settled: &[Settled], now: Instant) -> Ledger {
        let mut ledger = Ledger::default();
        for settlement in settled {
            ledger.note(*settlement, now);
        }
        ledger
    }

    #[test]
    fn a_prefix_is_acknowledged_at_once() {
        let now = Instant::now();
        let mut ledger = ledger(&[Acknowledged(2), Acknowledged(1), Acknowledged(4)], now);
        assert_eq!(ledger.take_prefix(), Some(2));
        assert_eq!(ledger.take_prefix(), None, "3 is still running");
        assert_eq!(ledger.next_due(), Some(now + BATCH_DELAY), "4 waits for it");
        ledger.note(Acknowledged(3), now);
        assert_eq!(ledger.take_prefix(), Some(4));
        assert_eq!(ledger.next_due(), None);
    }

    #[test]
    fn deliveries_after_a_slow_one_are_acknowledged_once_and_in_time() {
        let now = Instant::now();
        let mut ledger = ledger(&[Acknowledged(2), Acknowledged(3), Requeued(5)], now);
        ledger.note(Acknowledged(6), now + BATCH_DELAY);
        assert!(ledger.take_due(now).is_empty(), "they may become part of the prefix");
        assert_eq!(ledger.take_due(now + BATCH_DELAY), [2, 3]);
        assert!(ledger.take_due(now + BATCH_DELAY).is_empty());
        ledger.note(Acknowledged(1), now);
        assert_eq!(ledger.take_prefix(), Some(1), "2 and 3 were acknowledged");
        ledger.note(Acknowledged(4), now);
        assert_eq!(ledger.take_prefix(), Some(6), "5 was given back");
        assert_eq!(ledger.prefix, 6);
        assert!(
            ledger.next_due().is_none() && ledger.after_prefix.is_empty(),
            "nothing is remembered of the prefix"
        );
    }

    #[test]
    fn a_prefix_of_requeued_tags_is_not_acknowledged() {
        let mut ledger = ledger(&[Requeued(1), Requeued(2)], Instant::now());
        assert_eq!(ledger.take_prefix(), None);
        assert_eq!(ledger.prefix, 2);
    }
}
