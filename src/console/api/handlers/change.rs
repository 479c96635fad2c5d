//! What a change of a handler has to pass beside its own rules.

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

/// Makes of `current` what `body` says, whole.
pub(super) async fn apply(
    console: &Console,
    somebody: &Identity,
    if_match: &IfMatch,
    current: &Handler,
    body: &Value,
) -> Result<Response, Problem> {
    let (Draft { spec, .. }, warnings) = checked(console, body, Some(&current.spec)).await?;
    let (id, version) = (current.id, Some(current.version));
    let changed = console.store().update_handler(id, version, |_| spec, &somebody.by(), None).await;
    let handler = match changed {
        Ok(handler) => handler,
        Err(error) => return Err(if_match.problem(console, id, error).await),
    };
    let version = handler.version;
    versioned(&Changed { handler, warnings, signing_secret: None }, version)
}

/// What `body` says, and what may be wrong with it though it is taken. Beside its own rules its event must be in the
/// catalogue, and what it points to, if that is new, must be allowed: everything that is wrong is told at once.
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
        Some(task @ Task::Http { url, .. }) if is_new(task) => {
            if let Err(why) = check_target(&console.settings.address_rules, url).await {
                reading.errors.push(FieldError::at("/task/url", why.to_string()));
            }
        }
        Some(task @ Task::Script { path, .. }) if is_new(task) && path.climbs() => {
            reading.errors.push(FieldError::at("/task/path", ScriptPath::CLIMBS));
        }
        // Scripts are looked at when they are run, perhaps elsewhere; but a slip is noticed best at once.
        Some(Task::Script { path, .. }) => {
            if let Err(why) = console.settings.scripts.examine(path) {
                warnings.push(format!("as configured where the console runs it cannot be run: {why}"));
            }
        }
        _ => {}
    }
    Ok((reading.finished()?, warnings))
}
