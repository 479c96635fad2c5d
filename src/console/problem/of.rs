//! Errors of the parts below as problems.

use axum::http::{StatusCode, header};

use super::Problem;
use crate::store::StoreError;

impl Problem {
    /// PostgreSQL is away.
    fn database(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database-unavailable",
            "PostgreSQL is not available",
            detail,
        )
        .with_header(header::RETRY_AFTER, "5")
    }

    /// RabbitMQ is away, or has not done what it was asked.
    fn broker(error: &anyhow::Error) -> Self {
        tracing::warn!(error = format!("{error:#}"), "console request failed: RabbitMQ error");
        let title = "RabbitMQ is not available";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "broker-unavailable", title, format!("{error:#}"))
            .with_header(header::RETRY_AFTER, "5")
    }
}

/// Of what needs both RabbitMQ and PostgreSQL.
impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        error.downcast::<StoreError>().map_or_else(|error| Self::broker(&error), Self::from)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => Self::not_found(error.to_string()),
            StoreError::Conflict { .. } => Self::stale(error.to_string()),
            StoreError::Refused(why) => Self::refused(why),
            StoreError::BadData(_) => Self::refused(format!("{error}: {}", source_of(&error))),
            StoreError::TooSlow => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too-slow",
                "The search took too long",
                error.to_string(),
            ),
            StoreError::TooManySearches => Self::busy(error.to_string()),
            StoreError::Unavailable(_) => {
                tracing::warn!(
                    error = source_of(&error),
                    "console request failed: PostgreSQL is not available"
                );
                Self::database(
                    "the database does not answer: events are still handled, and results wait; try again",
                )
            }
            StoreError::Other(_) => {
                tracing::error!(error = source_of(&error), "console request failed");
                Self::internal()
            }
        }
    }
}

fn source_of(error: &StoreError) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}
