//! Counts of open dead letters, by reason and by handler.

use serde::Serialize;
use tokio_postgres::Row;

use crate::{
    domain::{dead_letter::Reason, handler::HandlerId},
    store::{Result, Store, StoreError, handlers::last_name},
};

/// How many dead letters are open.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct OpenDeadLetters {
    pub total: u64,
    /// The most frequent reason first.
    pub reasons: Vec<OfReason>,
    /// The handlers with the most open dead letters, the most first. The list is not complete.
    pub handlers: Vec<OfHandler>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = DeadLettersOfReason)]
pub struct OfReason {
    pub reason: Reason,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = DeadLettersOfHandler)]
pub struct OfHandler {
    pub handler_id: HandlerId,
    /// The current name, or the last name of a deleted handler. `null` if no name is known.
    pub handler_name: Option<String>,
    /// Whether the handler was deleted.
    pub deleted: bool,
    pub count: u64,
}

impl Store {
    /// Counts the open dead letters. Lists at most `handlers` handlers.
    pub async fn open_dead_letters(&self, handlers: usize) -> Result<OpenDeadLetters> {
        // Reads only the index `dead_letters_count`, once for both groupings.
        let sql = concat!(
            "WITH counted AS (
                SELECT reason, handler_id, count(*) AS count FROM dead_letters
                WHERE state = 'open' GROUP BY GROUPING SETS ((reason), (handler_id)))
            SELECT reason, NULL::bigint AS handler_id, NULL AS name, false AS deleted, count FROM counted WHERE reason IS NOT NULL
            UNION ALL
            SELECT NULL, c.handler_id, coalesce(h.name, ",
            last_name!("c.handler_id"),
            "), h.id IS NULL, c.count FROM (
                SELECT * FROM counted WHERE handler_id IS NOT NULL ORDER BY count DESC, handler_id LIMIT $1) c
            LEFT JOIN handlers h ON h.id = c.handler_id
            ORDER BY count DESC, reason, handler_id"
        );
        let limit = i64::try_from(handlers).unwrap_or(i64::MAX);
        let rows = self.session().await?.query(sql, &[&limit]).await?;
        read(&rows).map_err(|error| StoreError::Other(error.into()))
    }
}

fn read(rows: &[Row]) -> anyhow::Result<OpenDeadLetters> {
    let mut open = OpenDeadLetters::default();
    for row in rows {
        let count = row.try_get::<_, i64>("count")?.try_into()?;
        match row.try_get::<_, Option<&str>>("reason")? {
            Some(reason) => {
                open.total += count;
                open.reasons.push(OfReason { reason: reason.parse()?, count });
            }
            None => open.handlers.push(OfHandler {
                handler_id: HandlerId(row.try_get("handler_id")?),
                handler_name: row.try_get("name")?,
                deleted: row.try_get("deleted")?,
                count,
            }),
        }
    }
    Ok(open)
}
