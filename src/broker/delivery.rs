//! A delivery: a message, and the handle that settles it exactly once.

use bytes::Bytes;
use lapin::{BasicProperties, message::Delivery as RawDelivery};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    header::number_header,
    held::{Held, Part},
};

/// The header in which a quorum queue counts earlier deliveries.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// One AMQP delivery.
pub struct Delivery {
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Bytes,
    /// It was delivered before and not acknowledged: its connection was lost, or it was requeued.
    pub redelivered: bool,
    /// Earlier deliveries, as a quorum queue counts them; 0 on a classic queue.
    pub earlier_deliveries: u32,
    pub ack: AckHandle,
}

/// Settles one delivery. A handle that is dropped unsettled, by a panic or an abandoned task, requeues the delivery.
pub struct AckHandle {
    tag: u64,
    settled: UnboundedSender<Settled>,
    done: bool,
    _held: Part,
}

/// How a delivery was settled, with its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Acknowledged(u64),
    Requeued(u64),
}

impl Delivery {
    pub(super) fn new(raw: RawDelivery, settled: UnboundedSender<Settled>, held: &Held) -> Self {
        // A publisher can set this header too; the broker overwrites it as soon as it has something to count.
        let counted = if raw.redelivered {
            number_header(raw.properties.headers().as_ref(), DELIVERY_COUNT)
        } else {
            None
        };
        let held = held.add(raw.data.len());
        Self {
            redelivered: raw.redelivered,
            earlier_deliveries: counted.and_then(|count| count.try_into().ok()).unwrap_or(0),
            exchange: raw.exchange.into(),
            routing_key: raw.routing_key.into(),
            properties: raw.properties,
            body: raw.data.into(),
            ack: AckHandle { tag: raw.delivery_tag, settled, done: false, _held: held },
        }
    }
}

impl AckHandle {
    /// Acknowledges the delivery: the broker deletes it.
    pub fn acknowledge(mut self) {
        self.settle(Settled::Acknowledged(self.tag));
    }

    /// Returns the delivery to its queue, for any consumer.
    pub fn requeue(mut self) {
        self.settle(Settled::Requeued(self.tag));
    }

    fn settle(&mut self, settlement: Settled) {
        self.done = true;
        // A closed channel means that the connection is lost: the broker redelivers anyway.
        let _ = self.settled.send(settlement);
    }
}

impl Drop for AckHandle {
    fn drop(&mut self) {
        if !self.done {
            self.settle(Settled::Requeued(self.tag));
        }
    }
}
