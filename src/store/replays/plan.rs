//! What a replay would do, before anybody says yes.

use serde::Serialize;
use tokio_postgres::{Row, types::Type};

use crate::{
    domain::{dead_letter::State, handler::HandlerId, replay::Share},
    store::{
        DeadLetterFilter, ExecutionFilter, Result, Store,
        executions::TextBy,
        handlers::last_name,
        sql::{Query, clean},
    },
};

/// How much of one event and handler a replay would send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PlanLine {
    pub event: String,
    /// None: the whole event.
    pub handler_id: Option<HandlerId>,
    pub handler_name: Option<String>,
    pub count: i64,
    /// Enabled handlers for it now: of a handler 0 or 1. With 0 a replay may be refused.
    pub enabled: i64,
}

impl Store {
    /// The open letters of `filter`, the most first.
    pub async fn plan_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<PlanLine>> {
        let open = DeadLetterFilter { state: Some(State::Open), ..filter.clone() };
        self.plan_of(open.query(LETTERS), LETTERS_BY_HANDLER).await
    }

    /// Those of `ids` that are open.
    pub async fn plan_these_letters(&self, ids: &[uuid::Uuid]) -> Result<Vec<PlanLine>> {
        let mut query = Query::new(LETTERS);
        query.and("id = ANY (?)", ids, Type::UUID_ARRAY);
        query.and_that("state = 'open'");
        self.plan_of(query, LETTERS_BY_HANDLER).await
    }

    /// The events of the executions of `filter`, or their handlers' shares; each counts once.
    pub async fn plan_executions(&self, filter: &ExecutionFilter, share: Share) -> Result<Vec<PlanLine>> {
        let mut query = filter.continued(Query::new(executions(share)), TextBy::Index);
        if share == Share::HandlerOnly {
            query.and_that("handler_id IS NOT NULL");
        }
        self.plan_of(query, EXECUTIONS_BY_HANDLER).await
    }

    /// `ids`, likewise.
    pub async fn plan_these_executions(&self, ids: &[uuid::Uuid], share: Share) -> Result<Vec<PlanLine>> {
        let mut query = Query::new(executions(share));
        query.and("id = ANY (?)", ids, Type::UUID_ARRAY);
        if share == Share::HandlerOnly {
            query.and_that("handler_id IS NOT NULL");
        }
        self.plan_of(query, EXECUTIONS_BY_HANDLER).await
    }

    /// The handlers that a replay with `plan` concerns, in order: those of the plan, or those that are enabled
    /// for the event now.
    pub async fn planned_handlers(&self, event: &str, plan: &[HandlerId]) -> Result<Vec<PlannedHandler>> {
        let ids: Vec<i64> = plan.iter().map(|id| id.0).collect();
        let sql = if plan.is_empty() {
            "SELECT id, name, false AS deleted, true AS enabled FROM handlers
             WHERE event = $1 AND status = 'enabled' AND cardinality($2::bigint[]) = 0 ORDER BY priority, id"
        } else {
            concat!(
            "SELECT p.id, coalesce(h.name, ",
            last_name!("p.id"),
            ") AS name, h.id IS NULL AS deleted, coalesce(h.status = 'enabled' AND h.event = $1, false) AS enabled
             FROM unnest($2::bigint[]) WITH ORDINALITY p (id, place) LEFT JOIN handlers h ON h.id = p.id
             ORDER BY p.place"
            )
        };
        let rows = self.session().await?.query(sql, &[&clean(event), &ids]).await?;
        rows.iter()
            .map(|row| {
                let (id, name) = (HandlerId(row.try_get("id")?), row.try_get("name")?);
                let (deleted, enabled) = (row.try_get("deleted")?, row.try_get("enabled")?);
                Ok(PlannedHandler { id, name, deleted, enabled })
            })
            .collect()
    }

    async fn plan_of(&self, mut query: Query<'_>, tail: &'static str) -> Result<Vec<PlanLine>> {
        query.end(tail);
        self.session_to_search(query.reads_text()).await?.search(&query).await?.iter().map(line).collect()
    }
}

/// A handler of a plan as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PlannedHandler {
    pub id: HandlerId,
    /// Of a deleted handler the last one; none where nothing is known of it any more.
    pub name: Option<String>,
    pub deleted: bool,
    /// For this event: a replay would run it.
    pub enabled: bool,
}

const LETTERS: &str = "WITH g AS (SELECT event_name, handler_id, count(*) AS count FROM dead_letters";

const LETTERS_BY_HANDLER: &str = "GROUP BY event_name, handler_id)
    SELECT g.*, CASE WHEN g.handler_id IS NOT NULL THEN (
            SELECT d.handler_name FROM dead_letters d WHERE d.handler_id = g.handler_id
            ORDER BY d.handler_id DESC, d.died_at DESC LIMIT 1) END AS handler_name,
        (SELECT count(*) FROM handlers h WHERE h.event = g.event_name AND h.status = 'enabled'
            AND (g.handler_id IS NULL OR h.id = g.handler_id)) AS enabled
    FROM g ORDER BY count DESC, event_name, handler_id";

const fn executions(share: Share) -> &'static str {
    match share {
        Share::AsRecorded | Share::HandlerOnly => {
            "WITH g AS (SELECT event_name, handler_id, max(handler_name) AS handler_name,
                 count(DISTINCT event_id) AS count FROM executions"
        }
        Share::WholeEvent => {
            "WITH g AS (SELECT event_name, NULL::bigint AS handler_id, NULL::text AS handler_name,
                 count(DISTINCT event_id) AS count FROM executions"
        }
    }
}

const EXECUTIONS_BY_HANDLER: &str = "GROUP BY 1, 2)
    SELECT g.*, (SELECT count(*) FROM handlers h WHERE h.event = g.event_name AND h.status = 'enabled'
            AND (g.handler_id IS NULL OR h.id = g.handler_id)) AS enabled
    FROM g ORDER BY count DESC, event_name, handler_id";

fn line(row: &Row) -> Result<PlanLine> {
    Ok(PlanLine {
        event: row.try_get("event_name")?,
        handler_id: row.try_get::<_, Option<i64>>("handler_id")?.map(HandlerId),
        handler_name: row.try_get("handler_name")?,
        count: row.try_get("count")?,
        enabled: row.try_get("enabled")?,
    })
}
