//! Section `database`.

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use super::{
    reader::Reader,
    value::{duration, flag, integer, path_or_none, text},
};

const FORM: &str = "must be postgres://user:password@host:5432/database";

/// Parameters that are allowed after the `?` of the URL, besides `sslmode`.
const OPTIONS: [&str; 16] = [
    "application_name",
    "channel_binding",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// The database's URL, and how it is used.
#[derive(Clone, Debug)]
pub struct Database {
    pub url: DatabaseUrl,
    /// Maximum number of connections of the pool.
    pub pool_size: usize,
    /// Whether `serve` applies migrations at its start.
    pub migrate: bool,
    /// Timeout of one attempt to connect to one host.
    pub connect_timeout: Duration,
    /// CA certificates (PEM) that TLS trusts instead of those of the system.
    pub ca_file: Option<PathBuf>,
}

/// A `postgres://` URL with at least one host. `Display` and `Debug` mask the password.
#[derive(Clone)]
pub struct DatabaseUrl {
    raw: SecretString,
    masked: String,
}

impl Database {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let timeouts = Duration::from_millis(100)..=Duration::from_mins(5);
        let database = Self {
            url: reader.get_masked("database.url", |value| DatabaseUrl::parse(text(value)?))?,
            pool_size: reader.get("database.pool_size", integer(1..=1000))?,
            migrate: reader.get("database.migrate", flag)?,
            connect_timeout: reader.get("database.connect_timeout", duration(timeouts))?,
            ca_file: reader.get("database.ca_file", path_or_none)?,
        };
        if database.ca_file.is_some() && !database.url.may_use_tls() {
            reader.clash(
                "database.ca_file",
                "database.url",
                "has no effect: the URL contains sslmode=disable",
            );
        } else if database.ca_file.is_none() && database.url.binds_without_tls() {
            let problem = "contains channel_binding=require, which needs TLS: add sslmode=verify-full";
            reader.clash("database.url", "database.ca_file", problem);
        }
        Some(database)
    }
}

impl DatabaseUrl {
    /// Includes the password: use it for the connection only.
    pub fn raw(&self) -> &str {
        self.raw.expose_secret()
    }

    fn may_use_tls(&self) -> bool {
        !self.masked.contains("sslmode=disable")
    }

    fn binds_without_tls(&self) -> bool {
        let has = |parameter| self.masked.contains(parameter);
        has("channel_binding=require") && !has("sslmode=require") && !has("sslmode=verify-full")
    }

    /// Errors never repeat the text, because it may contain a password.
    fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = ["postgres://", "postgresql://"]
            .into_iter()
            .find_map(|scheme| Some((scheme, text.strip_prefix(scheme)?)))
            .ok_or(FORM)?;
        // The first @ ends the credentials, as in `tokio_postgres`.
        let (credentials, rest) = rest.split_once('@').map_or((None, rest), |(c, rest)| (Some(c), rest));
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        if credentials.is_some_and(|c| c.contains(['/', '?'])) || location.contains('@') {
            return Err(format!(
                "{FORM}; in the user and the password, write / as %2F, ? as %3F and @ as %40"
            ));
        }
        check_query(query)?;
        let (hosts, _) = location.split_once('/').unwrap_or((location, ""));
        let is_socket = query.split('&').any(|parameter| parameter.starts_with("host="));
        if (hosts.is_empty() && !is_socket) || hosts.starts_with(':') {
            return Err(format!("{FORM}; this one has no host (for a socket, add ?host=/run/postgresql)"));
        }
        let start = credentials.map_or_else(String::new, |c| match c.split_once(':') {
            Some((user, _)) => format!("{user}:***@"),
            None => format!("{c}@"),
        });
        let end = if query.is_empty() { String::new() } else { format!("?{query}") };
        Ok(Self { raw: SecretString::from(text), masked: format!("{scheme}{start}{location}{end}") })
    }
}

/// Rejects parameters that are not allowed after the `?`.
fn check_query(query: &str) -> Result<(), String> {
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("sslmode", "disable" | "require" | "verify-full")) => {}
            // With `prefer`, an attacker between client and server can disable TLS.
            Some(("sslmode", _)) => return Err("sslmode must be disable, require or verify-full".into()),
            Some(("password", _)) => return Err("write the password before the host".into()),
            Some(("connect_timeout", _)) => return Err("set database.connect_timeout instead".into()),
            Some(("sslrootcert", _)) => return Err("set database.ca_file instead".into()),
            Some((name, _)) if OPTIONS.contains(&name) => {}
            Some(("sslcert" | "sslkey" | "sslpassword", _)) => {
                return Err("client certificates (sslcert, sslkey) are not supported".into());
            }
            Some(("ssl" | "requiressl", _)) => return Err("use sslmode=verify-full for TLS".into()),
            // A percent-encoded name could be `password`, so the error must not repeat it.
            Some((name, _)) if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                return Err(format!(
                    "{name} is not known; after the ? provisiond accepts {}",
                    OPTIONS.join(", ")
                ));
            }
            _ => return Err("after the ? there must be name=value pairs, joined by &".into()),
        }
    }
    Ok(())
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked)
    }
}

impl fmt::Debug for DatabaseUrl {
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
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgresql://u:a:b@h:1,i:2/d", "postgresql://u:***@h:1,i:2/d"),
            (
                "postgres://u:p%40@h/d?sslmode=verify-full&application_name=x",
                "postgres://u:***@h/d?sslmode=verify-full&application_name=x",
            ),
            ("postgres://u@/d?host=/run/postgresql", "postgres://u@/d?host=/run/postgresql"),
        ] {
            let url = DatabaseUrl::parse(text).expect(text);
            assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (masked, masked));
            assert_eq!(url.raw(), text);
        }
    }

    #[test]
    fn a_bad_url_is_rejected_without_showing_it() {
        for (text, expected) in [
            ("", "must be postgres://"),
            ("host=h password=hunter2", "must be postgres://"),
            ("mysql://u:hunter2@h/d", "must be postgres://"),
            ("postgres://u:hun/ter2@h/d", "%2F"),
            ("postgres://u:hun?ter2@h/d", "%3F"),
            ("postgres://u:hun@ter2@h/d", "%40"),
            ("postgres://u:hunter2@/d", "has no host"),
            ("postgres://u:hunter2@:5432/d", "has no host"),
            ("postgres://h/d?password=hunter2", "before the host"),
            ("postgres://h/d?p%61ssword=hunter2", "name=value"),
            ("postgres://h/d?sslmode=prefer", "disable, require or verify-full"),
            ("postgres://h/d?sslrootcert=/x", "database.ca_file"),
            ("postgres://h/d?sslcert=/x", "client certificates (sslcert, sslkey) are not supported"),
            ("postgres://h/d?ssl=true", "sslmode=verify-full"),
            ("postgres://h/d?pool_size=3", "pool_size is not known"),
            ("postgres://h/d?connect_timeout=3", "database.connect_timeout"),
        ] {
            let error = DatabaseUrl::parse(text).expect_err(text);
            assert!(error.contains(expected) && !error.contains("hun"), "{text}: {error}");
        }
    }
}
