//! Publishes one event by hand, then shows the live list of its executions.

use askama::Template;
use axum::{extract::State, http::StatusCode};

use crate::{
    console::{
        Console,
        access::{Identity, Operator},
        pages::{
            Answer,
            fields::{Fields, Form, Query},
            format::counted,
            html,
            layout::{Frame, Section, done},
            lists::{Group, groups},
            sample::SampleForm,
            with_status,
        },
        problem::Problem,
    },
    domain::event::{EventName, Malformed},
    operations::{NewEvent, publish_event},
};

#[derive(Template)]
#[template(path = "events/publish.html")]
struct PublishPage {
    frame: Frame,
    problem: String,
    groups: Vec<Group>,
    form: SampleForm,
    handlers_text: String,
}

async fn page(console: &Console, identity: &Identity, form: SampleForm) -> Answer {
    let types = console.store().list_event_types(false).await?;
    let event = form.event.parse::<EventName>().ok();
    let handlers_text = match event {
        Some(event) => {
            let enabled = console.store().enabled_handlers().await?;
            let count = enabled.get(event.as_str()).copied().unwrap_or_default();
            format!("now {}", counted(count, "handler", "handlers"))
        }
        None => String::new(),
    };
    let status = if form.errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let frame = Frame::in_section(Section::Events, "Publish a test event", identity);
    let page = PublishPage { frame, problem: String::new(), groups: groups(types), form, handlers_text };
    with_status(status, html(&page))
}

pub async fn ask(
    Operator(identity): Operator,
    State(console): State<Console>,
    Query(query): Query,
) -> Answer {
    let name = match query.get("event").parse::<EventName>() {
        Ok(name) => Some(name),
        Err(_) => console.store().list_event_types(false).await?.into_iter().next().map(|first| first.name),
    };
    let form = name.as_ref().map(SampleForm::of).unwrap_or_default();
    page(&console, &identity, form).await
}

pub async fn publish(
    Operator(identity): Operator,
    State(console): State<Console>,
    Form(sent): Form,
) -> Answer {
    let mut form = SampleForm::typed(&sent);
    let name = form.errors.take("event", form.event.parse::<EventName>());
    let (Some(name), Some((object_id, data))) = (name, form.sample()) else {
        return page(&console, &identity, form).await;
    };
    let new = NewEvent { name, object_id, data, id: None };
    let published =
        publish_event(&console.dead_letters.broker, new, console.dead_letters.max_event_bytes).await;
    let published = match published.map_err(anyhow::Error::downcast::<Malformed>) {
        Ok(published) => published,
        Err(Ok(refused)) => {
            form.errors.add("data", refused.to_string());
            return page(&console, &identity, form).await;
        }
        Err(Err(error)) => return Err(error.into()),
    };
    if !published.has_queue {
        let detail = "the event was published, but has no queue: it becomes a dead letter (unrouted). Queues are declared when a worker starts";
        return Err(Problem::conflict(detail));
    }
    let watch = Fields::default().with("event_id", published.event_id.as_str()).with("live", "on");
    Ok(done(&watch.href("/executions"), "published", &1))
}
