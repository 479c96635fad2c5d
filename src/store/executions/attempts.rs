//! The attempts for one event.

use tokio_postgres::types::Type;

use super::row::{BODIES, COLUMNS, execution};
use crate::{
    domain::{execution::Execution, handler::HandlerId},
    store::{Result, Store, sql::Query},
};

/// Each may come with megabytes.
const MOST: usize = 100;

impl Store {
    /// The latest attempts for an event, of one handler or of all, oldest first, with what was sent and
    /// answered; at most 100.
    pub async fn attempts(&self, event_id: &str, handler: Option<HandlerId>) -> Result<Vec<Execution>> {
        let mut query = Query::new(&format!("SELECT {COLUMNS}, {BODIES} FROM executions"));
        query.and("event_id = ?", event_id, Type::TEXT);
        if let Some(handler) = handler {
            query.and("handler_id = ?", handler.0, Type::INT8);
        }
        query.end("ORDER BY started_at DESC, id DESC");
        query.limit(MOST);
        let rows = self.session_to_search(query.reads_text()).await?.search(&query).await?;
        rows.iter().rev().map(execution).collect()
    }
}
