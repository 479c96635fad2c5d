//! A delivery: a message, and the duty to settle it exactly once.

use bytes::Bytes;
use lapin::{BasicProperties, message::Delivery as RawDelivery};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    header::number_header,
    held::{Held, Part},
};

/// Where a quorum queue says how often it delivered a message before.
const COUNT: &str = "x-delivery-count";

/// One AMQP delivery.
pub struct Delivery {
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Bytes,
    /// It was delivered before, and not settled: its connection was lost, or it was given back.
    pub redelivered: bool,
    /// How often it was delivered before, as far as a quorum queue counts; 0 on a classic queue.
    pub earlier_deliveries: u32,
    pub ack: AckHandle,
}

/// The duty to settle one delivery. Dropped unsettled, by a panic or an abandoned task, it gives
/// the delivery back to the queue.
pub struct AckHandle {
    tag: u64,
    settled: UnboundedSender<Settled>,
    done: bool,
    _held: Part,
}

/// How a delivery was settled towards the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Acknowledged(u64),
    Requeued(u64),
}

impl Delivery {
    pub(super) fn new(raw: RawDelivery, settled: UnboundedSender<Settled>, held: &Held) -> Self {
        // A publisher can set this header too; the broker overwrites it once it has something to count.
        let counted =
            if raw.redelivered { number_header(raw.properties.headers().as_ref(), COUNT) } else { None };
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
    /// It is done with: the broker may forget it.
    pub fn acknowledge(mut self) {
        self.settle(Settled::Acknowledged(self.tag));
    }

    /// It is to be delivered again, to whoever comes first.
    pub fn requeue(mut self) {
        self.settle(Settled::Requeued(self.tag));
    }

    fn settle(&mut self, how: Settled) {
        self.done = true;
        // A closed channel means that the connection is lost: the broker delivers again anyway.
        let _ = self.settled.send(how);
    }
}

impl Drop for AckHandle {
    fn drop(&mut self) {
        if !self.done {
            self.settle(Settled::Requeued(self.tag));
        }
    }
}
