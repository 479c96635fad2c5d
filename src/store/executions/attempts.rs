//! The attempts for one event, and overdue retries.

use tokio_postgres::types::Type;

use super::row::{BODIES, COLUMNS, execution};
use crate::{
    domain::{execution::Execution, handler::HandlerId},
    store::{Result, Store, sql::Query},
};

/// The most attempts in one answer: each may have megabytes of bodies.
const MAX_ATTEMPTS: usize = 100;

/// The most overdue retries that are counted.
const MAX_OVERDUE: i64 = 1000;

impl Store {
    /// Counts retries that are more than two minutes overdue: attempts of the last hour that neither an execution nor
    /// a dead letter followed.
    ///
    /// A retry is a run of its own and is found by its event and handler. Its attempt number is no help: a deferred
    /// attempt keeps the number. If the same run also has a row that is not `retrying`, another worker got the
    /// delivery as well, and the retry is not overdue.
    pub async fn overdue_retries(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM (
                SELECT FROM executions e
                WHERE e.disposition = 'retrying' AND e.started_at > now() - interval '1 hour'
                    AND e.retry_at < now() - interval '2 minutes'
                    AND NOT EXISTS (
                        SELECT FROM executions n
                        WHERE n.event_id = e.event_id AND n.started_at > now() - interval '1 day'
                            -- A handler whose number another one has by now is not named.
                            AND (n.handler_id = e.handler_id OR n.handler_id IS NULL AND n.disposition = 'handler_off')
                            AND (n.started_at > e.started_at OR n.recorded_at > e.recorded_at
                                OR n.run_id = e.run_id AND n.disposition <> 'retrying'))
                    AND NOT EXISTS (
                        SELECT FROM dead_letters d
                        WHERE left(d.event_id, 128) = left(e.event_id, 128) AND d.event_id = e.event_id
                            -- Of several handlers it is not known which one took the worker down.
                            AND (d.handler_id = e.handler_id OR d.handler_id IS NULL)
                            AND (d.died_at > e.started_at OR d.recorded_at > e.recorded_at))
                LIMIT $1) overdue";
        let row = self.session().await?.query_opt(sql, &[&MAX_OVERDUE]).await?;
        let count: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Returns the latest attempts for an event, of one handler or of all, oldest first, with requests and responses;
    /// at most 100.
    pub async fn attempts(&self, event_id: &str, handler: Option<HandlerId>) -> Result<Vec<Execution>> {
        let mut query = Query::new(&format!("SELECT {COLUMNS}, {BODIES} FROM executions"));
        query.and("event_id = ?", event_id, Type::TEXT);
        if let Some(handler) = handler {
            query.and("handler_id = ?", handler.0, Type::INT8);
        }
        query.end("ORDER BY started_at DESC, id DESC");
        query.limit(MAX_ATTEMPTS);
        let rows = self.session_to_search(query.reads_text()).await?.search(&query).await?;
        rows.iter().rev().map(execution).collect()
    }
}
