//! Section `database`: where PostgreSQL is.

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::SecretString;
use url::Url;

use super::{
    reader::Reader,
    value::{duration, flag, integer, path_or_none, text},
};

/// Section `database`.
#[derive(Clone, Debug)]
pub struct Database {
    pub url: DatabaseUrl,
    pub pool_size: usize,
    /// Whether `serve` migrates.
    pub migrate: bool,
    pub connect_timeout: Duration,
    pub ca_file: Option<PathBuf>,
}

/// The address of the database. Shown without its password.
#[derive(Clone, Debug)]
pub struct DatabaseUrl {
    url: SecretString,
    masked: String,
}

impl DatabaseUrl {
    /// With its password, for the connection.
    pub const fn secret(&self) -> &SecretString {
        &self.url
    }

    fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be postgres://user:password@host:5432/database";
        let mut url = Url::parse(text).map_err(|error| format!("{FORM} ({error})"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(FORM.to_owned());
        }
        if url.password().is_some() {
            url.set_password(Some("***")).map_err(|()| FORM.to_owned())?;
        }
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                let value = if name == "password" { "***".into() } else { value };
                (name.into_owned(), value.into_owned())
            })
            .collect();
        if !pairs.is_empty() {
            url.query_pairs_mut().clear().extend_pairs(pairs);
        }
        Ok(Self { url: SecretString::from(text), masked: url.to_string() })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked)
    }
}

impl Database {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let url = reader.get_masked("database.url", |value| DatabaseUrl::parse(text(value)?));
        let pool_size = reader.get("database.pool_size", integer(1_u16..=1000));
        let migrate = reader.get("database.migrate", flag);
        let timeout = duration(Duration::from_millis(100)..=Duration::from_mins(5));
        let connect_timeout = reader.get("database.connect_timeout", timeout);
        let ca_file = reader.get("database.ca_file", path_or_none);
        Some(Self {
            url: url?,
            pool_size: pool_size?.into(),
            migrate: migrate?,
            connect_timeout: connect_timeout?,
            ca_file: ca_file?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let url = DatabaseUrl::parse("postgres://u:s3cret@h/db?sslmode=verify-full&password=s3cret")
            .expect("valid");
        assert_eq!(url.to_string(), "postgres://u:***@h/db?sslmode=verify-full&password=***");
        assert!(!format!("{url:?}").contains("s3cret"));
        for bad in ["", "mysql://h/db", "h:5432/db"] {
            assert!(DatabaseUrl::parse(bad).is_err(), "{bad:?}");
        }
    }
}
