//! Section `amqp`: where RabbitMQ is, and what everything on it is called.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    reader::Reader,
    value::{duration, list, path_or_none, text, word},
};
use crate::domain::text_enum::text_enum;

/// Section `amqp`.
#[derive(Clone, Debug)]
pub struct Amqp {
    /// The nodes of one cluster; at least one.
    pub urls: Vec<AmqpUrl>,
    pub prefix: String,
    pub queue_type: QueueType,
    pub heartbeat: Duration,
    pub connect_timeout: Duration,
    pub ca_file: Option<PathBuf>,
}

text_enum! {
    /// The kind of every queue.
    QueueType { Quorum = "quorum", Classic = "classic" }
}

/// The address of one node. Shown without its password.
#[derive(Clone, Debug)]
pub struct AmqpUrl {
    url: SecretString,
    masked: String,
}

impl AmqpUrl {
    /// With its password, for the connection.
    pub const fn secret(&self) -> &SecretString {
        &self.url
    }
}

impl FromStr for AmqpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be amqp:// or amqps:// with a host, as amqp://user:password@host:5672/%2f";
        let mut url = Url::parse(text).map_err(|error| format!("{FORM} ({error})"))?;
        if !matches!(url.scheme(), "amqp" | "amqps") || !url.has_host() {
            return Err(FORM.to_owned());
        }
        let secret = SecretString::from(text);
        if secret.expose_secret().contains('?') {
            return Err(
                "takes no parameters after a ?: amqp.heartbeat and amqp.connect_timeout are keys".to_owned()
            );
        }
        if url.password().is_some() {
            url.set_password(Some("***")).map_err(|()| FORM.to_owned())?;
        }
        Ok(Self { url: secret, masked: url.to_string() })
    }
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked)
    }
}

impl Amqp {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let urls = reader.get_masked_list("amqp.url", |value| {
            let urls = list(str::parse)(value)?;
            if urls.is_empty() { Err("must name at least one node".to_owned()) } else { Ok(urls) }
        });
        let prefix = reader.get("amqp.prefix", |value| prefix(text(value)?));
        let queue_type = reader.get("amqp.queue_type", word);
        let heartbeat = reader.get("amqp.heartbeat", |value| {
            let heartbeat = duration(Duration::from_secs(1)..=Duration::from_mins(10))(value)?;
            if heartbeat.subsec_nanos() == 0 {
                Ok(heartbeat)
            } else {
                Err("must be whole seconds".to_owned())
            }
        });
        let timeout = duration(Duration::from_millis(100)..=Duration::from_mins(5));
        let connect_timeout = reader.get("amqp.connect_timeout", timeout);
        let ca_file = reader.get("amqp.ca_file", path_or_none);
        Some(Self {
            urls: urls?,
            prefix: prefix?,
            queue_type: queue_type?,
            heartbeat: heartbeat?,
            connect_timeout: connect_timeout?,
            ca_file: ca_file?,
        })
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if (1..=60).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 60 of A-Z a-z 0-9 _ . -".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_checked_and_its_password_masked() {
        let url: AmqpUrl = "amqps://u:s3cret@mq.example:5671/%2f".parse().expect("valid");
        assert_eq!(url.to_string(), "amqps://u:***@mq.example:5671/%2f");
        assert!(!format!("{url:?}").contains("s3cret"));
        for bad in ["", "http://h/", "amqp:/x", "127.0.0.1:5672", "amqp://u:s3cret@h/?heartbeat=3"] {
            let error = bad.parse::<AmqpUrl>().expect_err(bad);
            assert!(!error.contains("s3cret"));
        }
    }
}
