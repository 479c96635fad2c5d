//! Names and values of the headers that a handler adds to its requests.

use std::{collections::BTreeMap, fmt, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

use super::InvalidTask;
use crate::domain::seal::{MARK, is_sealed};

/// The name of a header that a handler adds to its requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderName(String);

impl HeaderName {
    /// Headers that provisiond or the HTTP client sets.
    const RESERVED: &[&str] = &[
        "connection",
        "content-length",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "traceparent",
        "tracestate",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    ];

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the Host header, which selects one of several sites behind an address.
    pub fn is_host(&self) -> bool {
        self.0 == "host"
    }
}

impl FromStr for HeaderName {
    type Err = InvalidTask;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = http::HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| InvalidTask(format!("{text:?} is not a header name")))?;
        let name = name.as_str();
        if Self::RESERVED.contains(&name) || name.starts_with("x-provisioning-") {
            return Err(InvalidTask(format!("the header {name} is set by provisiond itself")));
        }
        Ok(Self(name.to_owned()))
    }
}

/// Collects headers by name.
///
/// # Errors
/// A name occurs twice. Case does not count, and one of the two values would be lost.
pub fn by_name(
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Result<BTreeMap<HeaderName, HeaderValue>, InvalidTask> {
    let mut by_name = BTreeMap::new();
    for (name, value) in headers {
        if by_name.contains_key(&name) {
            return Err(InvalidTask(format!(
                "the header {} is given twice (upper and lower case are the same)",
                name.as_str()
            )));
        }
        by_name.insert(name, value);
    }
    Ok(by_name)
}

/// Shown instead of a secret.
pub const MASK: &str = "***";

/// The value of a header that a handler adds. It may be secret, so neither `Debug` nor `Serialize` shows it.
///
/// A value from the database may be encrypted; `store/handlers/sealed.rs` decrypts it for workers.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderValue(String);

impl HeaderValue {
    const MAX_BYTES: usize = 8192;

    /// Parses a typed value of the header `name`.
    pub fn typed(name: &HeaderName, text: &str) -> Result<Self, InvalidTask> {
        if name.is_host() && !is_host(text.trim()) {
            return Err(InvalidTask(format!(
                "{text:?} is not a Host header value: give the name or address of a host, with :port if it is not the \
                 default port, such as crm.example:8080"
            )));
        }
        text.parse()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the encrypted form of a value.
    pub fn is_sealed(&self) -> bool {
        is_sealed(&self.0)
    }
}

impl Serialize for HeaderValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl FromStr for HeaderValue {
    type Err = InvalidTask;

    /// Removes white space around a value: it often comes with a pasted token.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if is_sealed(text) {
            return Err(InvalidTask(format!("a header value cannot begin with {MARK}")));
        }
        if text == MASK {
            return Err(InvalidTask(format!(
                "{MASK} is only shown instead of a header value: give the value itself"
            )));
        }
        if http::HeaderValue::from_str(text).is_ok() && text.len() <= Self::MAX_BYTES {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidTask("a header value must be visible ASCII, at most 8192 bytes".into()))
        }
    }
}

/// Whether `text` is a host, such as `crm.example`, `127.0.0.1:81` or `[::1]:81`.
fn is_host(text: &str) -> bool {
    let (is_name, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        let is_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(is_char);
        let labels = name.strip_suffix('.').unwrap_or(name);
        (name.len() <= 253 && labels.split('.').all(is_label), port)
    };
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_name && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// Reads a value from the database, which may be encrypted. Somebody who writes an encrypted value there by other
/// means gains nothing: it can be decrypted only for the handler and header that it was encrypted for.
impl TryFrom<String> for HeaderValue {
    type Error = InvalidTask;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_sealed(&text) && text.len() <= 2 * Self::MAX_BYTES { Ok(Self(text)) } else { text.parse() }
    }
}

through_text!(HeaderName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_headers_are_rejected() {
        for bad in ["Webhook-Id", "X-Provisioning-Event", "content-length", "a b", ""] {
            assert!(bad.parse::<HeaderName>().is_err(), "{bad:?}");
        }
        assert_eq!("X-Api-Key".parse::<HeaderName>().expect("fine").as_str(), "x-api-key");
    }

    #[test]
    fn a_host_header_must_name_a_host() {
        let host: HeaderName = "Host".parse().expect("a name");
        for good in [
            "crm",
            "crm.example",
            "crm.example.",
            " crm.example:8080 ",
            "10.0.0.1:81",
            "[::1]",
            "[::1]:81",
            "a_b",
        ] {
            assert!(HeaderValue::typed(&host, good).is_ok(), "{good}");
        }
        for bad in [
            "",
            " ",
            "a b",
            "http://a.example",
            "a.example/x",
            "b\u{e4}.example",
            "a@b",
            "a.example:notaport",
            "a:",
            "a:99999",
            "a:+1",
            "[::1",
            "[a]",
            "a..b",
            "a:1:2",
            "::1",
        ] {
            let error = HeaderValue::typed(&host, bad).expect_err(bad).to_string();
            assert!(error.contains("is not a Host"), "{bad}: {error}");
        }
        let other: HeaderName = "X-Host".parse().expect("a name");
        assert!(HeaderValue::typed(&other, "a b").is_ok());
    }

    #[test]
    fn white_space_around_a_value_is_removed() {
        for pasted in [" Bearer x", "Bearer x\t", "  Bearer x \n"] {
            assert_eq!(pasted.parse::<HeaderValue>().expect("a value").as_str(), "Bearer x");
        }
    }

    #[test]
    fn a_value_is_never_shown() {
        let value: HeaderValue = "Bearer hunter2".parse().expect("a value");
        assert_eq!(format!("{value:?} {}", serde_json::to_string(&value).expect("json")), "*** \"***\"");
        assert!("enc:v1:AAAA".parse::<HeaderValue>().is_err(), "typed");
        assert!(HeaderValue::try_from("enc:v1:AAAA".to_owned()).expect("stored").is_sealed());
        for bad in ["a\nb", "***", &"x".repeat(8193), &format!("enc:v1:{}", "A".repeat(17_000))] {
            assert!(HeaderValue::try_from(bad.to_owned()).is_err());
        }
    }
}
