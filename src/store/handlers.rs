//! Handlers: read here, changed in `change`, with their history in `history`.

mod change;
mod columns;
mod history;
mod names;
mod sealed;

use std::collections::HashMap;

use tokio_postgres::{Row, types::Type};

use super::{
    Result, Store, StoreError,
    sql::{Query, contains},
};
use crate::domain::{
    event::EventName,
    handler::{Handler, HandlerId, HandlerSpec, Status},
    task::TaskType,
};
pub(super) use columns::COLUMNS;
pub use history::{Action, HistoryEntry};
pub(super) use names::last_name;
pub(super) use sealed::open;

/// A filter for lists of handlers.
#[derive(Clone, Debug, Default)]
pub struct HandlerFilter {
    pub event: Option<EventName>,
    pub task_type: Option<TaskType>,
    /// `None`: enabled and disabled handlers, but not archived ones.
    pub status: Option<Status>,
    /// Text in the name, the URL or path, or the arguments of a script. Headers are not searched because they may be
    /// secret.
    pub text: Option<String>,
    /// For viewers: of a URL, searches only scheme, host and port, and no arguments.
    pub only_shown: bool,
    /// The last handler of the previous page.
    pub after: Option<HandlerId>,
}

impl Store {
    /// Lists handlers by id, at most `limit`.
    pub async fn list_handlers(&self, filter: &HandlerFilter, limit: usize) -> Result<Vec<Handler>> {
        let mut query = Query::new(&format!("SELECT {COLUMNS} FROM handlers"));
        match filter.status {
            Some(status) => query.and("status = ?", status.as_str(), Type::TEXT),
            None => query.and_that("status <> 'archived'"),
        }
        if let Some(event) = &filter.event {
            query.and("event = ?", event.as_str(), Type::TEXT);
        }
        if let Some(task_type) = filter.task_type {
            query.and("task_type = ?", task_type.as_str(), Type::TEXT);
        }
        if let Some(text) = &filter.text {
            let condition = if filter.only_shown {
                // Searching reveals a text letter by letter, so text that viewers may not see is not searched.
                r"(name ILIKE ? OR regexp_replace(task_target, '^([a-z]+://[^/]*).*', '\1') ILIKE ?)"
            } else {
                "(name ILIKE ? OR task_target ILIKE ? OR task ->> 'args' ILIKE ?)"
            };
            query.and(condition, contains(text), Type::TEXT);
        }
        if let Some(after) = filter.after {
            query.and("id > ?", after.0, Type::INT8);
        }
        query.end("ORDER BY id");
        query.limit(limit);
        let rows = self.session().await?.search(&query).await?;
        rows.iter().map(handler).collect()
    }

    /// Counts the enabled handlers for each event that has any.
    pub async fn enabled_handlers(&self) -> Result<HashMap<String, u64>> {
        let sql = "SELECT event, count(*) FROM handlers WHERE status = 'enabled' GROUP BY event";
        let rows = self.session().await?.query(sql, &[]).await?;
        let count = |row: &Row| {
            let count: i64 = row.try_get(1)?;
            Ok((row.try_get(0)?, u64::try_from(count).unwrap_or_default()))
        };
        rows.iter().map(count).collect()
    }

    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn handler(&self, id: HandlerId) -> Result<Handler> {
        let sql = format!("SELECT {COLUMNS} FROM handlers WHERE id = $1");
        let row = self.session().await?.query_opt(&sql, &[&id.0]).await?;
        handler(&row.ok_or_else(|| not_found(id))?)
    }
}

pub(super) fn not_found(id: HandlerId) -> StoreError {
    StoreError::NotFound(format!("handler {id}"))
}

/// Reads a row with [`COLUMNS`].
///
/// # Errors
/// If somebody wrote into the table what provisiond would have rejected. The error names the handler.
pub(super) fn handler(row: &Row) -> Result<Handler> {
    let id = HandlerId(row.try_get("id")?);
    let spec = columns::spec(row).map_err(|error| {
        StoreError::other(format!("the stored settings of handler {id} are not valid: {error:#}"))
    })?;
    Ok(Handler {
        id,
        spec,
        signed: row.try_get("signed")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        version: row.try_get("version")?,
    })
}

#[cfg(test)]
mod tests;
