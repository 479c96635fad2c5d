//! Dead letters: written here, searched in `search`.

mod row;
mod search;

use bytes::Bytes;

use super::{
    Result, Store,
    sql::{Column, clean, clean_opt, insert_all, values_of},
};
use crate::domain::{dead_letter::DeadLetter, handler::HandlerName, plan::Plan};
pub use row::{DeadLetterRow, StoredDeadLetter};
pub use search::DeadLetterFilter;

/// A dead letter to be kept: what is known of it, and the message that it was.
#[derive(Clone, Debug)]
pub struct NewDeadLetter {
    pub letter: DeadLetter,
    /// The bytes as they came.
    pub body: Bytes,
    pub content_type: Option<String>,
    /// Where and how it was published, where that is known.
    pub exchange: Option<String>,
    pub routing_key: Option<String>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
}

impl Store {
    /// Writes a batch in one statement; those that are there already stay as they are, whatever became
    /// of them. Gives the number of new ones.
    ///
    /// # Errors
    /// [`super::StoreError::BadData`] if one of them cannot be stored; then none is.
    pub async fn insert_dead_letters(&self, batch: &[NewDeadLetter]) -> Result<u64> {
        let mut columns = columns(batch);
        columns.extend(message_columns(batch));
        let sql = insert_all("dead_letters", &columns);
        self.session().await?.execute(&sql, &values_of(&columns)).await
    }
}

fn columns(batch: &[NewDeadLetter]) -> Vec<Column<'_>> {
    let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    vec![
        Column::of("id", "uuid", batch, |d| d.letter.id),
        Column::of("event_id", "text", batch, |d| clean_opt(d.letter.event_id.as_deref())),
        Column::of("run_id", "text", batch, |d| clean_opt(d.letter.run_id.as_deref())),
        Column::of("event_name", "text", batch, |d| clean(&d.letter.event_name)),
        Column::of("object_id", "text", batch, |d| clean_opt(d.letter.object_id.as_deref())),
        Column::of("reason", "text", batch, |d| d.letter.reason.as_str()),
        Column::of("error", "text", batch, |d| clean(&d.letter.error)),
        Column::of("handler_id", "bigint", batch, |d| d.letter.handler_id.map(|id| id.0)),
        Column::of("handler_name", "text", batch, |d| {
            d.letter.handler_name.as_ref().map(HandlerName::as_str)
        }),
        Column::of("attempts", "integer", batch, |d| int(d.letter.attempts)),
        // UNNEST would take an array of arrays apart: plans travel as text.
        Column::of("plan", "text", batch, |d| Plan::new(d.letter.plan.iter().copied()).to_string())
            .read_as("string_to_array(plan, ',')::bigint[]"),
        Column::of("first_failed_at", "timestamptz", batch, |d| d.letter.first_failed_at),
        Column::of("died_at", "timestamptz", batch, |d| d.letter.died_at),
        Column::of("worker_host", "text", batch, |d| d.letter.worker.as_ref().map(|w| clean(&w.host))),
        Column::of("worker_pid", "bigint", batch, |d| d.letter.worker.as_ref().map(|w| i64::from(w.pid))),
        Column::of("worker_version", "text", batch, |d| d.letter.worker.as_ref().map(|w| clean(&w.version))),
    ]
}

fn message_columns(batch: &[NewDeadLetter]) -> Vec<Column<'_>> {
    vec![
        Column::of("body", "bytea", batch, |d| d.body.as_ref()),
        Column::of("content_type", "text", batch, |d| clean_opt(d.content_type.as_deref())),
        Column::of("exchange", "text", batch, |d| clean_opt(d.exchange.as_deref())),
        Column::of("routing_key", "text", batch, |d| clean_opt(d.routing_key.as_deref())),
        Column::of("traceparent", "text", batch, |d| clean_opt(d.traceparent.as_deref())),
        Column::of("tracestate", "text", batch, |d| clean_opt(d.tracestate.as_deref())),
    ]
}

#[cfg(test)]
mod tests;
