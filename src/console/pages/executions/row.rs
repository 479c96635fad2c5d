//! An execution as a row of the list.

use uuid::Uuid;

use crate::{
    console::pages::{
        fields::href,
        format::{duration, moment, short},
    },
    domain::execution::{Disposition, EventRef, Execution, HandlerRef, Status},
    store::ExecutionRow,
};

/// The texts and links of a row.
pub struct Row {
    pub id: Uuid,
    pub short_id: String,
    pub word: &'static str,
    /// An addition to the status, such as "retrying".
    pub more: &'static str,
    /// A sentence that explains the disposition.
    pub meaning: &'static str,
    pub tone: &'static str,
    pub started_at: String,
    pub date: String,
    pub event: String,
    pub event_href: String,
    /// The name or the id of the handler. Empty for an execution without a handler.
    pub handler: String,
    pub handler_href: String,
    pub handler_page: String,
    pub attempt: u32,
    pub max_attempts: u32,
    pub object_id: String,
    pub object_short: String,
    pub object_href: String,
    pub error: String,
    pub is_failure: bool,
    pub duration: String,
}

impl Row {
    pub fn of(row: &ExecutionRow) -> Self {
        let counts = (row.attempt, row.max_attempts);
        let ended = (row.disposition, row.error.as_deref(), row.duration_ms);
        Self::new(row.id, &row.event, row.handler.as_ref(), counts, ended, row.started_at)
    }

    pub fn of_whole(execution: &Execution) -> Self {
        let counts = (execution.attempt, execution.max_attempts);
        let ended = (execution.disposition, execution.error.as_deref(), execution.duration_ms);
        let (event, handler) = (&execution.event, execution.handler.as_ref());
        Self::new(execution.id, event, handler, counts, ended, execution.started_at)
    }

    fn new(
        id: Uuid,
        event: &EventRef,
        handler: Option<&HandlerRef>,
        (attempt, max_attempts): (u32, u32),
        (disposition, error, milliseconds): (Disposition, Option<&str>, u64),
        started_at: jiff::Timestamp,
    ) -> Self {
        let (tone, more, meaning) = disposition_texts(disposition);
        let status = disposition.status();
        let number = handler.map(|handler| handler.id.to_string()).unwrap_or_default();
        let named = |handler: &HandlerRef| {
            handler.name.as_ref().map_or_else(|| format!("handler {}", handler.id), ToString::to_string)
        };
        let text = id.to_string();
        Self {
            id,
            short_id: text.get(text.len() - 8..).unwrap_or(&text).to_owned(),
            word: status.as_str(),
            more,
            meaning,
            tone,
            started_at: started_at.to_string(),
            date: moment(started_at),
            event: event.name.to_string(),
            event_href: href("/executions", "event", event.name.as_str()),
            handler: handler.map(named).unwrap_or_default(),
            handler_href: href("/executions", "handler", &number),
            handler_page: format!("/handlers/{number}"),
            attempt,
            max_attempts,
            object_id: event.object_id.clone(),
            object_short: short(&event.object_id, 24),
            object_href: href("/executions", "object_id", &event.object_id),
            error: error.unwrap_or_default().to_owned(),
            is_failure: status == Status::Fail,
            duration: if attempt == 0 { "–".to_owned() } else { duration(milliseconds) },
        }
    }
}

/// For a disposition: the CSS class, the addition to the status, and the sentence that explains it.
const fn disposition_texts(disposition: Disposition) -> (&'static str, &'static str, &'static str) {
    match disposition {
        Disposition::Done => ("good", "", "The handler succeeded."),
        Disposition::Forbidden => {
            ("warn", "forbidden", "The handler forbade the event; the handlers after it did not run.")
        }
        Disposition::Retrying => ("warn", "retrying", "The attempt failed or was deferred, and is retried."),
        Disposition::DeadLettered => {
            ("bad", "dead letter", "The handler was given up; there is a dead letter.")
        }
        Disposition::HandlerOff => {
            ("", "handler off", "The handler was disabled, archived, deleted or moved to another event type.")
        }
        Disposition::NotReached => ("", "not reached", "A handler before it forbade the event."),
        Disposition::NoHandler => ("", "no handler", "No handler was enabled for the event."),
        Disposition::Duplicate => {
            ("", "duplicate", "The event was published before, so it did not run again.")
        }
        Disposition::NotAnswered => {
            ("", "not answered", "The event ran, but its reply_to names a queue of provisiond.")
        }
    }
}
