//! Executions: inserted in batches here, searched in `search`, stored in daily partitions (`partitions`).

mod attempts;
mod counts;
mod filter;
mod history;
mod partitions;
mod row;
mod search;
mod text_index;
mod windowed_search;

use std::collections::BTreeSet;

use jiff::civil::Date;
use tokio_postgres::{Row, types::ToSql};

use super::{
    Result, Store, StoreError,
    sql::{Column, clean, clean_opt, insert_all, values_of},
};
use crate::domain::{
    execution::{Execution, HandlerRef},
    handler::{HandlerName, Mode},
    outcome::Response,
};
pub use filter::ExecutionFilter;
pub(in crate::store) use filter::TextBy;
pub use history::RunKey;
pub use row::ExecutionRow;

impl Store {
    /// Inserts a batch in one statement, updates the counts, and returns the number of new executions. Existing ones
    /// stay unchanged. Creates the daily partitions that are missing.
    ///
    /// # Errors
    /// [`StoreError::BadData`] if one of them cannot be stored; then none is stored.
    pub async fn insert_executions(&self, batch: &[Execution]) -> Result<u64> {
        let columns = columns(batch);
        let (sql, values) = (counts::with_counts(&insert_all("executions", &columns)), values_of(&columns));
        let mut session = self.session().await?;
        match session.query_opt(&sql, &values).await {
            Err(StoreError::BadData(error)) if partitions::is_missing(&error) => {}
            result => return inserted_count(result?.as_ref()),
        }
        let days: BTreeSet<Date> = batch.iter().map(|e| partitions::day_of(e.started_at)).collect();
        for day in days {
            partitions::create(&mut session, day).await?;
        }
        inserted_count(session.query_opt(&sql, &values).await?.as_ref())
    }
}

fn inserted_count(row: Option<&Row>) -> Result<u64> {
    let count: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// The values of all executions, column by column.
fn columns(batch: &[Execution]) -> Vec<Column<'_>> {
    let mut columns = event_columns(batch);
    columns.extend(handler_columns(batch));
    columns.extend(response_columns(batch));
    columns.extend([
        Column::of("attempt", "integer", batch, |e| int(e.attempt)),
        Column::of("max_attempts", "integer", batch, |e| int(e.max_attempts)),
        Column::of("status", "text", batch, |e| e.status.as_str()),
        Column::of("disposition", "text", batch, |e| e.disposition.as_str()),
        Column::of("error", "text", batch, |e| clean_opt(e.error.as_deref())),
        Column::of("request", "text", batch, |e| e.request.get()),
        Column::of("modified", "boolean", batch, |e| e.modified),
        Column::of("retry_at", "timestamptz", batch, |e| e.retry_at),
        Column::of("started_at", "timestamptz", batch, |e| e.started_at),
        Column::of("duration_ms", "bigint", batch, |e| i64::try_from(e.duration_ms).unwrap_or(i64::MAX)),
        Column::of("worker_host", "text", batch, |e| clean(&e.worker.host)),
        Column::of("worker_pid", "bigint", batch, |e| i64::from(e.worker.pid)),
        Column::of("worker_version", "text", batch, |e| clean(&e.worker.version)),
        Column::of("trace_id", "text", batch, |e| clean_opt(e.trace_id.as_deref())),
    ]);
    columns
}

fn event_columns(batch: &[Execution]) -> Vec<Column<'_>> {
    vec![
        Column::of("id", "uuid", batch, |e| e.id),
        Column::of("event_id", "text", batch, |e| e.event.id.as_str()),
        Column::of("event_name", "text", batch, |e| e.event.name.as_str()),
        Column::of("object_id", "text", batch, |e| clean(&e.event.object_id)),
        Column::of("event_dt", "timestamptz", batch, |e| e.event.dt),
        Column::of("run_id", "text", batch, |e| e.run_id.as_str()),
    ]
}

fn handler_columns(batch: &[Execution]) -> Vec<Column<'_>> {
    fn column<'a, T: ToSql + Sync + Send + 'a>(
        name: &'static str,
        ty: &'static str,
        batch: &'a [Execution],
        value: impl Fn(&'a HandlerRef) -> Option<T>,
    ) -> Column<'a> {
        Column::of(name, ty, batch, move |e| e.handler.as_ref().and_then(&value))
    }
    vec![
        column("handler_id", "bigint", batch, |h| Some(h.id.0)),
        column("handler_name", "text", batch, |h| h.name.as_ref().map(HandlerName::as_str)),
        column("handler_priority", "integer", batch, |h| h.priority.map(i32::from)),
        column("handler_mode", "text", batch, |h| h.mode.map(Mode::as_str)),
        column("handler_task_type", "text", batch, |h| h.task.as_ref().map(|t| t.kind.as_str())),
        column("handler_task_target", "text", batch, |h| h.task.as_ref().map(|t| clean(&t.target))),
    ]
}

fn response_columns(batch: &[Execution]) -> Vec<Column<'_>> {
    fn column<'a, T: ToSql + Sync + Send + 'a>(
        name: &'static str,
        ty: &'static str,
        batch: &'a [Execution],
        value: impl Fn(&'a Response) -> Option<T>,
    ) -> Column<'a> {
        Column::of(name, ty, batch, move |e| e.response.as_ref().and_then(&value))
    }
    vec![
        column("response_http_status", "integer", batch, |r| r.http_status.map(i32::from)),
        column("response_exit_code", "integer", batch, |r| r.exit_code),
        column("response_signal", "integer", batch, |r| r.signal),
        column("response_body", "text", batch, |r| clean_opt(r.body.as_deref())),
        column("response_stdout", "text", batch, |r| clean_opt(r.stdout.as_deref())),
        column("response_stderr", "text", batch, |r| clean_opt(r.stderr.as_deref())),
        column("response_truncated", "boolean", batch, |r| Some(r.truncated)),
    ]
}

/// Clamps a count to `i32::MAX`, which no correct worker reaches.
fn int(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
