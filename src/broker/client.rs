//! Unsupervised AMQP operations: publish, read queue depths, watch results.
//!
//! A command that loses its connection fails with an error.

use anyhow::Context as _;
use futures_util::{StreamExt, TryStreamExt, stream};
use lapin::{
    Channel, Confirmation, Connection, Consumer,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};

use super::{
    declare::within,
    error::{BrokerError, is_not_found},
    names::Names,
    publisher::Outgoing,
};
use crate::domain::{event::EventName, execution::Execution};

const WINDOW: usize = 256;

/// The ready messages of a queue, and the number of its consumers.
#[derive(Clone, Copy, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Depth {
    pub messages: u32,
    pub consumers: u32,
}

/// The depth of a queue; `None` if it does not exist.
pub async fn queue_depth(connection: &Connection, queue: &str) -> anyhow::Result<Option<Depth>> {
    depth_of(connection, &mut None, queue).await
}

/// Reads the depth of one queue on `channel`, or opens one. A missing queue closes the channel, so the next call opens
/// another.
pub(super) async fn depth_of(
    connection: &Connection,
    channel: &mut Option<Channel>,
    queue: &str,
) -> anyhow::Result<Option<Depth>> {
    let open = match channel.take() {
        Some(open) => open,
        None => within(connection.create_channel()).await?,
    };
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match within(open.queue_declare(queue.into(), options, FieldTable::default())).await {
        Ok(declared) => {
            *channel = Some(open);
            Ok(Some(Depth { messages: declared.message_count(), consumers: declared.consumer_count() }))
        }
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error.context(format!("cannot read the depth of the queue {queue}"))),
    }
}

/// Publishes every message and waits for every confirm, calling `confirmed` for each.
pub async fn publish_all(
    connection: &Connection,
    messages: impl Iterator<Item = Outgoing>,
    mut confirmed: impl FnMut(),
) -> anyhow::Result<()> {
    let channel = within(connection.create_channel()).await?;
    within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let mut publishes =
        stream::iter(messages).map(|message| publish_one(&channel, message)).buffer_unordered(WINDOW);
    while publishes.try_next().await?.is_some() {
        confirmed();
    }
    Ok(())
}

async fn publish_one(channel: &Channel, message: Outgoing) -> anyhow::Result<()> {
    let Outgoing { exchange, routing_key, properties, body } = message;
    let (exchange, key) = (exchange.as_str().into(), routing_key.as_str().into());
    let options = BasicPublishOptions::default();
    let confirm = within(channel.basic_publish(exchange, key, options, &body, properties)).await?;
    match within(confirm).await? {
        Confirmation::Nack(_) => anyhow::bail!("the broker refused the message: it could not be stored"),
        Confirmation::Ack(_) | Confirmation::NotRequested => Ok(()),
    }
}

/// Publishes one message at a time, each confirmed before the next.
pub struct OneByOne(Channel);

impl OneByOne {
    pub async fn open(connection: &Connection) -> anyhow::Result<Self> {
        let channel = within(connection.create_channel()).await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self(channel))
    }

    /// # Errors
    /// The broker may or may not have the message. Open another `OneByOne` to publish more.
    pub async fn publish(&mut self, message: Outgoing) -> anyhow::Result<()> {
        publish_one(&self.0, message).await
    }
}

/// Receives the execution results of some event types, as they are published from now on.
pub struct ResultWatch {
    consumer: Consumer,
    /// The auto-delete queue lives as long as this channel.
    _channel: Channel,
}

impl ResultWatch {
    pub async fn open(connection: &Connection, names: &Names, events: &[EventName]) -> anyhow::Result<Self> {
        let channel = within(connection.create_channel()).await?;
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let name = names.watch();
        let name = name.as_str();
        within(channel.queue_declare(name.into(), options, FieldTable::default())).await?;
        let exchange = names.results();
        for event in events {
            let bound = channel.queue_bind(
                name.into(),
                exchange.as_str().into(),
                format!("{event}.*").as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            within(bound).await.with_context(|| format!("cannot watch the exchange {exchange}"))?;
        }
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let consumer =
            within(channel.basic_consume(name.into(), "".into(), options, FieldTable::default())).await?;
        Ok(Self { consumer, _channel: channel })
    }

    /// The next result. Skips messages that are not execution results.
    pub async fn next(&mut self) -> anyhow::Result<Execution> {
        loop {
            let next = self.consumer.next().await.context("the broker cancelled the results consumer")?;
            if let Ok(execution) = serde_json::from_slice(&next.map_err(BrokerError::from)?.data) {
                return Ok(execution);
            }
        }
    }
}
