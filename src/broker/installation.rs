//! The mark on the broker that says which installation owns the prefix.
//!
//! Two installations that share a prefix by mistake would each take half of the other's events. So an installation
//! declares an exchange to which nothing is ever published. The exchange carries the installation's id in the only
//! exchange argument that RabbitMQ compares: an alternate exchange, which does not exist. RabbitMQ refuses a
//! declaration with another id.

use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use lapin::{
    Channel, Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, ExchangeDeleteOptions},
    types::FieldTable,
};
use uuid::Uuid;

use super::{
    connect::BrokerSettings,
    declare::within,
    error::{is_not_found, reply},
    names::{Names, exchange_arguments},
};

const PRECONDITION_FAILED: u16 = 406;
/// Characters of an id in the mark and in messages.
const ID_LENGTH: usize = 12;

/// The installation of this process, once its id is known.
#[derive(Clone, Debug, Default)]
pub struct Installation(Arc<OnceLock<Uuid>>);

/// The prefix belongs to another installation.
#[derive(Debug, thiserror::Error)]
#[error(
    "every exchange and queue named {prefix}.* in this virtual host belongs to {}, but this database belongs to installation {ours}: \
     events would be divided between the two. Use another amqp.prefix, virtual host or database for one of them. If this \
     database replaces that of the other installation, which is no longer used, run: provisiond take-over",
    self.other()
)]
pub struct OtherInstallation {
    prefix: String,
    ours: String,
    other: Option<String>,
}

impl OtherInstallation {
    /// The other owner, as named in messages.
    pub fn other(&self) -> String {
        self.other.as_ref().map_or_else(|| "an unknown owner".to_owned(), |id| format!("installation {id}"))
    }
}

/// Who owns a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Ours,
    /// No installation owns it yet.
    Nobodys,
}

impl Installation {
    /// Sets the id. Later calls in the same process change nothing.
    pub fn set(&self, id: Uuid) {
        let _ = self.0.set(id);
    }

    pub fn get(&self) -> Option<Uuid> {
        self.0.get().copied()
    }
}

impl Names {
    /// The exchange that is the mark. Broker users already have the rights to this name, which `publish --wait` needs
    /// too.
    fn installation(&self) -> String {
        format!("{}.watch.installation", self.prefix())
    }

    /// The alternate exchange of the mark, with a shortened id. RabbitMQ cuts its refusal after 255 bytes, and the id
    /// is still long enough to distinguish installations.
    fn installation_of(&self, id: Uuid) -> String {
        format!("{}.watch.{}", self.prefix(), short(id))
    }
}

/// Marks the prefix as owned by installation `id`.
///
/// # Errors
/// [`OtherInstallation`], or an error of the broker.
pub(super) async fn mark(connection: &Connection, names: &Names, id: Uuid) -> anyhow::Result<()> {
    let channel = within(connection.create_channel()).await?;
    declare(&channel, names, id).await?;
    let _ = within(channel.close(200, "marked".into())).await;
    Ok(())
}

/// Reads the mark, and creates none.
///
/// # Errors
/// As for [`mark`].
pub async fn look_at_mark(connection: &Connection, names: &Names, id: Uuid) -> anyhow::Result<Mark> {
    let channel = within(connection.create_channel()).await?;
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let name = names.installation();
    let declared =
        channel.exchange_declare(name.as_str().into(), ExchangeKind::Fanout, passive, FieldTable::default());
    match within(declared).await {
        Ok(()) => declare(&channel, names, id).await.map(|()| Mark::Ours),
        Err(error) if is_not_found(&error) => Ok(Mark::Nobodys),
        Err(error) => Err(error.context(format!("cannot inspect the exchange {name}"))),
    }
}

impl BrokerSettings {
    /// Like [`BrokerSettings::dial`], for a caller that changes data of installation `id`.
    ///
    /// # Errors
    /// [`OtherInstallation`], or as for [`BrokerSettings::dial`].
    pub async fn dial_for(&self, id: Option<Uuid>, purpose: &str) -> anyhow::Result<Connection> {
        let connection = self.dial(purpose).await?;
        if let Some(id) = id {
            look_at_mark(&connection, &self.topology.names, id).await?;
        }
        Ok(connection)
    }
}

/// Marks the prefix as owned by installation `id`, whoever owned it before.
///
/// # Errors
/// Errors of the broker.
pub async fn take_over(connection: &Connection, names: &Names, id: Uuid) -> anyhow::Result<()> {
    let channel = within(connection.create_channel()).await?;
    let name = names.installation();
    within(channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()))
        .await
        .with_context(|| format!("cannot delete the exchange {name}"))?;
    declare(&channel, names, id).await
}

async fn declare(channel: &Channel, names: &Names, id: Uuid) -> anyhow::Result<()> {
    let name = names.installation();
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let arguments = exchange_arguments(&names.installation_of(id));
    let declared = channel.exchange_declare(name.as_str().into(), ExchangeKind::Fanout, options, arguments);
    let Err(error) = within(declared).await else { return Ok(()) };
    match reply(&error) {
        Some(reply) if reply.get_id() == PRECONDITION_FAILED => {
            let (prefix, ours) = (names.prefix().to_owned(), short(id));
            let other = other_in(reply.get_message().as_str(), &prefix, &ours);
            Err(OtherInstallation { prefix, ours, other }.into())
        }
        _ => Err(error.context(format!("cannot declare the exchange {name}"))),
    }
}

/// The name of an installation in messages: the beginning of its id.
pub fn short(id: Uuid) -> String {
    let mut id = id.simple().to_string();
    id.truncate(ID_LENGTH);
    id
}

/// The other id in RabbitMQ's refusal.
fn other_in(message: &str, prefix: &str, ours: &str) -> Option<String> {
    let marker = format!("'{prefix}.watch.");
    let ids = message
        .match_indices(&marker)
        .filter_map(|(start, _)| message.get(start + marker.len()..)?.get(..ID_LENGTH));
    ids.filter(|id| id.bytes().all(|b| b.is_ascii_hexdigit())).find(|id| *id != ours).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_installation_is_read_from_the_refusal() {
        let message = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'p.watch.installation' in vhost '/': \
            received 'p.watch.0123456789ab' but current is 'p.watch.ba9876543210'";
        assert_eq!(other_in(message, "p", "0123456789ab").as_deref(), Some("ba9876543210"));
        assert_eq!(
            other_in("received 'p.watch.0123456789ab' but current is none", "p", "0123456789ab"),
            None
        );
        assert_eq!(short(Uuid::from_u128(0x0123_4567_89ab_cdef << 64)), "0123456789ab");
    }
}
