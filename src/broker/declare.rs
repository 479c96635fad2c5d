//! Declaring exchanges, queues and bindings, one after the other.

use std::time::Duration;

use anyhow::Context as _;
use lapin::{
    Channel, Connection, ExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

use super::{connection::RPC_TIMEOUT, topology::Drift};

const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Nothing that is published vanishes because a queue was deleted.
pub(super) fn exchange_arguments(alternate: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), text(alternate));
    arguments
}

/// `rpc`, bounded in time.
pub(super) async fn within<T>(rpc: impl Future<Output = lapin::Result<T>>) -> anyhow::Result<T> {
    Ok(timeout(RPC_TIMEOUT, rpc)
        .await
        .map_err(|_| anyhow::anyhow!("the broker did not answer within {RPC_TIMEOUT:?}"))??)
}

/// Declares one thing after the other. A refusal closes the channel: the next goes on a new one.
pub(super) struct Declarer<'a> {
    connection: &'a Connection,
    channel: Option<Channel>,
    drifts: Vec<Drift>,
}

impl<'a> Declarer<'a> {
    pub(super) const fn new(connection: &'a Connection) -> Self {
        Self { connection, channel: None, drifts: Vec::new() }
    }

    /// What was found to exist otherwise.
    pub(super) async fn finish(self) -> Vec<Drift> {
        if let Some(channel) = self.channel {
            let _ = timeout(CLOSE_TIMEOUT, channel.close(200, "declared".into())).await;
        }
        self.drifts
    }

    async fn channel(&mut self) -> anyhow::Result<Channel> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let channel = within(self.connection.create_channel()).await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    pub(super) async fn exchange(
        &mut self,
        name: &str,
        kind: ExchangeKind,
        arguments: FieldTable,
    ) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared = within(channel.exchange_declare(name.into(), kind, options, arguments)).await;
        self.tolerate(name, declared)
    }

    pub(super) async fn queue(&mut self, name: &str, arguments: FieldTable) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = within(channel.queue_declare(name.into(), options, arguments)).await;
        self.tolerate(name, declared.map(drop))
    }

    pub(super) async fn bind_queue(&mut self, queue: &str, exchange: &str, key: &str) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        let options = QueueBindOptions::default();
        within(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()))
            .await
            .with_context(|| format!("binding the queue {queue} to {exchange}"))
    }

    pub(super) async fn bind_exchange(&mut self, to: &str, from: &str, key: &str) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        let options = ExchangeBindOptions::default();
        within(channel.exchange_bind(to.into(), from.into(), key.into(), options, FieldTable::default()))
            .await
            .with_context(|| format!("binding the exchange {to} to {from}"))
    }

    /// 406: it exists otherwise. That is told, and it is used as it is.
    fn tolerate(&mut self, name: &str, declared: anyhow::Result<()>) -> anyhow::Result<()> {
        let Err(error) = declared else { return Ok(()) };
        self.channel = None;
        let text = format!("{error:#}");
        if text.contains("PRECONDITION_FAILED") || text.contains("PRECONDITION-FAILED") {
            self.drifts.push(Drift { name: name.to_owned(), what: text });
            return Ok(());
        }
        Err(error.context(format!("declaring {name}")))
    }
}
