//! Database errors, grouped by what a caller can do about them.

use deadpool_postgres::PoolError;

use crate::domain::{handler::SETTINGS, invisible::all_visible, seal::SealError};

/// Why a database operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no {0}")]
    NotFound(String),
    /// Optimistic lock: the row was changed since the caller read it.
    #[error("it was changed meanwhile and is now at version {version}: read it again and repeat the change")]
    Conflict { version: i64 },
    /// A rule forbids the change; the text explains the rule.
    #[error("{0}")]
    Refused(String),
    #[error("the search took too long: narrow it by time, event, handler or object")]
    TooSlow,
    #[error("too many text searches are running: try again in a few seconds")]
    TooManySearches,
    /// No connection, shutdown, read-only or out of space. Not the caller's fault, and a retry may succeed.
    #[error("PostgreSQL is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// PostgreSQL rejects the data. A retry cannot succeed.
    #[error("PostgreSQL rejected the data")]
    BadData(#[source] SqlError),
    #[error("the database operation failed")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// An error from PostgreSQL. Its detail is left out because it quotes the row: bodies and secrets must not get into
/// logs.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
pub struct SqlError {
    pub code: String,
    pub message: String,
    pub constraint: Option<String>,
}

impl StoreError {
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable(why.into().into())
    }

    pub(super) fn other(why: impl Into<String>) -> Self {
        Self::Other(why.into().into())
    }

    /// For changes by a person: turns a violated constraint into a sentence that explains it.
    pub(super) fn into_refusal(self) -> Self {
        match self {
            Self::BadData(error) => {
                let rule = match error.code.as_str() {
                    // Characters that `text` and `jsonb` cannot hold.
                    "22021" | "22P05" => Some("a NUL character cannot be stored".to_owned()),
                    _ => error.constraint.as_deref().and_then(rule),
                };
                Self::Refused(rule.unwrap_or(error.message))
            }
            other => other,
        }
    }

    pub(super) fn sql_state(&self) -> Option<&str> {
        match self {
            Self::BadData(error) => Some(&error.code),
            Self::Unavailable(source) | Self::Other(source) => {
                source.downcast_ref::<SqlError>().map(|error| error.code.as_str())
            }
            _ => None,
        }
    }
}

impl From<SealError> for StoreError {
    fn from(error: SealError) -> Self {
        Self::Other(error.into())
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            let cause = std::error::Error::source(&error);
            let lost = error.is_closed() || cause.is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
            return if lost { Self::Unavailable(error.into()) } else { Self::Other(error.into()) };
        };
        let error = SqlError {
            code: db.code().code().to_owned(),
            message: db.message().to_owned(),
            constraint: db.constraint().map(str::to_owned),
        };
        match class(&error.code) {
            Class::Content => Self::BadData(error),
            Class::Temporary => Self::Unavailable(error.into()),
            Class::Internal => Self::Other(error.into()),
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            // Whatever prevents a connection, even a wrong password, may be repaired while the caller waits. The
            // error of a refused connection is converted without its detail, as above.
            PoolError::Backend(error) => match Self::from(error) {
                Self::Other(source) => Self::Unavailable(source),
                Self::BadData(error) => Self::Unavailable(error.into()),
                other => other,
            },
            PoolError::Timeout(step) => {
                let reason = match step {
                    deadpool_postgres::TimeoutType::Wait => "all connections of the pool are in use",
                    deadpool_postgres::TimeoutType::Create => "connecting took too long",
                    deadpool_postgres::TimeoutType::Recycle => "a connection does not answer",
                };
                Self::unavailable(reason)
            }
            other => Self::Unavailable(other.into()),
        }
    }
}

enum Class {
    /// The values of the statement are wrong.
    Content,
    /// The server has a temporary problem.
    Temporary,
    /// This program, its rights or its schema are wrong.
    Internal,
}

fn class(code: &str) -> Class {
    match code {
        // 25006 `read_only_sql_transaction`: a standby, or a database that is read-only until its disk is freed.
        // 57014 `query_canceled`, 55P03 `lock_not_available`: too slow now, but a retry may succeed.
        "25006" | "57014" | "55P03" => Class::Temporary,
        _ => match code.get(..2) {
            Some("22" | "23" | "54") => Class::Content,
            // Connection, serialization and deadlock, resources, shutdown, I/O.
            Some("08" | "40" | "53" | "57" | "58") => Class::Temporary,
            _ => Class::Internal,
        },
    }
}

/// Rejects a name with invisible characters. For names that are entered now; stored names are not checked.
///
/// # Errors
/// [`StoreError::Refused`].
pub(super) fn visible(label: &str, text: &str) -> Result<(), StoreError> {
    all_visible(text).map_err(|why| StoreError::Refused(format!("{label} {why}")))
}

/// The sentence for a violated constraint of `migrations/`.
fn rule(constraint: &str) -> Option<String> {
    let sentence = match constraint {
        "event_types_name" => {
            "an event name must be lower-case letters, digits and _ in segments joined by dots, at most 127 bytes"
        }
        "event_types_group_title" => "the group of an event type must have 1 to 200 characters",
        "event_types_title" => "the title of an event type must have 1 to 200 characters",
        "handlers_name" => "a name must have 1 to 200 characters",
        "handlers_event" => "the event is not in the catalogue: add it first",
        "handlers_task" => {
            "a task must be {\"type\":\"http\",\"url\":…,\"headers\":{…}} or {\"type\":\"script\",\"path\":…,\"args\":[…]}"
        }
        "handlers_retry" => "retry must be an object with retry values",
        "handlers_signing_secret" | "handlers_previous_signing_secret" => {
            "a signing secret must begin with whsec_"
        }
        _ => {
            let name = constraint.strip_prefix("handlers_")?;
            let setting = SETTINGS.iter().find(|setting| setting.name == name)?;
            return Some(format!("the value of {name} is not allowed ({})", setting.help));
        }
    };
    Some(sentence.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_fall_into_classes() {
        for (code, expected) in [
            ("22P05", "content"),
            ("23514", "content"),
            ("54001", "content"),
            ("57P01", "temporary"),
            ("53100", "temporary"),
            ("25006", "temporary"),
            ("40P01", "temporary"),
            ("42P01", "internal"),
            ("25001", "internal"),
            ("", "internal"),
        ] {
            let actual = match class(code) {
                Class::Content => "content",
                Class::Temporary => "temporary",
                Class::Internal => "internal",
            };
            assert_eq!(actual, expected, "{code}");
        }
    }

    #[test]
    fn every_rule_of_handlers_has_a_sentence() {
        let migrations =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).expect("a directory");
        let sql: String = migrations
            .map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("SQL"))
            .collect();
        let names =
            sql.split("CONSTRAINT ").skip(1).filter_map(|rest| rest.split([' ', ',', ';', '\n']).next());
        // No change by a person can violate these.
        let inner = ["handlers_version", "handlers_previous_secret"];
        let checked = names.filter(|n| n.starts_with("handlers_") || n.starts_with("event_types_"));
        for name in checked.filter(|n| !inner.contains(n)) {
            assert!(rule(name).is_some(), "{name} has no sentence");
        }
    }
}
