//! Reads the product and version that a broker reports before authentication.

use std::{fmt, sync::Arc};

use anyhow::{Context as _, bail};
use futures_util::io::{AsyncReadExt as _, AsyncWriteExt as _};
use lapin::{
    protocol::{AMQPClass, connection::AMQPMethod, parse_class},
    types::AMQPValue,
    uri::{AMQPScheme, AMQPUri},
};
use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use super::{
    connect::BrokerSettings,
    transport::{Transport, tls_config},
};

const PROTOCOL: &[u8] = b"AMQP\0\0\x09\x01";
/// Maximum size of a greeting; RabbitMQ's has some hundred bytes.
const MAX_GREETING_BYTES: u32 = 64 * 1024;

/// The product and version of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub product: String,
    pub version: String,
}

impl Server {
    /// Whether one message of any publisher can stop dead-lettering on the whole node until it is restarted. Seen on
    /// 3.10. 4.0 is not affected; the versions between them could not be tested, and count as affected.
    pub fn can_stop_dead_lettering(&self) -> bool {
        let mut numbers = self.version.split('.').map(|part| part.parse::<u32>().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(3), Some(minor)) => self.product == "RabbitMQ" && minor >= 10,
            _ => false,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.product, self.version)
    }
}

impl BrokerSettings {
    /// Reads the greeting of the first node, on a connection of its own.
    pub async fn server(&self) -> anyhow::Result<Server> {
        let url = self.urls.first().context("no amqp.url is configured")?;
        let uri: AMQPUri = url
            .expose_secret()
            .parse()
            .map_err(|e| anyhow::anyhow!("amqp.url is not a valid AMQP URL: {e}"))?;
        timeout(self.connect_timeout, self.greeting_of(&uri))
            .await
            .context("the broker sent no greeting in time")?
    }

    async fn greeting_of(&self, uri: &AMQPUri) -> anyhow::Result<Server> {
        let address = (uri.authority.host.as_str(), uri.authority.port);
        let mut stream = Transport::connect(tokio::net::lookup_host(address).await?.collect()).await?;
        if uri.scheme == AMQPScheme::AMQPS {
            let tls = Arc::new(tls_config(&self.authorities)?);
            stream = stream.into_tls(&uri.authority.host, tls).await?;
        }
        stream.write_all(PROTOCOL).await?;
        stream.flush().await?;
        let mut head = [0; 7];
        stream.read_exact(&mut head).await?;
        let [_, _, _, s3, s2, s1, s0] = head;
        let size = u32::from_be_bytes([s3, s2, s1, s0]);
        if size > MAX_GREETING_BYTES {
            bail!("the server is not an AMQP 0-9-1 broker");
        }
        let mut payload = vec![0; size as usize];
        stream.read_exact(&mut payload).await?;
        read(&payload)
    }
}

fn read(payload: &[u8]) -> anyhow::Result<Server> {
    let Ok((_, AMQPClass::Connection(AMQPMethod::Start(start)))) = parse_class(payload) else {
        bail!("the first answer of the server is not AMQP 0-9-1");
    };
    let text = |name: &str| match start.server_properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        _ => String::new(),
    };
    Ok(Server { product: text("product"), version: text("version") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_that_can_stop_dead_lettering_are_known() {
        for (version, affected) in [
            ("3.9.29", false),
            ("3.10.8", true),
            ("3.13.7", true),
            ("4.0.5", false),
            ("4.3.6", false),
            ("", false),
            ("3.x", false),
        ] {
            let server = Server { product: "RabbitMQ".to_owned(), version: version.to_owned() };
            assert_eq!(server.can_stop_dead_lettering(), affected, "{version}");
        }
    }
}
