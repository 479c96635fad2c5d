//! `publish`: publishes events, as the platform does.

mod expected;

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    context::{Context, read_data},
    error::CliError,
    executions::{Brief, summary},
    time::parse_duration,
};
use crate::{
    broker::{Connection, Names, ResultWatch, event, is_not_found, publish_all, queue_depth},
    domain::event::{EventId, EventName, ObjectId, compose_fitting},
};
use expected::Expected;

const UNHANDLED_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(super) struct Args {
    /// Event type, such as clients.create
    event: EventName,
    /// Object that the event is about: a number or a text
    #[arg(long, allow_hyphen_values = true, value_parser = ObjectId::typed)]
    object_id: ObjectId,
    /// Data of the event, a JSON object; @FILE reads a file, - reads stdin
    #[arg(long, default_value = "{}", value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    data: String,
    /// Event id (message_id); default: a random one. With --count, -1, -2, … is appended
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    id: Option<String>,
    /// Publish this many events, each with its own id
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Print executions as they end, and wait until every handler has ended
    #[arg(long)]
    wait: bool,
    /// How long --wait waits
    #[arg(long, default_value = "60s", value_parser = parse_duration, requires = "wait")]
    timeout: Duration,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let data = read_data(&args.data)?;
    let max_bytes = context.config.worker.max_event_bytes;
    let body = compose_fitting(&args.event, &args.object_id, &data, Timestamp::now(), max_bytes);
    let body = body.map_err(|error| CliError::usage(format!("nothing was published: {error}")))?;
    let ids = event_ids(&args)?;
    let broker = context.broker()?;
    let names = broker.topology.names.clone();
    let connection = broker.dial("publish").await?;
    let expected = if args.wait { Some(Expected::of(context, &args.event, &ids).await?) } else { None };
    let watch = match &expected {
        Some(_) => Some(ResultWatch::open(&connection, &names, std::slice::from_ref(&args.event)).await?),
        None => None,
    };
    warn_unrouted(&connection, &names, &args.event).await?;
    publish(context, &connection, &names, &args, &ids, &body).await?;
    match (expected, watch) {
        (Some(expected), Some(watch)) => wait(context, &args, expected, watch, &ids).await,
        _ => print_published(context, &args.event, &ids),
    }
}

async fn wait(
    context: &Context,
    args: &Args,
    mut expected: Expected,
    watch: ResultWatch,
    ids: &[EventId],
) -> Result<(), CliError> {
    let unhandled = expected.handlers.is_empty();
    // Workers record that no handler was enabled, unless `worker.record_unhandled` is false. Then nothing arrives.
    let limit = if unhandled { args.timeout.min(UNHANDLED_TIMEOUT) } else { args.timeout };
    let result = tokio::time::timeout(limit, print_executions(context, &mut expected, watch)).await;
    match result {
        Ok(printed) => printed,
        Err(_) if unhandled => {
            Context::hint(&format!("no handler is enabled for {}", args.event));
            Ok(())
        }
        Err(_) => Err(CliError::failed(format!(
            "not all handlers ended within {limit:?} (--timeout): {} \
             To see the executions so far: provisiond executions list --event-id {}",
            expected.likely_reason(),
            ids.first().map(EventId::as_str).unwrap_or_default(),
        ))),
    }
}

async fn publish(
    context: &Context,
    connection: &Connection,
    names: &Names,
    args: &Args,
    ids: &[EventId],
    body: &Bytes,
) -> Result<(), CliError> {
    let progress = context.progress(ids.len());
    let messages = ids.iter().map(|id| event(names, &args.event, id, body.clone()));
    publish_all(connection, messages, || progress.inc(1)).await.map_err(|error| {
        let exchange = names.events();
        let why = if is_not_found(&error) {
            format!("there is no exchange {exchange}: it is declared when a worker starts (provisiond serve)")
        } else {
            let id = ids.first().map(EventId::as_str).unwrap_or_default();
            format!(
                "the broker did not confirm all events; an unconfirmed event may or may not be published (id {id})"
            )
        };
        error.context(why)
    })?;
    progress.finish_and_clear();
    Ok(())
}

fn event_ids(args: &Args) -> Result<Vec<EventId>, CliError> {
    let Some(id) = &args.id else {
        return Ok((0..args.count).map(|_| EventId::from_message_id(&Uuid::now_v7().to_string())).collect());
    };
    let text = |n| if args.count == 1 { id.clone() } else { format!("{id}-{n}") };
    (1..=args.count)
        .map(|n| EventId::try_from(text(n)).map_err(|e| CliError::usage(format!("--id: {e}"))))
        .collect()
}

async fn warn_unrouted(connection: &Connection, names: &Names, name: &EventName) -> Result<(), CliError> {
    if queue_depth(connection, &names.event_queue(name)).await?.is_none() {
        Context::hint(&format!(
            "warning: {name} has no queue, so the event becomes a dead letter (unrouted). To see the event types: \
             provisiond events list. To add this one: provisiond events add {name}. Queues are declared when a \
             worker starts"
        ));
    }
    Ok(())
}

fn print_published(context: &Context, name: &EventName, ids: &[EventId]) -> Result<(), CliError> {
    context.output.value(ids, |ids| match ids {
        [id] => format!("published {name} as {id}\n"),
        _ => format!("published {} × {name}\n", ids.len()),
    })
}

/// # Errors
/// If a handler was given up: scripts rely on the exit code.
async fn print_executions(
    context: &Context,
    expected: &mut Expected,
    mut watch: ResultWatch,
) -> Result<(), CliError> {
    while !expected.open.is_empty() {
        let execution = watch.next().await?;
        if expected.record(&execution) {
            if context.output.is_json() {
                context.output.json_line(&execution)?;
            } else {
                context.output.text(&summary(&Brief::from(&execution)))?;
            }
        }
    }
    match expected.dead_lettered {
        0 => Ok(()),
        n => Err(CliError::failed(format!("dead letters: {n}; to see why: provisiond dead-letters list"))),
    }
}
