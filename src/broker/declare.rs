//! Declares exchanges, queues and bindings, one at a time.

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

/// Timeout of a request that the broker should answer at once.
pub(super) const RPC_TIMEOUT: Duration = Duration::from_secs(20);
const PRECONDITION_FAILED: u16 = 406;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// An exchange or queue that exists with different arguments. It is used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentMismatch {
    pub name: String,
    /// The broker's message: the argument and both values.
    pub what: String,
}

/// The result of a declaration.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    pub mismatches: Vec<ArgumentMismatch>,
    /// Names that do not exist; filled only by an inspection.
    pub missing: Vec<String>,
}

/// Runs `rpc` with a timeout.
pub(super) async fn within<T>(rpc: impl Future<Output = lapin::Result<T>>) -> anyhow::Result<T> {
    match timeout(RPC_TIMEOUT, rpc).await {
        Ok(answer) => Ok(answer.map_err(BrokerError::from)?),
        Err(_) => anyhow::bail!("the broker did not answer within {RPC_TIMEOUT:?}"),
    }
}

/// Consumes `queue` with acknowledgements.
///
/// A request that timed out may still be carried out when the majority of the queue comes back, and lapin does not
/// close a channel that waits for such an answer. Nobody would settle the deliveries of that consumer, so this function
/// closes the channel.
pub(super) async fn consume(channel: &Channel, queue: &str) -> anyhow::Result<lapin::Consumer> {
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let result = within(channel.basic_consume(queue.into(), "".into(), options, arguments)).await;
    if result.is_err() {
        let channel = channel.clone();
        // In the background: the broker answers only after it has handled the earlier request.
        tokio::spawn(async move { channel.close(200, "not consumed".into()).await });
    }
    result
}

/// Declares one item at a time. A refusal closes the channel, so the next item uses a new one.
pub(super) struct Declarer<'a> {
    connection: &'a Connection,
    channel: Option<Channel>,
    /// Inspect only: create nothing.
    inspect_only: bool,
    declared: Declared,
}

impl<'a> Declarer<'a> {
    pub(super) const fn new(connection: &'a Connection) -> Self {
        let declared = Declared { mismatches: Vec::new(), missing: Vec::new() };
        Self { connection, channel: None, inspect_only: false, declared }
    }

    /// A declarer that compares what exists with the design, and creates nothing.
    pub(super) const fn inspecting(connection: &'a Connection) -> Self {
        let mut declarer = Self::new(connection);
        declarer.inspect_only = true;
        declarer
    }

    /// Closes the channel, and returns the result.
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
        if self.inspect_only {
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
        if self.inspect_only {
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
        if self.inspect_only {
            return Ok(());
        }
        let channel = self.channel().await?;
        let options = QueueBindOptions::default();
        within(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()))
            .await
            .with_context(|| format!("cannot bind the queue {queue} to {exchange}"))
    }

    pub(super) async fn bind_exchange(&mut self, to: &str, from: &str, key: &str) -> anyhow::Result<()> {
        if self.inspect_only {
            return Ok(());
        }
        let channel = self.channel().await?;
        let options = ExchangeBindOptions::default();
        within(channel.exchange_bind(to.into(), from.into(), key.into(), options, FieldTable::default()))
            .await
            .with_context(|| format!("cannot bind the exchange {to} to {from}"))
    }

    /// Whether a passive declaration found nothing; then records the name.
    fn is_missing(&mut self, name: &str, found: anyhow::Result<()>) -> anyhow::Result<bool> {
        let Err(error) = found else { return Ok(false) };
        self.channel = None;
        if !is_not_found(&error) {
            return Err(error.context(format!("cannot inspect {name}")));
        }
        self.declared.missing.push(name.to_owned());
        Ok(true)
    }

    /// 406: it exists with different arguments. Records that, and uses it as it is. (A limit of the virtual host has
    /// the same code, so the message is checked too.)
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
            _ => Err(error.context(format!("cannot declare {name}"))),
        }
    }
}
