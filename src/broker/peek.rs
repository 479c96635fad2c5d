//! Looking at what waits in a queue, without taking it.
//!
//! A consumer is given messages and settles none; then its channel is closed, which puts them back. It counts
//! as a delivery, so only queues are looked at whose delivery limit is out of reach.
//!
//! Keeping their order takes more than that. A quorum queue hands out what was once given back before all others, and
//! puts what is given back behind what was given back before: a look at some of these would leave them behind
//! the rest. So they are all taken out, which ends with the first message that nobody had before, and put back
//! in the order in which they came. Nor are messages got one by one: each get is a consumer of its own, and
//! these are undone in the order of their names (1, 10, 11, 2). [Measured with RabbitMQ 3.10.]

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

/// Others may consume the queue too: what does not come within this does not come.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(1);
const RETURN_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Taken at a time, beyond what is looked at. Their bodies are not kept.
const FURTHER: u16 = 1000;
/// Taken at most, beyond what is looked at.
const MAX_MESSAGES: usize = 50_000;

/// What was seen.
pub struct Look {
    pub found: Vec<Delivery>,
    /// More had been given back before than could be taken out: these are behind them now.
    pub moved: bool,
}

/// Part of the queue, held by one channel.
struct Part {
    channel: Channel,
    taken: usize,
    /// The last of them had not been given to anybody before.
    fresh: bool,
}

/// Looks at the first `limit` messages of a queue of that depth.
///
/// # Errors
/// If there is no such queue, or the broker is lost: then it gives everything back by itself.
pub async fn peek(connection: &Connection, queue: &str, depth: Depth, limit: u16) -> anyhow::Result<Look> {
    let mut look = Look { found: Vec::new(), moved: false };
    // Nobody listens: these deliveries are settled by the end of their channel.
    let (unsettled, _) = mpsc::unbounded_channel();
    let (mut parts, mut left, mut size) = (Vec::new(), depth.messages as usize, limit);
    while left > 0 {
        let part = take(connection, queue, left, size, |raw| {
            if look.found.len() < limit.into() {
                look.found.push(Delivery::new(raw, unsettled.clone(), &Held::default()));
            }
        })
        .await
        .with_context(|| format!("looking into the queue {queue}"))?;
        let (whole, fresh) = (part.taken == usize::from(size), part.fresh);
        left -= part.taken.min(left);
        parts.push(part);
        if fresh || !whole {
            break;
        }
        if parts.iter().map(|part| part.taken).sum::<usize>() > MAX_MESSAGES {
            look.moved = true;
            break;
        }
        size = FURTHER;
    }
    let mut held: usize = parts.iter().map(|part| part.taken).sum();
    let deadline = Instant::now() + RETURN_TIMEOUT;
    for part in parts {
        within(part.channel.close(200, "peeked".into())).await.context("giving back what was looked at")?;
        held -= part.taken;
        back_again(connection, queue, depth, held, deadline).await?;
    }
    Ok(look)
}

/// Waits until all but what is `held` still is in the queue again. The end of a channel takes a moment to get there: what
/// the next part gives back must not be faster, and whoever looks next is to find everything. Where others consume, it may
/// never be.
async fn back_again(
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

/// Takes up to `size` of the `left` messages, and no more when it returns.
async fn take(
    connection: &Connection,
    queue: &str,
    left: usize,
    size: u16,
    mut each: impl FnMut(lapin::message::Delivery),
) -> anyhow::Result<Part> {
    let channel = within(connection.create_channel()).await?;
    within(channel.basic_qos(size, BasicQosOptions::default())).await?;
    let mut consumer = consume(&channel, queue).await?;
    let mut part = Part { channel, taken: 0, fresh: false };
    while part.taken < left.min(size.into()) {
        let Ok(Some(next)) = timeout(MESSAGE_TIMEOUT, consumer.next()).await else { break };
        let raw = next.map_err(BrokerError::from)?;
        (part.taken, part.fresh) = (part.taken + 1, !raw.redelivered);
        each(raw);
    }
    // Else what the other parts give back would come here.
    within(part.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default())).await?;
    Ok(part)
}
