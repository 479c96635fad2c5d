//! The delay ladder: a copy waits in the broker for any whole number of seconds up to 2^20 - 1.
//!
//! Level *n* is a topic exchange and a queue whose messages expire after 2^n seconds. The routing key spells the delay
//! in 20 bits, the highest first, followed by the event name. At level *n* a 1 routes the copy through the queue of the
//! level, and a 0 past it; both lead to level *n* - 1. After level 0 the copy reaches the exchange `deliver`, which
//! routes it by the event name into the queue of that event only.
//!
//! The arguments of these queues are part of the protocol between versions of provisiond. If you change one, change the
//! `v1` in the names.

use std::time::Duration;

use lapin::{ExchangeKind, types::AMQPValue};

use super::{
    declare::Declarer,
    names::{Names, exchange_arguments},
};
use crate::{
    config::QueueType,
    domain::{event::EventName, retry::MAX_DELAY},
};

/// The number of levels: delays are numbers of this many bits.
pub(super) const LEVELS: u32 = 20;

/// Where a copy enters the ladder, and the routing key that it keeps to the end.
pub(super) struct Entry {
    pub exchange: String,
    pub routing_key: String,
}

/// Where a copy enters the ladder to reach the queue of `event` after `delay`, in whole seconds.
pub(super) fn entry(names: &Names, event: &EventName, delay: Duration) -> Entry {
    let seconds = delay.min(MAX_DELAY).as_secs();
    let mut routing_key = String::with_capacity(2 * LEVELS as usize + event.as_str().len());
    for level in (0..LEVELS).rev() {
        routing_key.push_str(if seconds >> level & 1 == 1 { "1." } else { "0." });
    }
    routing_key.push_str(event.as_str());
    // Enter at the highest 1, which skips the exchanges above it.
    let exchange = match seconds.checked_ilog2() {
        Some(level) => names.delay_level(level),
        None => names.delay_deliver(),
    };
    Entry { exchange, routing_key }
}

/// The binding that routes a copy out of the ladder into the queue of `event`: exactly 20 words and then the name.
/// `#.create` would also match longer names with the same ending.
pub(super) fn delivery_binding(event: &EventName) -> String {
    "*.".repeat(LEVELS as usize) + event.as_str()
}

/// Declares the whole ladder.
pub(super) async fn declare(
    declarer: &mut Declarer<'_>,
    names: &Names,
    queue_type: QueueType,
) -> anyhow::Result<()> {
    let alternate = || exchange_arguments(&names.unrouted());
    declarer.exchange(&names.delay_deliver(), ExchangeKind::Topic, alternate()).await?;
    let mut below = names.delay_deliver();
    for level in 0..LEVELS {
        let name = names.delay_level(level);
        declarer.exchange(&name, ExchangeKind::Topic, alternate()).await?;
        let mut arguments = queue_type.dead_lettering_arguments(&below);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(1000 << level));
        declarer.queue(&name, arguments).await?;
        let skipped = "*.".repeat((LEVELS - 1 - level) as usize);
        declarer.bind_queue(&name, &name, &format!("{skipped}1.#")).await?;
        declarer.bind_exchange(&below, &name, &format!("{skipped}0.#")).await?;
        below = name;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_spells_the_delay_in_twenty_bits() {
        let names = Names::new("p");
        let event: EventName = "clients.create".parse().expect("valid");
        let entry_after = |s| entry(&names, &event, Duration::from_secs(s));
        assert_eq!(entry_after(0).exchange, "p.delay.v1.deliver");
        assert_eq!(entry_after(0).routing_key, "0.".repeat(20) + "clients.create");
        assert_eq!(entry_after(1).exchange, "p.delay.v1.level-0");
        assert_eq!(entry_after(5).exchange, "p.delay.v1.level-2");
        assert_eq!(entry_after(5).routing_key, "0.".repeat(17) + "1.0.1.clients.create");
        assert_eq!(entry_after(u64::MAX).routing_key, "1.".repeat(20) + "clients.create");
        let longest: EventName = "x".repeat(EventName::MAX_BYTES).parse().expect("valid");
        assert!(entry(&names, &longest, Duration::ZERO).routing_key.len() <= 255);
    }
}
