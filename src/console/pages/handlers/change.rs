//! Creates and changes handlers. A change is rejected if somebody else changed the handler after the form was loaded.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
};

use super::{Answer, form::HandlerForm, history::Stale, named};
use crate::{
    console::{
        Console,
        access::{Identity, Operator},
        pages::{
            fields::{Form, Query},
            format::typed,
            html,
            layout::{Frame, Section, done},
            lists::{Group, groups},
            with_status,
        },
    },
    domain::{
        handler::{HandlerSpec, SettingGroup},
        secret::SigningSecret,
        task::{ScriptPath, Task, TaskType},
    },
    runner::check_target,
    store::StoreError,
};

const LIST: &str = "/handlers";

#[derive(Template)]
#[template(path = "handlers/form.html")]
struct FormPage {
    frame: Frame,
    form: HandlerForm,
    stale: Option<Stale>,
    groups: Vec<Group>,
    script_hint: String,
    retry_hint: String,
}

async fn form_page(
    console: &Console,
    identity: &Identity,
    form: HandlerForm,
    stale: Option<Stale>,
) -> Answer {
    let settings = &console.settings;
    let roots: Vec<String> = settings.scripts.roots().iter().map(|root| root.display().to_string()).collect();
    let script_hint = match roots.as_slice() {
        [] => "No script directory is configured (script.roots): scripts are refused".to_owned(),
        roots => format!("The event is its standard input. A path below {}", roots.join(" or ")),
    };
    let retry = &console.trials.defaults.retry;
    let retry_hint = format!(
        "{} attempts, the first retry after {}, each next delay {} times as long, at most {}",
        retry.max_attempts,
        typed(retry.initial_interval),
        retry.multiplier,
        typed(retry.max_interval)
    );
    let frame = Frame::in_section(Section::Handlers, &form.title(), identity);
    let status = match (&stale, form.errors.is_empty()) {
        (Some(_), _) => StatusCode::CONFLICT,
        (None, true) => StatusCode::OK,
        (None, false) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let groups = groups(console.store().list_event_types(false).await?);
    with_status(status, html(&FormPage { frame, form, stale, groups, script_hint, retry_hint }))
}

pub async fn new(
    Operator(identity): Operator,
    State(console): State<Console>,
    Query(query): Query,
) -> Answer {
    form_page(&console, &identity, HandlerForm::blank(query.get("event")), None).await
}

pub async fn create(
    Operator(identity): Operator,
    State(console): State<Console>,
    Form(sent): Form,
) -> Answer {
    let mut form = HandlerForm::typed(&sent, None);
    let Some(spec) = checked(&console, &mut form, None).await else {
        return form_page(&console, &identity, form, None).await;
    };
    let secret = (form.sign == "on" && spec.task.kind().can_be_signed()).then(SigningSecret::generate);
    let stored = secret.as_ref().map(|secret| secrecy::SecretString::from(secret.expose()));
    match console.store().create_handler(&spec, stored.as_ref(), &identity.by()).await {
        Ok(handler) => match secret {
            Some(secret) => super::show::page(&console, &identity, handler, Some(secret.expose())).await,
            None => Ok(done(LIST, "created", &handler.id)),
        },
        Err(StoreError::Refused(why)) => {
            form.errors.add("form", why);
            form_page(&console, &identity, form, None).await
        }
        Err(error) => Err(error.into()),
    }
}

pub async fn edit(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(id): Path<String>,
) -> Answer {
    let handler = named(&console, &id).await?;
    form_page(&console, &identity, HandlerForm::of(&handler), None).await
}

pub async fn save(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(id): Path<String>,
    Form(sent): Form,
) -> Answer {
    let handler = named(&console, &id).await?;
    let mut form = HandlerForm::typed(&sent, Some(handler.id));
    let Some(spec) = checked(&console, &mut form, Some(&handler.spec)).await else {
        return form_page(&console, &identity, form, None).await;
    };
    let store = console.store();
    match store.update_handler(handler.id, Some(form.version), |_| spec, &identity.by(), None).await {
        Ok(handler) => Ok(done(LIST, "saved", &handler.id)),
        Err(StoreError::Conflict { version }) => {
            let stale = Stale::since(form.version, version, &store.handler_history(handler.id).await?);
            // The page shows the changes of the others. Saving again overwrites them.
            form.version = version;
            form_page(&console, &identity, form, Some(stale)).await
        }
        Err(StoreError::Refused(why)) => {
            form.errors.add("form", why);
            form_page(&console, &identity, form, None).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks the form and returns the handler; `None` after adding the errors to the form. The store checks the rest: the
/// version, and whether the event type exists.
async fn checked(
    console: &Console,
    form: &mut HandlerForm,
    before: Option<&HandlerSpec>,
) -> Option<HandlerSpec> {
    let spec = form.spec(before)?;
    let settings = &console.settings;
    match &spec.task {
        Task::Http { url, .. } => {
            if let Err(why) = check_target(&settings.address_rules, url).await {
                form.errors.add("url", why.to_string());
            }
        }
        Task::Script { path, .. }
            if path.climbs() && before.is_none_or(|before| before.task.target() != path.as_str()) =>
        {
            form.errors.add("path", ScriptPath::CLIMBS);
        }
        // Workers may run on other machines with other scripts. So the first submit of a path only warns, and the
        // second one is accepted.
        Task::Script { path, .. } if form.known_path != form.path => {
            if let Err(why) = settings.scripts.examine(path) {
                let once_more = "if the workers can run it, submit the form again";
                form.errors.add(
                    "path",
                    format!("the script cannot be run where the console runs: {why}; {once_more}"),
                );
                form.known_path.clone_from(&form.path);
            }
        }
        Task::Script { .. } => {}
    }
    form.errors.is_empty().then_some(spec)
}
