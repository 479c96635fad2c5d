//! Headers that a handler adds to its requests.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::InvalidTask;

/// The name of a header that a handler adds to its requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderName(String);

impl HeaderName {
    /// What provisiond or the HTTP client sets itself.
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

/// The value of a header that a handler adds; it may be a secret and is not printed by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderValue(String);

impl HeaderValue {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for HeaderValue {
    type Err = InvalidTask;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if http::HeaderValue::from_str(text).is_ok() && text.len() <= 8192 {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidTask("a header value is visible ASCII, at most 8192 bytes".into()))
        }
    }
}

through_text!(HeaderName, HeaderValue);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_headers_are_refused() {
        for bad in ["Webhook-Id", "X-Provisioning-Event", "content-length", "a b", ""] {
            assert!(bad.parse::<HeaderName>().is_err(), "{bad:?}");
        }
        assert_eq!("X-Api-Key".parse::<HeaderName>().expect("fine").as_str(), "x-api-key");
    }
}
