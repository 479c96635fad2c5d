//! Looking at what waits in a queue, without taking it.
//!
//! The messages are got and not settled, and then the channel is closed. That gives them back where they were,
//! in their order, on quorum and classic queues alike; `nack` would put them elsewhere. It counts as a delivery, which is
//! why only queues are looked at whose delivery limit is out of reach.

use anyhow::Context as _;
use lapin::{Connection, options::BasicGetOptions};
use tokio::sync::mpsc;

use super::{declare::within, delivery::Delivery};

/// What is looked at is held in memory: a thousand letters may be of a megabyte each.
const MAX_BYTES: usize = 64 << 20;

/// The first `limit` messages of a queue, in its order; fewer where they are very large.
///
/// # Errors
/// If there is no such queue, or the broker is lost: then it gives everything back by itself.
pub async fn peek(connection: &Connection, queue: &str, limit: usize) -> anyhow::Result<Vec<Delivery>> {
    let channel = within(connection.create_channel()).await?;
    // Nobody listens: these deliveries are settled by the end of the channel.
    let (unsettled, _) = mpsc::unbounded_channel();
    let (mut found, mut bytes) = (Vec::new(), 0);
    while found.len() < limit && bytes < MAX_BYTES {
        let got = within(channel.basic_get(queue.into(), BasicGetOptions { no_ack: false })).await;
        let Some(message) = got.with_context(|| format!("looking into the queue {queue}"))? else { break };
        let delivery = Delivery::new(message.delivery, unsettled.clone());
        bytes += delivery.body.len();
        found.push(delivery);
    }
    within(channel.close(200, "peeked".into())).await.context("giving back what was looked at")?;
    Ok(found)
}
