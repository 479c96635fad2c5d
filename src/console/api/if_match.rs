//! `If-Match`: whoever changes something says which version of it they have seen.

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use crate::{
    console::{Console, problem::Problem},
    domain::handler::{Handler, HandlerId},
    store::StoreError,
};

/// The versions that may be changed.
pub enum IfMatch {
    /// `*`: whichever it is.
    Any,
    OneOf(Vec<i64>),
}

impl FromRequestParts<Console> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Console) -> Result<Self, Problem> {
        let mut tags = Vec::new();
        for value in parts.headers.get_all(header::IF_MATCH) {
            tags.extend(value.to_str().unwrap_or_default().split(',').map(str::trim));
        }
        if tags.is_empty() {
            let detail = "send the header If-Match with the ETag of what you have seen, or If-Match: * for whatever there is";
            return Err(Problem::precondition_required(detail));
        }
        if tags.contains(&"*") {
            return Ok(Self::Any);
        }
        // A weak tag, or one that is none of ours, matches nothing.
        let version = |tag: &str| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok();
        Ok(Self::OneOf(tags.into_iter().filter_map(version).collect()))
    }
}

impl IfMatch {
    /// The handler, if it is at a version that was seen.
    pub async fn handler(&self, console: &Console, id: HandlerId) -> Result<Handler, Problem> {
        let handler = console.store().handler(id).await?;
        if self.allows(handler.version) { Ok(handler) } else { Err(self.stale(console, id).await) }
    }

    /// `error`, of a change that found another version after all.
    pub async fn problem(&self, console: &Console, id: HandlerId, error: StoreError) -> Problem {
        match error {
            StoreError::Conflict { .. } => self.stale(console, id).await,
            other => other.into(),
        }
    }

    fn allows(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }

    /// Tells what is there now, and what was changed in between.
    async fn stale(&self, console: &Console, id: HandlerId) -> Problem {
        let (handler, history) =
            match (console.store().handler(id).await, console.store().handler_history(id).await) {
                (Ok(handler), Ok(history)) => (handler, history),
                (Err(error), _) | (_, Err(error)) => return error.into(),
            };
        let seen = match self {
            Self::OneOf(versions) => versions.iter().max().copied(),
            Self::Any => None,
        };
        let since = seen.and_then(|seen| usize::try_from(handler.version - seen).ok()).unwrap_or_default();
        let changes: Vec<_> = history.into_iter().take(since).collect();
        let by =
            changes.first().map(|change| format!(", last by {} at {}", change.changed_by, change.changed_at));
        let detail = format!(
            "handler {id} is at version {} now{}: look at the changes, and send yours for that version",
            handler.version,
            by.unwrap_or_default()
        );
        let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
        Problem::stale(detail)
            .with("current", json(serde_json::to_value(&handler)))
            .with("changes", json(serde_json::to_value(&changes)))
    }
}
