//! Reads the messages that wait in a queue, without removing them.
//!
//! A consumer receives messages and settles none. Then its channel is closed, which requeues them. This counts as a
//! delivery, so peek only into queues whose delivery limit is out of reach.
//!
//! Keeping the order of the messages needs more. A quorum queue delivers requeued messages before all others, and puts
//! a requeued message behind those that were requeued before. A peek at some of the requeued messages would leave them
//! behind the rest. So all of them are taken, up to the first message that was never delivered before, and requeued in
//! the order in which they arrived. `basic.get` cannot be used: each get is a consumer of its own, and RabbitMQ
//! requeues their messages in the order of the consumers' names (1, 10, 11, 2). Measured with RabbitMQ 3.10.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection,
    options::{BasicCancelOptions, BasicQosOptions},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::{
    client::{Depth, queue_depth},
    declare::{consume, within},
    delivery::Delivery,
    error::BrokerError,
    held::Held,
};

/// How long to wait for the next message. Another consumer may have taken it.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(1);
const RETURN_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Messages taken at a time beyond the limit. Their bodies are not kept.
const NEXT_BATCH: u16 = 1000;
/// Once more than this many messages are taken, no more are.
const MAX_MESSAGES: usize = 50_000;

/// The result of a peek.
pub struct PeekResult {
    pub deliveries: Vec<Delivery>,
    /// There were more requeued messages than could be taken: the taken ones are behind them now.
    pub moved: bool,
}

/// Messages of the queue, held by one channel.
struct Part {
    channel: Channel,
    taken: usize,
    /// The last of them was never delivered before.
    fresh: bool,
}

/// Reads the first `limit` messages of a queue of that depth.
///
/// # Errors
/// If the queue does not exist, or the connection is lost; then the broker requeues everything by itself.
pub async fn peek(
    connection: &Connection,
    queue: &str,
    depth: Depth,
    limit: u16,
) -> anyhow::Result<PeekResult> {
    let mut result = PeekResult { deliveries: Vec::new(), moved: false };
    // Nobody receives: these deliveries are settled by the end of their channel.
    let (unsettled, _) = mpsc::unbounded_channel();
    let (mut parts, mut left, mut size) = (Vec::new(), depth.messages as usize, limit);
    while left > 0 {
        let part = take(connection, queue, left, size, |raw| {
            if result.deliveries.len() < limit.into() {
                result.deliveries.push(Delivery::new(raw, unsettled.clone(), &Held::default()));
            }
        })
        .await
        .with_context(|| format!("cannot read messages of the queue {queue}"))?;
        let (is_full, fresh) = (part.taken == usize::from(size), part.fresh);
        left -= part.taken.min(left);
        parts.push(part);
        if fresh || !is_full {
            break;
        }
        if parts.iter().map(|part| part.taken).sum::<usize>() > MAX_MESSAGES {
            result.moved = true;
            break;
        }
        size = NEXT_BATCH;
    }
    let mut held: usize = parts.iter().map(|part| part.taken).sum();
    let deadline = Instant::now() + RETURN_TIMEOUT;
    for part in parts {
        within(part.channel.close(200, "peeked".into())).await.context("cannot requeue the messages")?;
        held -= part.taken;
        wait_until_requeued(connection, queue, depth, held, deadline).await?;
    }
    Ok(result)
}

/// Waits until everything except the `held` messages is in the queue again. The end of a channel takes effect with a
/// delay. The messages of the next part must not arrive before those of this one, and the next peek must find all
/// messages. If others consume the queue, the count may never be reached, so this does not wait.
async fn wait_until_requeued(
    connection: &Connection,
    queue: &str,
    before: Depth,
    held: usize,
    deadline: Instant,
) -> anyhow::Result<()> {
    while before.consumers == 0 && Instant::now() < deadline {
        match queue_depth(connection, queue).await? {
            Some(now) if (now.messages as usize) + held < before.messages as usize => {
                sleep(POLL_INTERVAL).await;
            }
            _ => break,
        }
    }
    Ok(())
}

/// Takes up to `size` of the `left` messages, then cancels its consumer.
async fn take(
    connection: &Connection,
    queue: &str,
    left: usize,
    size: u16,
    mut on_message: impl FnMut(lapin::message::Delivery),
) -> anyhow::Result<Part> {
    let channel = within(connection.create_channel()).await?;
    within(channel.basic_qos(size, BasicQosOptions::default())).await?;
    let mut consumer = consume(&channel, queue).await?;
    let mut part = Part { channel, taken: 0, fresh: false };
    while part.taken < left.min(size.into()) {
        let Ok(Some(next)) = timeout(MESSAGE_TIMEOUT, consumer.next()).await else { break };
        let raw = next.map_err(BrokerError::from)?;
        (part.taken, part.fresh) = (part.taken + 1, !raw.redelivered);
        on_message(raw);
    }
    // Otherwise this consumer would receive what the other parts requeue.
    within(part.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default())).await?;
    Ok(part)
}
