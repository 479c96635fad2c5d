//! `dead-letters show`: one dead letter, as text or JSON.

use uuid::Uuid;

use crate::{
    cli::{
        context::Context,
        error::CliError,
        executions::{Brief, summary},
        output::{field_list, format_time, lines, short},
    },
    dead_letters::{Shown, WholeLetter},
    domain::{
        dead_letter::{DeadLetter, Reason},
        execution::Execution,
    },
    store::DeadLetterRow,
};

pub(super) async fn run(context: &Context, id: Uuid) -> Result<(), CliError> {
    let shown = context.dead_letters()?.show(id).await?;
    if context.output.is_json() {
        return context.output.json(&WholeLetter::of(&shown));
    }
    let mut text = details(&shown);
    text.push_str("\nEvery attempt:\n");
    for attempt in &shown.attempts {
        text.push_str(&summary(&Brief::from(attempt)));
        if let Some(answer) = answer(attempt) {
            text.extend(["    ", &answer, "\n"]);
        }
    }
    if shown.attempts.is_empty() {
        text.push_str("none recorded\n");
    }
    context.output.text(&text)
}

fn details(shown: &Shown) -> String {
    let row = &shown.letter.row;
    let dead_letter = &row.letter;
    let handler = dead_letter.handler_name.as_ref().map(ToString::to_string).unwrap_or_default();
    field_list(&[
        ("ID", dead_letter.id.to_string()),
        ("State", state(row)),
        ("Why", why(dead_letter)),
        ("Event", dead_letter.event_name.clone()),
        ("Event ID", dead_letter.event_id.clone().unwrap_or_default()),
        ("Object ID", dead_letter.object_id.clone().unwrap_or_default()),
        ("Handler", dead_letter.handler_id.map(|id| format!("{handler} (id {id})")).unwrap_or_default()),
        ("Attempts", dead_letter.attempts.to_string()),
        ("First failed", dead_letter.first_failed_at.map(format_time).unwrap_or_default()),
        ("Died", format_time(dead_letter.died_at)),
        ("A replay runs", would_run(shown)),
        ("Body", String::from_utf8_lossy(&shown.letter.body).into_owned()),
    ])
}

fn state(row: &DeadLetterRow) -> String {
    let (Some(at), Some(by)) = (row.state_changed_at, &row.state_changed_by) else {
        return row.state.to_string();
    };
    let note = row.state_note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
    format!("{} at {} by {by}{note}", row.state, format_time(at))
}

/// The reason as a sentence, with the error.
fn why(dead_letter: &DeadLetter) -> String {
    let handler =
        dead_letter.handler_name.as_ref().map_or_else(|| "The handler".to_owned(), ToString::to_string);
    let event = short(&dead_letter.event_name, 60);
    let error = &dead_letter.error;
    match dead_letter.reason {
        Reason::Malformed => format!("The message published as {event} is not a valid event: {error}"),
        Reason::Permanent => {
            format!("{handler} failed permanently on {event} (a retry cannot help): {error}")
        }
        Reason::Exhausted => {
            format!("{handler} failed on {event} {} times; the last error: {error}", dead_letter.attempts)
        }
        Reason::CrashLoop => {
            format!("{event} was started several times, and its worker died each time: {error}")
        }
        Reason::Unrouted => format!("No queue took {event}: {error}"),
        Reason::Expired => format!("RabbitMQ removed {event} from its queue: {error}"),
    }
}

fn would_run(shown: &Shown) -> String {
    let handlers = shown.replay.handlers.iter().map(|handler| {
        let name = handler.name.as_deref().unwrap_or("a deleted handler");
        let note = match (handler.enabled, handler.deleted, &handler.replaced_by) {
            (true, ..) => String::new(),
            (false, _, Some(other)) => {
                format!(", deleted, {} has this id now: skipped", short(other, 60))
            }
            (false, true, None) => ", deleted: skipped".to_owned(),
            (false, false, None) => ", not enabled for this event: skipped".to_owned(),
        };
        format!("{} (id {}{note})", short(name, 60), handler.id)
    });
    let handlers = lines(handlers);
    match &shown.replay.obstacle {
        Some(obstacle) => format!("nothing: {obstacle}\n{}", handlers.trim_end()).trim_end().to_owned(),
        None => handlers.trim_end().to_owned(),
    }
}

/// The answer to an attempt, on one line.
fn answer(attempt: &Execution) -> Option<String> {
    let response = attempt.response.as_ref()?;
    let code = match (response.http_status, response.exit_code, response.signal) {
        (Some(status), ..) => format!("HTTP {status}"),
        (_, Some(code), _) => format!("exit code {code}"),
        (_, _, Some(signal)) => format!("signal {signal}"),
        _ => return None,
    };
    let texts = [&response.body, &response.stdout, &response.stderr];
    let text = texts.into_iter().flatten().find(|text| !text.trim().is_empty());
    Some(match text {
        Some(text) => format!("answered {code}: {}", short(text, 200)),
        None => format!("answered {code}, without any text"),
    })
}
