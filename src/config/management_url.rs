//! `amqp.management_url`.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

const FORM: &str = "must be http://host:15672 or https://host:15672; if the user and password differ from those of amqp.url, \
    write them before the host: http://user:password@host:15672";

/// The URL of RabbitMQ's management API, if one is configured. `Display` and `Debug` mask the password.
#[derive(Clone, Default)]
pub struct ManagementUrl {
    raw: Option<SecretString>,
    masked: String,
}

impl ManagementUrl {
    /// Includes the password: use it for the request only.
    pub fn raw(&self) -> Option<&str> {
        self.raw.as_ref().map(ExposeSecret::expose_secret)
    }

    pub(super) fn is_tls(&self) -> bool {
        self.masked.starts_with("https:")
    }

    /// Errors never repeat the text, because it may contain a password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut url = Url::parse(text).map_err(|error| format!("{FORM}: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FORM.into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("{FORM}; ?parameters and # are not allowed (write ? as %3F, # as %23)"));
        }
        if url.path().trim_end_matches('/').ends_with("/api") {
            return Err(format!("{FORM}; leave out /api, provisiond adds it"));
        }
        let raw = Some(SecretString::from(text));
        if url.password().is_some() {
            url.set_password(Some("***")).map_err(|()| FORM.to_owned())?;
        }
        Ok(Self { raw, masked: url.into() })
    }
}

impl fmt::Display for ManagementUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked)
    }
}

impl fmt::Debug for ManagementUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_all_but_the_password() {
        for (text, masked) in [
            ("", ""),
            ("http://mq:15672", "http://mq:15672/"),
            ("https://watcher:s%40cret@mq.example/rabbit/", "https://watcher:***@mq.example/rabbit/"),
        ] {
            let url = ManagementUrl::parse(text).expect(text);
            assert_eq!(url.raw(), (!text.is_empty()).then_some(text));
            assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (masked, masked));
            assert_eq!(url.is_tls(), text.starts_with("https"));
        }
    }

    #[test]
    fn errors_do_not_show_the_password() {
        for text in [
            "mq:15672",
            "amqp://u:s3cret@mq",
            "http://u:s3cret@",
            "http://u:s3cret@mq/api",
            "http://u:s3cret@mq/?a=b",
        ] {
            let problem = ManagementUrl::parse(text).expect_err(text);
            assert!(problem.contains("http://host:15672") && !problem.contains("s3cret"), "{problem}");
        }
    }
}
