//! Checks of a handler that need the database, the network or the file system.

use axum::response::Response;
use serde_json::Value;

use super::{
    Changed,
    draft::{Draft, Reading},
};
use crate::{
    console::{
        Console,
        access::Identity,
        api::{if_match::IfMatch, reply::versioned},
        problem::{FieldError, Problem},
    },
    domain::{
        handler::{Handler, HandlerSpec},
        task::{ScriptPath, Task},
    },
    runner::check_target,
};

/// Replaces `current` with the handler in `body`.
pub(super) async fn apply(
    console: &Console,
    identity: &Identity,
    if_match: &IfMatch,
    current: &Handler,
    body: &Value,
) -> Result<Response, Problem> {
    let (Draft { spec, .. }, warnings) = checked(console, body, Some(&current.spec)).await?;
    let (id, version) = (current.id, Some(current.version));
    let changed = console.store().update_handler(id, version, |_| spec, &identity.by(), None).await;
    let handler = match changed {
        Ok(handler) => handler,
        Err(error) => return Err(if_match.problem(console, id, error).await),
    };
    let version = handler.version;
    versioned(&Changed { handler, warnings, signing_secret: None }, version)
}

/// Parses and checks `body`. Returns the handler and warnings. The event type must be in the catalogue, and a new url
/// or script path must be allowed. All errors are reported together.
pub(super) async fn checked(
    console: &Console,
    body: &Value,
    before: Option<&HandlerSpec>,
) -> Result<(Draft, Vec<String>), Problem> {
    let mut reading = Reading::of(body, before)?;
    let mut warnings = Vec::new();
    if let Some(event) = &reading.event {
        let known = console.store().list_event_types(false).await?;
        if !known.iter().any(|known| known.name == *event) {
            let detail = format!("{event} is not in the catalogue: add it first (POST /event-types)");
            reading.errors.push(FieldError::at("/event", detail));
        }
    }
    let is_new = |task: &Task| before.is_none_or(|before| before.task.target() != task.target());
    match &reading.task {
        Some(task @ Task::Http { url, .. }) => {
            if is_new(task)
                && let Err(why) = check_target(&console.settings.address_rules, url).await
            {
                reading.errors.push(FieldError::at("/task/url", why.to_string()));
            }
        }
        Some(task @ Task::Script { path, .. }) => {
            if is_new(task) && path.climbs() {
                reading.errors.push(FieldError::at("/task/path", ScriptPath::CLIMBS));
            } else if let Err(why) = console.settings.scripts.examine(path) {
                // The script may run on another machine, but a typing error is best found now.
                warnings.push(format!("the script cannot be run where the console runs: {why}"));
            }
        }
        None => {}
    }
    Ok((reading.finished()?, warnings))
}
