//! Section `amqp`.

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::{
    reader::Reader,
    value::{duration, list, path_or_none, text, word},
};
use crate::domain::text_enum::text_enum;

/// Where the broker is, and what everything there is called.
#[derive(Clone, Debug)]
pub struct Amqp {
    /// The nodes of one cluster, to be tried in turn. At least one; all name the same virtual host.
    pub urls: Vec<AmqpUrl>,
    /// The beginning of every name.
    pub prefix: String,
    pub queue_type: QueueType,
    /// Whole seconds.
    pub heartbeat: Duration,
    /// For one attempt to reach one node.
    pub connect_timeout: Duration,
    /// CA certificates (PEM) that TLS trusts beside those of the system.
    pub ca_file: Option<PathBuf>,
}

text_enum! {
    /// The kind of every queue of ours.
    QueueType {
        Quorum = "quorum",
        /// On a single node only: no crash limit, at most once between the levels of the ladder.
        Classic = "classic",
    }
}

/// The url of a node: `amqp` or `amqps`, with a host, no parameters. `Display` and `Debug` mask the
/// password.
#[derive(Clone)]
pub struct AmqpUrl {
    raw: SecretString,
    masked: String,
    tls: bool,
    vhost: String,
}

impl Amqp {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let seconds = Duration::from_secs;
        let amqp = Self {
            urls: reader.get_masked_list("amqp.url", |value| {
                let urls = list(AmqpUrl::parse)(value)?;
                if urls.is_empty() { Err("must name at least one url".into()) } else { Ok(urls) }
            })?,
            prefix: reader.get("amqp.prefix", |value| prefix(text(value)?))?,
            queue_type: reader.get("amqp.queue_type", word)?,
            heartbeat: reader.get("amqp.heartbeat", |value| {
                let heartbeat = duration(seconds(1)..=seconds(600))(value)?;
                let whole = heartbeat.subsec_nanos() == 0;
                if whole { Ok(heartbeat) } else { Err("must be whole seconds, 1s to 10m".into()) }
            })?,
            connect_timeout: reader
                .get("amqp.connect_timeout", duration(Duration::from_millis(100)..=seconds(300)))?,
            ca_file: reader.get("amqp.ca_file", path_or_none)?,
        };
        if amqp.ca_file.is_some() && !amqp.urls.iter().any(AmqpUrl::is_tls) {
            reader.clash("amqp.ca_file", "amqp.url", "has no use: no url begins with amqps://");
        }
        if amqp.urls.windows(2).any(|pair| matches!(pair, [a, b] if a.vhost != b.vhost)) {
            let problem = "the urls must name the same virtual host: they are the nodes of one cluster";
            reader.refuse("amqp.url", problem.into());
        }
        Some(amqp)
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if (1..=60).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to 60 of A-Z a-z 0-9 _ . -, not {text:?}"))
    }
}

impl AmqpUrl {
    /// With the password: for the connection only.
    pub fn raw(&self) -> &str {
        self.raw.expose_secret()
    }

    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// No error repeats the text, which may hold a password.
    fn parse(text: &str) -> Result<Self, String> {
        let form = "an url is amqp://user:password@host:5672/vhost";
        let mut url = Url::parse(text)
            .map_err(|e| format!("{form}; what is special is written with % (: %3A, / %2F, @ %40): {e}"))?;
        let tls = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(format!("{form}, or amqps://")),
        };
        match url.host() {
            None => return Err(format!("{form}; this one has no host")),
            // The client library would connect to localhost in its place.
            Some(Host::Ipv6(_)) => {
                return Err("an IPv6 address is not possible here: give a host name".into());
            }
            Some(_) => {}
        }
        if url.path() == "/" {
            return Err("ends in /, which names a virtual host \"\"; the default one is /%2f".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must have no ?parameters and no #: there are amqp.heartbeat, \
                amqp.connect_timeout and amqp.ca_file (? is written %3F, # is %23)"
                .into());
        }
        let raw = SecretString::from(text);
        let vhost = url.path().to_ascii_lowercase();
        if url.password().is_some() {
            url.set_password(Some("***")).map_err(|()| form.to_owned())?;
        }
        Ok(Self { raw, masked: url.into(), tls, vhost })
    }
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked)
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_all_but_its_password() {
        for (text, masked) in [
            ("amqp://guest:guest@127.0.0.1:5672/%2f", "amqp://guest:***@127.0.0.1:5672/%2f"),
            ("amqps://u:p%40s@mq.example", "amqps://u:***@mq.example"),
            ("amqp://mq.example:5673/billing", "amqp://mq.example:5673/billing"),
        ] {
            let url = AmqpUrl::parse(text).expect(text);
            assert_eq!((url.raw(), url.to_string().as_str()), (text, masked));
            assert_eq!(format!("{url:?}"), masked);
            assert_eq!(url.is_tls(), text.starts_with("amqps"));
        }
    }

    #[test]
    fn a_bad_url_is_refused_without_showing_it() {
        for (text, told) in [
            ("", "relative URL"),
            ("mq.example:5672", "amqp://user:password@host"),
            ("http://u:hunter2@h/", "amqps://"),
            ("amqp://u:hunter2@", "empty host"),
            ("amqp:///x", "no host"),
            ("amqp://u:hunter2@[::1]/x", "IPv6"),
            ("amqp://u:hunter2@h/", "/%2f"),
            ("amqp://u:hunter2@h/v?heartbeat=5", "amqp.heartbeat"),
            ("amqp://u:hun#ter2@h/v", "invalid port"),
        ] {
            let error = AmqpUrl::parse(text).expect_err(text);
            assert!(error.contains(told) && !error.contains("hun"), "{text}: {error}");
        }
    }
}
