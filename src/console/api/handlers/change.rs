//! What a change of a handler has to pass beside its own rules.

use axum::response::Response;
use serde_json::Value;

use super::{Changed, Draft};
use crate::{
    console::{
        Console,
        access::Identity,
        api::{if_match::IfMatch, reply::versioned},
        problem::{FieldError, Problem},
    },
    domain::{
        handler::{Handler, HandlerSpec},
        task::Task,
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
    let Draft { spec, .. } = Draft::read(body, Some(&current.spec))?;
    let warnings = check(console, &spec, Some(&current.spec)).await?;
    let (id, version) = (current.id, Some(current.version));
    let changed = console.store().update_handler(id, version, |_| spec, &somebody.by(), None).await;
    let handler = match changed {
        Ok(handler) => handler,
        Err(error) => return Err(if_match.problem(console, id, error).await),
    };
    let version = handler.version;
    versioned(&Changed { handler, warnings, signing_secret: None }, version)
}

/// Whether its event is in the catalogue, and it may point where it does, if that is new. Gives what may be wrong.
pub(super) async fn check(
    console: &Console,
    spec: &HandlerSpec,
    before: Option<&HandlerSpec>,
) -> Result<Vec<String>, Problem> {
    let mut errors = Vec::new();
    let known = console.store().list_event_types(false).await?;
    if !known.iter().any(|known| known.name == spec.event) {
        let detail = format!("{} is not in the catalogue: add it first (POST /event-types)", spec.event);
        errors.push(FieldError::at("/event", detail));
    }
    let mut warnings = Vec::new();
    match &spec.task {
        Task::Http { url, .. } => {
            let is_new = before.is_none_or(|before| before.task.target() != url.as_str());
            if is_new && let Err(why) = check_target(&console.settings.address_rules, url).await {
                errors.push(FieldError::at("/task/url", why.to_string()));
            }
        }
        // Scripts are looked at when they are run, perhaps elsewhere; but a slip is noticed best at once.
        Task::Script { path, .. } => {
            if let Err(why) = console.settings.scripts.locate(path) {
                warnings.push(format!("as configured where the console runs it cannot be run: {why}"));
            }
        }
    }
    if errors.is_empty() { Ok(warnings) } else { Err(Problem::invalid(errors)) }
}
