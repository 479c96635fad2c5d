//! Declaring exchanges, queues and bindings, one after the other.

use std::time::Duration;

use anyhow::Context as _;
use lapin::{
    Channel, Connection, ExchangeKind,
    options::{
        BasicConsumeOptions, ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::time::timeout;

use super::error::{BrokerError, is_not_found, reply};

/// Every request to the broker that should answer at once is given this long.
pub(super) const RPC_TIMEOUT: Duration = Duration::from_secs(20);
const PRECONDITION_FAILED: u16 = 406;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Something that exists otherwise than it would be declared; it is used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentMismatch {
    pub name: String,
    /// What the broker says: the argument and both values.
    pub what: String,
}

/// What a declaration found.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    pub mismatches: Vec<ArgumentMismatch>,
    /// Names of what is not there, where it was only looked for.
    pub missing: Vec<String>,
}

/// `rpc`, bounded in time.
pub(super) async fn within<T>(rpc: impl Future<Output = lapin::Result<T>>) -> anyhow::Result<T> {
    match timeout(RPC_TIMEOUT, rpc).await {
        Ok(answer) => Ok(answer.map_err(BrokerError::from)?),
        Err(_) => anyhow::bail!("the broker did not answer within {RPC_TIMEOUT:?}"),
    }
}

/// Consumes `queue` with acknowledgements.
///
/// A request that is not answered in time may still be carried out, by a queue whose majority comes back; and lapin closes
/// no channel that waits for such an answer. What that consumer were given nobody would ever settle, so the channel is closed.
pub(super) async fn consume(channel: &Channel, queue: &str) -> anyhow::Result<lapin::Consumer> {
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let begun = within(channel.basic_consume(queue.into(), "".into(), options, arguments)).await;
    if begun.is_err() {
        let channel = channel.clone();
        // The broker answers once it is done with the request; nobody has to wait for that.
        tokio::spawn(async move { channel.close(200, "not consumed".into()).await });
    }
    begun
}

/// Declares one thing after the other. A refusal closes the channel: the next goes on a new one.
pub(super) struct Declarer<'a> {
    connection: &'a Connection,
    channel: Option<Channel>,
    /// Look only: nothing that is missing is made.
    only_look: bool,
    declared: Declared,
}

impl<'a> Declarer<'a> {
    pub(super) const fn new(connection: &'a Connection) -> Self {
        let declared = Declared { mismatches: Vec::new(), missing: Vec::new() };
        Self { connection, channel: None, only_look: false, declared }
    }

    /// One that compares what is there with how it would be declared, and makes nothing.
    pub(super) const fn looking(connection: &'a Connection) -> Self {
        let mut declarer = Self::new(connection);
        declarer.only_look = true;
        declarer
    }

    /// What was found.
    pub(super) async fn finish(self) -> Declared {
        if let Some(channel) = self.channel {
            let _ = timeout(CLOSE_TIMEOUT, channel.close(200, "declared".into())).await;
        }
        self.declared
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
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let passive = ExchangeDeclareOptions { passive: true, ..options };
        if self.only_look {
            let channel = self.channel().await?;
            let found = channel.exchange_declare(name.into(), kind.clone(), passive, FieldTable::default());
            if self.is_missing(name, within(found).await)? {
                return Ok(());
            }
        }
        let channel = self.channel().await?;
        let declared = within(channel.exchange_declare(name.into(), kind, options, arguments)).await;
        self.tolerate(name, declared)
    }

    pub(super) async fn queue(&mut self, name: &str, arguments: FieldTable) -> anyhow::Result<()> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let passive = QueueDeclareOptions { passive: true, ..options };
        if self.only_look {
            let channel = self.channel().await?;
            let found = within(channel.queue_declare(name.into(), passive, FieldTable::default())).await;
            if self.is_missing(name, found.map(drop))? {
                return Ok(());
            }
        }
        let channel = self.channel().await?;
        let declared = within(channel.queue_declare(name.into(), options, arguments)).await;
        self.tolerate(name, declared.map(drop))
    }

    pub(super) async fn bind_queue(&mut self, queue: &str, exchange: &str, key: &str) -> anyhow::Result<()> {
        if self.only_look {
            return Ok(());
        }
        let channel = self.channel().await?;
        let options = QueueBindOptions::default();
        within(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()))
            .await
            .with_context(|| format!("binding the queue {queue} to {exchange}"))
    }

    pub(super) async fn bind_exchange(&mut self, to: &str, from: &str, key: &str) -> anyhow::Result<()> {
        if self.only_look {
            return Ok(());
        }
        let channel = self.channel().await?;
        let options = ExchangeBindOptions::default();
        within(channel.exchange_bind(to.into(), from.into(), key.into(), options, FieldTable::default()))
            .await
            .with_context(|| format!("binding the exchange {to} to {from}"))
    }

    /// Whether a passive declaration found nothing.
    fn is_missing(&mut self, name: &str, found: anyhow::Result<()>) -> anyhow::Result<bool> {
        let Err(error) = found else { return Ok(false) };
        self.channel = None;
        if !is_not_found(&error) {
            return Err(error.context(format!("looking at {name}")));
        }
        self.declared.missing.push(name.to_owned());
        Ok(true)
    }

    /// It exists otherwise: that is told, and it is used as it is. (A limit of the virtual host has the same code, 406.)
    fn tolerate(&mut self, name: &str, declared: anyhow::Result<()>) -> anyhow::Result<()> {
        let Err(error) = declared else { return Ok(()) };
        self.channel = None;
        match reply(&error) {
            Some(reply)
                if reply.get_id() == PRECONDITION_FAILED
                    && reply.get_message().as_str().contains("inequivalent arg") =>
            {
                self.declared
                    .mismatches
                    .push(ArgumentMismatch { name: name.to_owned(), what: reply.get_message().to_string() });
                Ok(())
            }
            _ => Err(error.context(format!("declaring {name}"))),
        }
    }
}
