//! `handlers test`: one call with a sample of the handler's event, and what came of it.

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::{
    cli::{
        context::{Context, read_data},
        error::CliError,
        output::{answer, facts, lines},
        settings,
    },
    domain::{
        event::{Arrival, Event, compose, decode, sample_data},
        execution::Status,
        handler::{Handler, HandlerId, Mode},
        secret::SigningSecret,
    },
    runner::{Runner, Sent, Trial, TrialOf},
    store::RegisteredHandler,
};

#[derive(clap::Args)]
pub(in crate::cli) struct Test {
    /// The handler's id; it may be disabled
    id: HandlerId,
    /// The event's data, a JSON object, in the place of a sample; @FILE reads a file, - reads stdin
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// The object that the event is about: a number or a text
    #[arg(long, default_value = "12", allow_hyphen_values = true)]
    object_id: String,
}

pub(super) async fn run(context: &Context, test: Test) -> Result<(), CliError> {
    let registered = context.store()?.registered_handler(test.id).await?;
    let RegisteredHandler { handler, secrets, unusable } = registered;
    if let Some(why) = unusable {
        return Err(CliError::failed(format!("not called: {why}")));
    }
    let secrets: Vec<SigningSecret> = secrets
        .iter()
        .map(|secret| secret.expose_secret().parse())
        .collect::<Result<_, _>>()
        .map_err(|e| CliError::failed(format!("its signing secret cannot be used: {e}")))?;
    let config = &context.config;
    let max_event_bytes = config.worker.max_event_bytes;
    let event = event(&handler, &test, max_event_bytes)?;
    let runner = Runner::new(settings::runner(config))?;
    let of = TrialOf {
        handler: &handler,
        secrets: &secrets,
        event: &event,
        timeout: config.timeout_of(&handler.spec),
        policy: &config.retry.with(&handler.spec.retry),
        max_event_bytes,
    };
    let trial = runner.try_out(of).await.map_err(anyhow::Error::from)?;
    context.output.value(&trial, text)?;
    if trial.status == Status::Success { Ok(()) } else { Err(CliError::Told) }
}

/// An event of its own, so that the receiver does not take it for a repetition.
fn event(handler: &Handler, test: &Test, max_event_bytes: usize) -> Result<Event, CliError> {
    let name = &handler.spec.event;
    let data = match &test.data {
        Some(given) => read_data(given)?,
        None => serde_json::value::to_raw_value(&sample_data(name, &test.object_id))
            .map_err(anyhow::Error::from)?,
    };
    let body = compose(name, &test.object_id, &data, Timestamp::now()).map_err(anyhow::Error::from)?;
    let message_id = format!("test-{}", Uuid::now_v7());
    let arrival = Arrival {
        name,
        content_type: None,
        message_id: Some(&message_id),
        timestamp: None,
        body: &body,
        known_id: None,
    };
    decode(&arrival, max_event_bytes).map_err(CliError::usage)
}

fn text(trial: &Trial) -> String {
    let (target, with, body) = match &trial.sent {
        Sent::Http { method, url, headers, body } => {
            let headers = lines(headers.iter().map(|(name, value)| format!("{name}: {value}")));
            (format!("{method} {url}"), headers, body)
        }
        Sent::Script { path, args, stdin } => (path.clone(), lines(args.iter()), stdin),
    };
    let called = [("Request", target), ("With", with.trim_end().to_owned()), ("Sent", body.get().to_owned())];
    let judged = [
        ("Duration", format!("{} ms", trial.duration_ms)),
        ("Status", trial.status.to_string()),
        ("Error", trial.error.clone().unwrap_or_default()),
        ("Verdict", verdict(trial)),
        ("Modified", trial.modified.as_ref().map(|body| body.get().to_owned()).unwrap_or_default()),
        ("A worker", consequence(trial)),
    ];
    facts(&[&called[..], &answer(trial.response.as_ref()), &judged].concat())
}

fn verdict(trial: &Trial) -> String {
    match (trial.status, trial.handler.mode) {
        (Status::Success, Some(Mode::Intercept)) => trial.verdict.to_owned(),
        (Status::Success, _) => "allow (mode notify: the answer changes nothing)".to_owned(),
        _ => String::new(),
    }
}

/// What would follow, had a worker made this call.
fn consequence(trial: &Trial) -> String {
    let mut told = match (&trial.retry_in, trial.dead_letter) {
        (Some(after), _) => format!("would try again in {after}"),
        (None, Some(reason)) => format!("would make a dead letter of it ({reason})"),
        (None, None) if trial.verdict == "forbid" => "would not run the handlers after it".to_owned(),
        (None, None) => "would go on with the next handler".to_owned(),
    };
    if trial.disables {
        told.push_str(", and disable the handler (410)");
    }
    told
}
