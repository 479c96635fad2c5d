//! One acker a channel: acknowledges the contiguous finished prefix of its deliveries in one frame.
//!
//! What finished out of order is acknowledged one by one on a short timer, or one slow handler
//! would hold back every later acknowledgement and fill the prefetch.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    Channel,
    options::{BasicAckOptions, BasicNackOptions},
};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, sleep_until},
};

use super::delivery::Settled;

const TAIL_DELAY: Duration = Duration::from_millis(20);
const BATCH: usize = 512;

/// Acknowledges until every duty of the channel is settled and dropped, or the channel is lost.
pub(super) async fn run(channel: Channel, mut settled: UnboundedReceiver<Settled>) -> lapin::Result<()> {
    let mut ledger = Ledger::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut tail_due: Option<Instant> = None;
    loop {
        let due = tail_due.unwrap_or_else(Instant::now);
        tokio::select! {
            biased;
            count = settled.recv_many(&mut batch, BATCH) => {
                for how in batch.drain(..) {
                    if let Settled::Requeued(tag) = how {
                        channel.basic_nack(tag, BasicNackOptions { requeue: true, multiple: false }).await?;
                    }
                    ledger.note(how);
                }
                if let Some(tag) = ledger.take_prefix() {
                    channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
                }
                if count == 0 {
                    return acknowledge_tail(&channel, &mut ledger).await;
                }
                tail_due = ledger.has_tail().then(|| tail_due.unwrap_or_else(|| Instant::now() + TAIL_DELAY));
            }
            () = sleep_until(due), if tail_due.is_some() => {
                acknowledge_tail(&channel, &mut ledger).await?;
                tail_due = None;
            }
        }
    }
}

async fn acknowledge_tail(channel: &Channel, ledger: &mut Ledger) -> lapin::Result<()> {
    for tag in ledger.take_tail() {
        channel.basic_ack(tag, BasicAckOptions { multiple: false }).await?;
    }
    Ok(())
}

/// Which tags are settled beyond the prefix. Tags of a channel count from 1 without gaps.
#[derive(Debug, Default)]
struct Ledger {
    /// Every tag up to here is settled.
    prefix: u64,
    /// Settled tags beyond the prefix; true where the broker was told already.
    beyond: BTreeMap<u64, bool>,
}

impl Ledger {
    fn note(&mut self, how: Settled) {
        let (tag, told) = match how {
            Settled::Acknowledged(tag) => (tag, false),
            Settled::Requeued(tag) => (tag, true),
        };
        self.beyond.insert(tag, told);
    }

    /// Moves the prefix forward, and returns the highest tag in it that the broker was not told of.
    /// Acknowledging a tag twice, even as part of `multiple`, would close the channel.
    fn take_prefix(&mut self) -> Option<u64> {
        let mut highest = None;
        while let Some(entry) = self.beyond.first_entry() {
            if *entry.key() != self.prefix + 1 {
                break;
            }
            let (tag, told) = entry.remove_entry();
            self.prefix = tag;
            if !told {
                highest = Some(tag);
            }
        }
        highest
    }

    fn has_tail(&self) -> bool {
        self.beyond.values().any(|told| !told)
    }

    fn take_tail(&mut self) -> Vec<u64> {
        let untold = self.beyond.iter_mut().filter(|(_, told)| !**told);
        untold
            .map(|(tag, told)| {
                *told = true;
                *tag
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Settled::{Acknowledged, Requeued},
        *,
    };

    fn ledger(settled: &[Settled]) -> Ledger {
        let mut ledger = Ledger::default();
        for how in settled {
            ledger.note(*how);
        }
        ledger
    }

    #[test]
    fn a_prefix_is_acknowledged_at_once() {
        let mut ledger = ledger(&[Acknowledged(2), Acknowledged(1), Acknowledged(4)]);
        assert_eq!(ledger.take_prefix(), Some(2));
        assert_eq!(ledger.take_prefix(), None, "3 is still running");
        assert!(ledger.has_tail());
        ledger.note(Acknowledged(3));
        assert_eq!(ledger.take_prefix(), Some(4));
        assert!(!ledger.has_tail());
    }

    #[test]
    fn nothing_is_acknowledged_twice() {
        let mut ledger = ledger(&[Acknowledged(2), Acknowledged(3), Requeued(5)]);
        assert_eq!(ledger.take_tail(), [2, 3]);
        assert!(ledger.take_tail().is_empty());
        ledger.note(Acknowledged(1));
        assert_eq!(ledger.take_prefix(), Some(1), "2 and 3 were told");
        ledger.note(Acknowledged(4));
        assert_eq!(ledger.take_prefix(), Some(4), "5 was given back");
        assert_eq!(ledger.prefix, 5);
    }

    #[test]
    fn a_prefix_of_told_tags_needs_no_word() {
        let mut ledger = ledger(&[Requeued(1), Requeued(2)]);
        assert_eq!(ledger.take_prefix(), None);
        assert_eq!(ledger.prefix, 2);
    }
}
