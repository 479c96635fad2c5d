//! Section `amqp`.

use std::{fmt, path::PathBuf, time::Duration};

use ::config::{Value, ValueKind};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::{
    management_url::ManagementUrl,
    reader::Reader,
    value::{duration, list, path_or_none, text, word},
};
use crate::domain::text_enum::text_enum;

/// The broker's nodes, and the prefix and type of the queues.
#[derive(Clone, Debug)]
pub struct Amqp {
    /// The nodes of one cluster, tried in turn. At least one; all have the same virtual host.
    pub urls: Vec<AmqpUrl>,
    /// The first part of every exchange's and queue's name.
    pub prefix: String,
    pub queue_type: QueueType,
    /// Whole seconds.
    pub heartbeat: Duration,
    /// Timeout of one attempt to connect to one node.
    pub connect_timeout: Duration,
    /// CA certificates (PEM) that TLS trusts in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    pub management_url: ManagementUrl,
}

text_enum! {
    /// The type of all queues of provisiond.
    QueueType {
        Quorum = "quorum",
        /// For a single node. No crash limit, and at most once between the levels of the delay ladder.
        Classic = "classic",
    }
}

/// The URL of a node: `amqp` or `amqps`, with a host and without parameters. `Display` and `Debug` mask the password.
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
                let urls = urls(value)?;
                if urls.is_empty() { Err("must contain at least one URL".into()) } else { Ok(urls) }
            })?,
            prefix: reader.get("amqp.prefix", |value| prefix(text(value)?))?,
            queue_type: reader.get("amqp.queue_type", word)?,
            heartbeat: reader.get("amqp.heartbeat", |value| {
                let heartbeat = duration(seconds(1)..=seconds(600))(value)?;
                let is_whole = heartbeat.subsec_nanos() == 0;
                if is_whole { Ok(heartbeat) } else { Err("must be whole seconds, 1s to 10m".into()) }
            })?,
            connect_timeout: reader
                .get("amqp.connect_timeout", duration(Duration::from_millis(100)..=seconds(300)))?,
            ca_file: reader.get("amqp.ca_file", path_or_none)?,
            management_url: reader
                .get_masked("amqp.management_url", |value| ManagementUrl::parse(text(value)?))?,
        };
        let has_tls = amqp.urls.iter().any(AmqpUrl::is_tls) || amqp.management_url.is_tls();
        if amqp.ca_file.is_some() && !has_tls {
            reader.clash(
                "amqp.ca_file",
                "amqp.url",
                "has no effect: no URL begins with amqps:// or https://",
            );
        }
        if let [first, others @ ..] = &amqp.urls[..]
            && let Some(other) = others.iter().find(|other| other.vhost != first.vhost)
        {
            let problem = format!(
                "all URLs must have the same virtual host, because they are the nodes of one cluster: one has {:?}, \
                 another {:?} (case-sensitive)",
                first.vhost, other.vhost
            );
            reader.refuse("amqp.url", problem);
        }
        Some(amqp)
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if (1..=60).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to 60 characters of A-Z a-z 0-9 _ . -, not {text:?}"))
    }
}

/// Parses a list of URLs. In a text, a comma separates URLs only if a scheme follows; any other comma belongs to a
/// password.
fn urls(value: &Value) -> Result<Vec<AmqpUrl>, String> {
    match &value.kind {
        ValueKind::String(text) if !text.trim_start().starts_with('[') => {
            let mut entries: Vec<String> = Vec::new();
            for part in text.split(',') {
                let is_url = ["amqp:", "amqps:"].iter().any(|scheme| part.trim_start().starts_with(scheme));
                match entries.last_mut() {
                    Some(last) if !is_url => {
                        last.push(',');
                        last.push_str(part);
                    }
                    _ => entries.push(part.to_owned()),
                }
            }
            let entries = entries.iter().map(|entry| entry.trim().trim_end_matches(','));
            entries.filter(|entry| !entry.is_empty()).map(AmqpUrl::parse).collect()
        }
        _ => list(AmqpUrl::parse)(value),
    }
}

/// The virtual host in the path of a URL, decoded as the broker compares it.
fn vhost(path: &str) -> String {
    match path.strip_prefix('/') {
        None => "/".to_owned(),
        Some(name) => percent_decode_str(name).decode_utf8_lossy().into_owned(),
    }
}

impl AmqpUrl {
    /// Includes the password: use it for the connection only.
    pub fn raw(&self) -> &str {
        self.raw.expose_secret()
    }

    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Errors never repeat the text, because it may contain a password.
    fn parse(text: &str) -> Result<Self, String> {
        let form = "a URL is amqp://user:password@host:5672/vhost";
        let text = text.trim();
        let mut url = Url::parse(text).map_err(|e| {
            format!("{form}; write special characters with % (: as %3A, / as %2F, @ as %40): {e}")
        })?;
        let tls = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(format!("{form}, or amqps://")),
        };
        match url.host() {
            None => return Err(format!("{form}; this one has no host name")),
            // For an IPv6 address the client library would connect to localhost instead.
            Some(Host::Ipv6(_)) => {
                return Err("an IPv6 address is not supported here: use a host name".into());
            }
            Some(host) if host.to_string().contains(',') || url.path().contains(',') => {
                return Err("has a comma after the @: write a separate URL for each node, such as \
                    amqp://u:p@a/v,amqp://u:p@b/v (write a comma in a name as %2C)"
                    .into());
            }
            Some(_) => {}
        }
        if url.path() == "/" {
            return Err("ends in /, which means a virtual host without a name; the default is /%2f".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must have no ?parameters and no #: use amqp.heartbeat, \
                amqp.connect_timeout and amqp.ca_file (write ? as %3F, # as %23)"
                .into());
        }
        // Otherwise a second URL after the first would count as part of the virtual host, and its password would be
        // shown.
        if text.contains(char::is_whitespace) || url.path().contains(['@', ':', ';']) {
            return Err(format!(
                "{form}; separate several URLs with commas, and in a virtual host write @ as %40, : as %3A, ; as %3B, a space as %20"
            ));
        }
        let raw = SecretString::from(text);
        let vhost = vhost(url.path());
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
    fn a_second_url_without_a_comma_is_rejected_and_not_shown() {
        for separator in [" ", ";", "; ", "\t", "|", "", "/", ":", " amqp://u:s3cret@c,"] {
            for vhost in ["", "/v"] {
                let text = format!("amqp://u:s3cret@a{vhost}{separator}amqp://u:s3cret2@b/v");
                let problem = AmqpUrl::parse(&text).expect_err(&text);
                assert!(!problem.contains("s3cret"), "{text}: {problem}");
            }
        }
    }

    #[test]
    fn a_comma_separates_urls_only_before_a_scheme() {
        let raw = |text: &str| {
            let urls = urls(&Value::new(None, text)).expect(text);
            urls.iter().map(|url| url.raw().to_owned()).collect::<Vec<_>>()
        };
        for (text, expected) in [
            ("amqp://u:p,w@a/v\n", &["amqp://u:p,w@a/v"][..]),
            ("amqp://u:p,w@a/v, amqps://u:p,,w@b/v,", &["amqp://u:p,w@a/v", "amqps://u:p,,w@b/v"]),
            (r#"["amqp://u:p,w@a/v\n"]"#, &["amqp://u:p,w@a/v"]),
            ("", &[]),
        ] {
            assert_eq!(raw(text), expected, "{text}");
        }
    }

    #[test]
    fn virtual_hosts_are_compared_as_the_broker_does() {
        let vhost = |text: &str| AmqpUrl::parse(text).expect(text).vhost;
        assert_ne!(vhost("amqp://h/BugsV"), vhost("amqp://h/bugsv"));
        for (a, b) in
            [("amqp://h", "amqp://i/%2f"), ("amqp://h/%2F", "amqp://i/%2f"), ("amqp://h/%42v", "amqp://i/Bv")]
        {
            assert_eq!(vhost(a), vhost(b), "{a} {b}");
        }
    }

    #[test]
    fn a_bad_url_is_rejected_without_showing_it() {
        for (text, expected) in [
            ("", "relative URL"),
            ("mq.example:5672", "amqp://user:password@host"),
            ("http://u:hunter2@h/", "amqps://"),
            ("amqp://u:hunter2@", "empty host"),
            ("amqp:///x", "no host"),
            ("amqp://u:hunter2@[::1]/x", "IPv6"),
            ("amqp://u:hunter2@h/", "/%2f"),
            ("amqp://u:hunter2@h/v?heartbeat=5", "amqp.heartbeat"),
            ("amqp://u:hun#ter2@h/v", "invalid port"),
            ("amqp://u:hunter2@h,i/v", "comma after the @"),
            ("amqp://u:hunter2@h/v,u@i/v", "comma after the @"),
            ("amqp://u:hunter2@h/%2f,h2", "comma after the @"),
        ] {
            let error = AmqpUrl::parse(text).expect_err(text);
            assert!(error.contains(expected) && !error.contains("hun"), "{text}: {error}");
        }
    }
}
