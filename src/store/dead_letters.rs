//! Dead letters: inserted here, searched in `search` (by the filter in `filter`), closed in `close`.

mod close;
mod filter;
mod open;
mod row;
mod search;

use super::{
    Result, Store,
    sql::{Column, clean, clean_opt, insert_all, values_of},
};
use crate::domain::{dead_letter::DeadLetterMessage, handler::HandlerName, plan::Plan};
pub use close::Closing;
pub use filter::DeadLetterFilter;
pub use open::OpenDeadLetters;
pub(super) use row::{COLUMNS, MESSAGE, stored};
pub use row::{DeadLetterRow, StoredDeadLetter};
pub use search::Summary;

impl Store {
    /// Inserts a batch in one statement and returns the number of new dead letters. Existing ones stay unchanged,
    /// whatever their state is.
    ///
    /// # Errors
    /// [`super::StoreError::BadData`] if one of them cannot be stored; then none is stored.
    pub async fn insert_dead_letters(&self, batch: &[DeadLetterMessage]) -> Result<u64> {
        let mut columns = columns(batch);
        columns.extend(message_columns(batch));
        let sql = insert_all("dead_letters", &columns);
        self.session().await?.execute(&sql, &values_of(&columns)).await
    }
}

fn columns(batch: &[DeadLetterMessage]) -> Vec<Column<'_>> {
    let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    vec![
        Column::of("id", "uuid", batch, |d| d.facts.id),
        Column::of("event_id", "text", batch, |d| clean_opt(d.facts.event_id.as_deref())),
        Column::of("run_id", "text", batch, |d| clean_opt(d.facts.run_id.as_deref())),
        Column::of("event_name", "text", batch, |d| clean(&d.facts.event_name)),
        Column::of("object_id", "text", batch, |d| clean_opt(d.facts.object_id.as_deref())),
        Column::of("reason", "text", batch, |d| d.facts.reason.as_str()),
        Column::of("error", "text", batch, |d| clean(&d.facts.error)),
        Column::of("handler_id", "bigint", batch, |d| d.facts.handler_id.map(|id| id.0)),
        Column::of("handler_name", "text", batch, |d| d.facts.handler_name.as_ref().map(HandlerName::as_str)),
        Column::of("attempts", "integer", batch, |d| int(d.facts.attempts)),
        // `UNNEST` flattens arrays of arrays, so plans are sent as text.
        Column::of("plan", "text", batch, |d| Plan::of(&d.facts.plan, &[]).to_string())
            .read_as("string_to_array(plan, ',')::bigint[]"),
        Column::of("plan_created", "text", batch, |d| {
            Plan::of(&d.facts.plan, &d.facts.plan_created).created_text()
        })
        .read_as("string_to_array(plan_created, ',')::bigint[]"),
        Column::of("first_failed_at", "timestamptz", batch, |d| d.facts.first_failed_at),
        Column::of("died_at", "timestamptz", batch, |d| d.facts.died_at),
        Column::of("worker_host", "text", batch, |d| d.facts.worker.as_ref().map(|w| clean(&w.host))),
        Column::of("worker_pid", "bigint", batch, |d| d.facts.worker.as_ref().map(|w| i64::from(w.pid))),
        Column::of("worker_version", "text", batch, |d| d.facts.worker.as_ref().map(|w| clean(&w.version))),
    ]
}

fn message_columns(batch: &[DeadLetterMessage]) -> Vec<Column<'_>> {
    vec![
        Column::of("body", "bytea", batch, |d| d.body.as_ref()),
        Column::of("content_type", "text", batch, |d| clean_opt(d.content_type.as_deref())),
        Column::of("exchange", "text", batch, |d| clean_opt(d.exchange.as_deref())),
        Column::of("routing_key", "text", batch, |d| clean_opt(d.routing_key.as_deref())),
        Column::of("traceparent", "text", batch, |d| clean_opt(d.trace.parent.as_deref())),
        Column::of("tracestate", "text", batch, |d| clean_opt(d.trace.state.as_deref())),
    ]
}

#[cfg(test)]
mod tests;
