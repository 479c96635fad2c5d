//! Adds an event type to the catalogue, or removes one.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
};

use crate::{
    console::{
        Console,
        access::{Identity, Operator},
        pages::{
            Answer,
            fields::{Errors, Fields, Form},
            html,
            layout::{Frame, Section, done},
            with_status,
        },
        problem::Problem,
    },
    domain::event::EventName,
    operations::{NewEventType, add_event_type, remove_event_type},
    store::StoreError,
};

const LIST: &str = "/events";

#[derive(Default)]
struct NewForm {
    name: String,
    group: String,
    title: String,
    errors: Errors,
}

impl NewForm {
    fn typed(fields: &Fields) -> Self {
        let text = |name| fields.get(name).to_owned();
        Self { name: text("name"), group: text("group"), title: text("title"), errors: Errors::default() }
    }

    fn error(&self, field: &str) -> &str {
        self.errors.of(field)
    }
}

#[derive(Template)]
#[template(path = "events/new.html")]
struct NewPage {
    frame: Frame,
    problem: String,
    form: NewForm,
}

#[derive(Template)]
#[template(path = "events/remove.html")]
struct RemovePage {
    frame: Frame,
    problem: String,
    name: EventName,
    queue: String,
}

fn new_page(identity: &Identity, form: NewForm, problem: String) -> Answer {
    let refused = !problem.is_empty() || !form.errors.is_empty();
    let status = if refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let frame = Frame::in_section(Section::Events, "Add an event type", identity);
    with_status(status, html(&NewPage { frame, problem, form }))
}

pub async fn new(Operator(identity): Operator) -> Answer {
    new_page(&identity, NewForm::default(), String::new())
}

pub async fn add(Operator(identity): Operator, State(console): State<Console>, Form(sent): Form) -> Answer {
    let mut form = NewForm::typed(&sent);
    let Some(name) = form.errors.take("name", form.name.parse::<EventName>()) else {
        return new_page(&identity, form, String::new());
    };
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let new = NewEventType { name, group: given(&form.group), title: given(&form.title) };
    match add_event_type(console.store(), &console.dead_letters.broker, new).await {
        Ok(_) => Ok(done(LIST, "added", &1)),
        Err(error) => new_page(&identity, form, refusal(error)?),
    }
}

/// The message if a rule forbids the change, for the form. Any other error becomes a problem.
fn refusal(error: anyhow::Error) -> Result<String, Problem> {
    match error.downcast::<StoreError>() {
        Ok(StoreError::Refused(why)) => Ok(why),
        Ok(error) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}

fn parse(name: &str) -> Result<EventName, Problem> {
    name.parse().map_err(|_| Problem::not_found(format!("there is no event type {name}")))
}

fn remove_page(console: &Console, identity: &Identity, name: EventName, problem: String) -> Answer {
    let status = if problem.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let frame = Frame::in_section(Section::Events, &format!("Remove {name}"), identity);
    let queue = console.dead_letters.broker.topology.names.event_queue(&name);
    with_status(status, html(&RemovePage { frame, problem, name, queue }))
}

pub async fn ask_remove(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(name): Path<String>,
) -> Answer {
    remove_page(&console, &identity, parse(&name)?, String::new())
}

pub async fn remove(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(name): Path<String>,
) -> Answer {
    let name = parse(&name)?;
    match remove_event_type(console.store(), &console.dead_letters.broker, &name).await {
        Ok(_) => Ok(done(LIST, "removed", &1)),
        Err(error) => remove_page(&console, &identity, name, refusal(error)?),
    }
}
