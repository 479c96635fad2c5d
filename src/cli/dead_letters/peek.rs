//! `dead-letters peek`.

use serde::Serialize;

use crate::{
    broker::RecorderQueue,
    cli::{
        context::Context,
        error::CliError,
        output::{format_time, short, table},
    },
    dead_letters::{Body, Peeked, Waiting},
};

#[derive(clap::Args)]
#[command(after_help = "\
The messages stay in the queue: when the command ends, they are in their places again. Until then, no other consumer
receives them.")]
pub(in crate::cli) struct Args {
    /// Name of the queue: dead-letters, unrouted or execution-log
    #[arg(long, default_value = "dead-letters")]
    queue: RecorderQueue,
    /// Show at most this many, from the front of the queue
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
}

/// A message with its body, for JSON output.
#[derive(Serialize)]
struct FullMessage<'a> {
    #[serde(flatten)]
    waiting: &'a Waiting,
    #[serde(flatten)]
    body: Body<'a>,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let peeked = context.dead_letters()?.peek(args.queue, args.limit).await?;
    let Some(peeked) = peeked else {
        return Err(CliError::NotFound(format!(
            "there is no queue for {}: it is declared when a worker or a recorder starts (provisiond serve)",
            args.queue
        )));
    };
    if context.output.is_json() {
        let messages: Vec<FullMessage<'_>> = peeked
            .waiting
            .iter()
            .map(|waiting| FullMessage { waiting, body: Body::of(&waiting.body) })
            .collect();
        context.output.json(&messages)?;
    } else {
        context.output.text(&waiting_table(&peeked))?;
    }
    Context::hint(&recorder_hint(context, args.queue, &peeked));
    if peeked.moved {
        Context::hint("the queue has too many requeued messages: these messages are now behind the others");
    }
    Ok(())
}

/// How many messages wait in the queue, and the likely reason.
fn recorder_hint(context: &Context, queue: RecorderQueue, peeked: &Peeked) -> String {
    let Peeked { queue: name, messages, consumers, waiting, .. } = peeked;
    let is_kept = queue == RecorderQueue::DeadLetters && !context.config.recorder.drain_dead_letters;
    let shown = if (*messages as usize) > waiting.len() {
        format!(", of which the first {} are shown", waiting.len())
    } else {
        String::new()
    };
    match (consumers, messages) {
        (0, _) if is_kept => format!(
            "{messages} wait in {name}{shown}: recorder.drain_dead_letters is false, so they stay there"
        ),
        (0, _) => format!(
            "{messages} wait in {name}{shown}: no recorder is running (provisiond serve --roles recorder)"
        ),
        (_, 0) => format!("nothing waits in {name}: the recorder is up to date"),
        (_, _) => format!("{messages} wait in {name}{shown}: the recorder is behind"),
    }
}

fn waiting_table(peeked: &Peeked) -> String {
    if peeked.waiting.is_empty() {
        return "no messages\n".to_owned();
    }
    table(
        ["Message", "Died (UTC)", "Event", "Event ID", "Reason", "Handler", "Attempts", "Bytes", "Error"],
        peeked.waiting.iter().map(|w| {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
            [
                w.kind.to_string(),
                or_dash(w.died_at.map(format_time)),
                short(&w.event_name, 60),
                or_dash(w.event_id.as_deref().map(|id| short(id, 40))),
                or_dash(w.reason.map(|reason| reason.to_string())),
                or_dash(w.handler.as_deref().map(|name| short(name, 30))),
                or_dash(w.attempts.map(|n| n.to_string())),
                w.body.len().to_string(),
                short(w.error.as_deref().unwrap_or_default(), 80),
            ]
        }),
    )
}
