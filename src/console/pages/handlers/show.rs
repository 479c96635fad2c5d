//! The page of one handler: its settings and its history; and the form for its signing secret.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};

use super::{Answer, history::HistoryView, named};
use crate::{
    console::{
        Console,
        access::{Identity, Operator, Viewer},
        pages::{
            fields::{Form, Query},
            format::{moment, typed},
            html,
            layout::{Frame, Section, done},
        },
        problem::Problem,
    },
    domain::{
        handler::{Handler, HandlerSpec, SETTINGS, SettingGroup, Status},
        secret::SigningSecret,
    },
};

/// How long requests are also signed with the old secret after a rotation.
const KEEP_OLD: Duration = Duration::from_hours(24);

#[derive(Template)]
#[template(path = "handlers/show.html")]
struct ShowPage {
    frame: Frame,
    /// A new secret. It is shown only on this page.
    new_secret: Option<String>,
    is_enabled: bool,
    is_archived: bool,
    can_be_signed: bool,
    parameters: Vec<(&'static str, String)>,
    settings: Vec<(&'static str, String)>,
    retry: String,
    updated: String,
    history: Vec<HistoryView>,
    handler: Handler,
}

#[derive(Template)]
#[template(path = "handlers/secret.html")]
struct SecretPage {
    frame: Frame,
    handler: Handler,
}

pub async fn show(
    Viewer(identity): Viewer,
    State(console): State<Console>,
    Path(id): Path<String>,
    Query(_): Query,
) -> Answer {
    let handler = identity.view_of(named(&console, &id).await?);
    page(&console, &identity, handler, None).await
}

pub async fn page(
    console: &Console,
    identity: &Identity,
    handler: Handler,
    new_secret: Option<String>,
) -> Answer {
    let history = identity.view_of(console.store().handler_history(handler.id).await?);
    let (spec, defaults) = (&handler.spec, &console.trials.defaults);
    let settings = SETTINGS.iter().filter(|setting| setting.group != SettingGroup::Retry);
    html(&ShowPage {
        frame: Frame::in_section(Section::Handlers, spec.name.as_str(), identity),
        new_secret,
        is_enabled: spec.status == Status::Enabled,
        is_archived: spec.status == Status::Archived,
        can_be_signed: spec.task.kind().can_be_signed(),
        parameters: spec.task.parameters(),
        settings: settings.map(|setting| (setting.label, setting.applied(spec, defaults))).collect(),
        retry: retry(console, spec),
        updated: format!("{} UTC", moment(handler.updated_at)),
        history: history.iter().map(HistoryView::of).collect(),
        handler,
    })
}

/// The effective retry schedule: the values of the handler, else those of the configuration.
fn retry(console: &Console, spec: &HandlerSpec) -> String {
    let policy = console.trials.defaults.retry_of(spec);
    let own = if spec.retry.is_empty() { ", as configured" } else { "" };
    format!(
        "{} attempts over {}{own}",
        policy.max_attempts,
        typed(Duration::from_secs(policy.whole_schedule().as_secs()))
    )
}

pub async fn ask_secret(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(id): Path<String>,
) -> Answer {
    let handler = named(&console, &id).await?;
    let frame = Frame::in_section(Section::Handlers, &format!("Signing of {}", handler.spec.name), &identity);
    html(&SecretPage { frame, handler })
}

pub async fn change_secret(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(id): Path<String>,
    Form(sent): Form,
) -> Answer {
    let id = named(&console, &id).await?.id;
    let store = console.store();
    match sent.get("what") {
        "rotate" => {
            let secret = SigningSecret::generate().expose();
            let stored = secrecy::SecretString::from(secret.clone());
            let handler = store.rotate_secret(id, None, &stored, KEEP_OLD, &identity.by()).await?;
            page(&console, &identity, handler, Some(secret)).await
        }
        "remove" => {
            let handler = store.remove_secret(id, None, &identity.by()).await?;
            Ok(done("/handlers", "unsigned", &handler.id))
        }
        other => Err(Problem::bad_request(format!("what: {other:?} is not rotate or remove"))),
    }
}
