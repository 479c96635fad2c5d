//! Reads what is recorded of runs that were redelivered.

use std::collections::HashMap;

use jiff::ToSpan;
use tokio_postgres::Row;

use super::partitions::start_of;
use crate::{
    domain::{event::EventId, event::RunId, handler::HandlerId, resume::Recorded},
    store::{Result, Store, StoreError, clock::today},
};

/// Identifies one run of an event.
pub type RunKey = (EventId, RunId);

/// The most rows to read. A publisher may give one id to thousands of events; their rows then say nothing about one
/// of them.
const MAX_ROWS: i64 = 20_000;

impl Store {
    /// Returns the executions of these runs that started today or yesterday (UTC, by the database's clock). A
    /// redelivery follows soon after its run began, so older partitions need not be read.
    ///
    /// # Errors
    /// Besides the database's errors: there are too many rows to read while a delivery waits.
    pub async fn recorded(&self, runs: &[RunKey]) -> Result<HashMap<RunKey, Vec<Recorded>>> {
        let event_ids: Vec<&str> = runs.iter().map(|(event, _)| event.as_str()).collect();
        let run_ids: Vec<&str> = runs.iter().map(|(_, run)| run.as_str()).collect();
        let sql = "SELECT event_id, run_id, handler_id, disposition, error, started_at, modified,
                sha256(convert_to(request, 'UTF8')) AS request
            FROM executions
            WHERE event_id = ANY ($1) AND run_id = ANY ($2) AND started_at >= $3
            LIMIT $4";
        let mut session = self.session().await?;
        let since = start_of(today(&mut session).await?.saturating_sub(1.day()));
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&event_ids, &run_ids, &since, &MAX_ROWS];
        let rows = session.query(sql, &params).await?;
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) >= MAX_ROWS {
            return Err(StoreError::other("too many executions are recorded for the ids of these events"));
        }
        let mut by_run: HashMap<RunKey, Vec<Recorded>> = HashMap::new();
        for row in &rows {
            let (key, recorded) = read(row).map_err(|error| StoreError::Other(error.into()))?;
            by_run.entry(key).or_default().push(recorded);
        }
        Ok(by_run)
    }

    /// Whether any execution of this run is recorded, at any time.
    pub async fn is_recorded(&self, event: &EventId, run: &RunId) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM executions WHERE event_id = $1 AND run_id = $2)";
        let row = self.session().await?.query_opt(sql, &[&event.as_str(), &run.as_str()]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
    }
}

fn read(row: &Row) -> anyhow::Result<(RunKey, Recorded)> {
    let id = |column| -> anyhow::Result<EventId> {
        Ok(EventId::try_from(row.try_get::<_, &str>(column)?.to_owned())?)
    };
    let recorded = Recorded {
        handler: row.try_get::<_, Option<i64>>("handler_id")?.map(HandlerId),
        disposition: row.try_get::<_, &str>("disposition")?.parse()?,
        error: row.try_get("error")?,
        started_at: row.try_get("started_at")?,
        request: row.try_get("request")?,
        modified: row.try_get("modified")?,
    };
    Ok(((id("event_id")?, id("run_id")?.into()), recorded))
}
