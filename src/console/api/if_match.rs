//! `If-Match`: a client that makes a change names the version that it has seen.

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use crate::{
    console::{Console, problem::Problem},
    domain::handler::{Handler, HandlerId},
    store::StoreError,
};

/// The versions to which the change may be applied.
pub enum IfMatch {
    /// `*`: any version.
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
            let detail = "send the header If-Match with the ETag of the version that you read, or If-Match: * for any version";
            return Err(Problem::precondition_required(detail));
        }
        if tags.contains(&"*") {
            return Ok(Self::Any);
        }
        let versions: Result<Vec<_>, Problem> = tags.into_iter().map(version).collect();
        Ok(Self::OneOf(versions?.into_iter().flatten().collect()))
    }
}

/// The version in an entity tag. `None` for a tag that is not ours, which matches no version.
fn version(tag: &str) -> Result<Option<i64>, Problem> {
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).filter(|tag| !tag.contains('"'));
    let inner = inner.ok_or_else(|| {
        let why = if tag.starts_with("W/") {
            "is a weak tag, which a change does not accept"
        } else {
            "is not an entity tag in double quotes"
        };
        let shown: String = tag.chars().take(100).collect();
        let number: String = shown.chars().filter(char::is_ascii_digit).collect();
        let example = if number.is_empty() { "1" } else { &number };
        Problem::bad_request(format!(
            "If-Match: {shown} {why}: send the ETag as you received it, such as If-Match: \"{example}\", \
             or If-Match: * for any version"
        ))
    })?;
    Ok(inner.parse().ok())
}

impl IfMatch {
    /// The handler, if the client has seen its current version.
    pub async fn handler(&self, console: &Console, id: HandlerId) -> Result<Handler, Problem> {
        let handler = console.store().handler(id).await?;
        if self.allows(handler.version) { Ok(handler) } else { Err(self.stale(console, id).await) }
    }

    /// The problem for a failed change. It is 412 if another change was made after the first check.
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

    /// 412, with the current handler and the changes since the version that the client has seen.
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
        let by = changes
            .first()
            .map(|change| format!(", last changed by {} at {}", change.changed_by, change.changed_at));
        let detail = format!(
            "handler {id} is now at version {}{}: check the changes, and send yours again for that version",
            handler.version,
            by.unwrap_or_default()
        );
        let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
        Problem::stale(detail)
            .with("current", json(serde_json::to_value(&handler)))
            .with("changes", json(serde_json::to_value(&changes)))
    }
}
