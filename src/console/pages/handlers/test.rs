//! A test call: calls a handler with a sample event, and shows the result.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
};

use super::{Answer, named};
use crate::{
    console::{
        Console,
        access::{Identity, Operator},
        pages::{
            body::Body,
            executions::{answers, code},
            fields::Form,
            format::duration,
            html,
            layout::{Frame, Section},
            sample::SampleForm,
            with_status,
        },
    },
    domain::{execution::Status, handler::Handler},
    operations::{Sample, TrialError},
    runner::{Sent, Trial},
};

/// The result of a test call.
struct TestView {
    tone: &'static str,
    headline: String,
    duration: String,
    consequence: String,
    details: Vec<(&'static str, String)>,
    bodies: Vec<Body>,
}

#[derive(Template)]
#[template(path = "handlers/test.html")]
struct TestPage {
    frame: Frame,
    handler: Handler,
    form: SampleForm,
    problem: String,
    /// `first` if the first field gets the focus. With a result, the result gets it.
    focus: &'static str,
    trial: Option<TestView>,
}

fn page(
    identity: &Identity,
    handler: Handler,
    form: SampleForm,
    problem: String,
    trial: Option<TestView>,
) -> Answer {
    let frame = Frame::in_section(Section::Handlers, &format!("Test {}", handler.spec.name), identity);
    let focus = if trial.is_none() { "first" } else { "" };
    let refused = !problem.is_empty() || !form.errors.is_empty();
    let status = if refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    with_status(status, html(&TestPage { frame, handler, form, problem, focus, trial }))
}

pub async fn ask(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(id): Path<String>,
) -> Answer {
    let handler = named(&console, &id).await?;
    let form = SampleForm::of(&handler.spec.event);
    page(&identity, handler, form, String::new(), None)
}

pub async fn test(
    Operator(identity): Operator,
    State(console): State<Console>,
    Path(id): Path<String>,
    Form(sent): Form,
) -> Answer {
    let handler = named(&console, &id).await?;
    let mut form = SampleForm::typed(&sent);
    let Some((object_id, data)) = form.sample() else {
        return page(&identity, handler, form, String::new(), None);
    };
    let sample = Sample { object_id, data: Some(data) };
    match console.trials.run(handler.id, &sample).await {
        Ok(trial) => page(&identity, handler, form, String::new(), Some(TestView::of(&trial))),
        Err(TrialError::Store(error)) => Err(error.into()),
        Err(error) => page(&identity, handler, form, error.to_string(), None),
    }
}

impl TestView {
    fn of(trial: &Trial) -> Self {
        let succeeded = trial.status == Status::Success;
        let answered = trial.response.as_ref().map(code).filter(|code| !code.is_empty());
        let headline = match (succeeded, answered) {
            (true, Some(code)) => format!("It worked: {code}"),
            (true, None) => "It worked".to_owned(),
            (false, Some(code)) => format!("It failed: {code}"),
            (false, None) => "It failed".to_owned(),
        };
        let forbade = trial.verdict == "forbid";
        let tone = if !succeeded {
            "bad"
        } else if forbade {
            "warn"
        } else {
            "good"
        };
        Self {
            tone,
            headline,
            duration: duration(trial.duration_ms),
            consequence: trial.consequence(),
            details: details(trial),
            bodies: bodies(trial),
        }
    }
}

fn details(trial: &Trial) -> Vec<(&'static str, String)> {
    let mut details = Vec::new();
    if let Some(error) = &trial.error {
        details.push(("Error", error.clone()));
    }
    details.push(("Verdict", trial.verdict_told()));
    match &trial.sent {
        Sent::Http { method, url, .. } => details.push(("Request", format!("{method} {url}"))),
        Sent::Script { path, .. } => details.push(("Command", path.clone())),
    }
    details.retain(|(_, value)| !value.is_empty());
    details
}

fn bodies(trial: &Trial) -> Vec<Body> {
    let new = |id, title: String, text: &str| Body::new(id, title, text, "", true);
    let mut bodies = Vec::new();
    match &trial.sent {
        Sent::Http { headers, body, .. } => {
            let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            bodies.push(new("trial-sent", "Sent".to_owned(), body.get()));
            bodies.push(new("trial-with", "With these headers".to_owned(), &lines.join("\n")));
        }
        Sent::Script { args, stdin, .. } => {
            bodies.push(new("trial-sent", "Its standard input".to_owned(), stdin.get()));
            if !args.is_empty() {
                bodies.push(new("trial-with", "With these arguments".to_owned(), &args.join("\n")));
            }
        }
    }
    for (id, title, text) in answers(trial.response.as_ref()) {
        bodies.insert(0, new(id, title, text));
    }
    if let Some(modified) = &trial.modified {
        bodies.push(new("trial-modified", "What handlers after it would get".to_owned(), modified.get()));
    }
    bodies
}
