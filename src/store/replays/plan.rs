//! Previews what a replay would do, for the confirmation.

use serde::Serialize;
use tokio_postgres::{Row, types::Type};

use crate::{
    domain::{
        dead_letter::{DeadLetter, State},
        handler::{HandlerId, HandlerName},
        plan::Plan,
        replay::ReplayScope,
    },
    store::{
        DeadLetterFilter, ExecutionFilter, Result, Store,
        executions::TextBy,
        handlers::last_name,
        sql::{Query, clean},
    },
};

/// SQL: whether the handler `h` is not the handler that failed. That one was created at `$created` (microseconds; 0
/// if unknown) and failed before `$died_at`. After a restore of the database, another handler may have its id.
macro_rules! is_another {
    ($created:literal, $died_at:literal) => {
        concat!(
            "CASE WHEN ",
            $created,
            " > 0 THEN (extract(epoch FROM h.created_at) * 1000000)::bigint <> ",
            $created,
            " ELSE h.created_at > ",
            $died_at,
            " END"
        )
    };
}
pub(super) use is_another;

/// How many items of one event and handler a replay would send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PlanLine {
    pub event: String,
    /// `null` for the whole event.
    pub handler_id: Option<HandlerId>,
    pub handler_name: Option<String>,
    pub count: i64,
    /// How many handlers are enabled for it now; with a handler id, 0 or 1. With 0 a replay may be refused.
    pub enabled: i64,
    /// The handler is gone, and another handler has its id after a restore of the database. A replay refuses these
    /// items.
    pub replaced: bool,
}

impl Store {
    /// Counts the open dead letters that match `filter`, the largest count first.
    pub async fn plan_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<PlanLine>> {
        let open = DeadLetterFilter { state: Some(State::Open), ..filter.clone() };
        self.plan_of(open.query(DEAD_LETTERS), DEAD_LETTERS_BY_HANDLER).await
    }

    /// Counts those of `ids` that are open.
    pub async fn plan_these_letters(&self, ids: &[uuid::Uuid]) -> Result<Vec<PlanLine>> {
        let mut query = Query::new(DEAD_LETTERS);
        query.and("id = ANY (?)", ids, Type::UUID_ARRAY);
        query.and_that("state = 'open'");
        self.plan_of(query, DEAD_LETTERS_BY_HANDLER).await
    }

    /// Counts the events or, by scope, the handlers of events in the executions that match `filter`. Each counts
    /// once.
    pub async fn plan_executions(
        &self,
        filter: &ExecutionFilter,
        scope: ReplayScope,
    ) -> Result<Vec<PlanLine>> {
        let mut query = filter.add_conditions(Query::new(executions(scope)), TextBy::Index);
        if scope == ReplayScope::HandlerOnly {
            query.and_that("handler_id IS NOT NULL");
        }
        self.plan_of(query, EXECUTIONS_BY_HANDLER).await
    }

    /// Counts the executions `ids` in the same way.
    pub async fn plan_these_executions(
        &self,
        ids: &[uuid::Uuid],
        scope: ReplayScope,
    ) -> Result<Vec<PlanLine>> {
        let mut query = Query::new(executions(scope));
        query.and("id = ANY (?)", ids, Type::UUID_ARRAY);
        if scope == ReplayScope::HandlerOnly {
            query.and_that("handler_id IS NOT NULL");
        }
        self.plan_of(query, EXECUTIONS_BY_HANDLER).await
    }

    /// Returns the handlers in the plan of `dead_letter`, in order. Without a plan, returns the handlers that are
    /// enabled for the event now.
    pub async fn planned_handlers(&self, dead_letter: &DeadLetter) -> Result<Vec<PlannedHandler>> {
        let event = clean(&dead_letter.event_name);
        let mut session = self.session().await?;
        let rows = if dead_letter.plan.is_empty() {
            let sql = "SELECT id, name, false AS deleted, true AS enabled, NULL AS replaced_by FROM handlers
                 WHERE event = $1 AND status = 'enabled' ORDER BY priority, id";
            session.query(sql, &[&event]).await?
        } else {
            let ids: Vec<i64> = dead_letter.plan.iter().map(|id| id.0).collect();
            let created: Vec<i64> =
                Plan::of(&dead_letter.plan, &dead_letter.plan_created).created().collect();
            let failed = dead_letter.handler_id.map(|id| id.0);
            let name = dead_letter.handler_name.as_ref().map(HandlerName::as_str);
            session.query(PLANNED, &[&event, &ids, &created, &dead_letter.died_at, &failed, &name]).await?
        };
        rows.iter()
            .map(|row| {
                Ok(PlannedHandler {
                    id: HandlerId(row.try_get("id")?),
                    name: row.try_get("name")?,
                    deleted: row.try_get("deleted")?,
                    enabled: row.try_get("enabled")?,
                    replaced_by: row.try_get("replaced_by")?,
                })
            })
            .collect()
    }

    async fn plan_of(&self, mut query: Query<'_>, tail: &'static str) -> Result<Vec<PlanLine>> {
        query.end(tail);
        self.session_to_search(query.reads_text()).await?.search(&query).await?.iter().map(line).collect()
    }
}

/// A handler of a plan in its current state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PlannedHandler {
    pub id: HandlerId,
    /// The current name, or the last name of a deleted handler. `null` if no name is known.
    pub name: Option<String>,
    pub deleted: bool,
    /// Whether it is enabled for this event, so that a replay would run it.
    pub enabled: bool,
    /// If the handler is gone and another one has its id after a restore of the database: the other handler's name.
    pub replaced_by: Option<String>,
}

const PLANNED: &str = concat!(
    "SELECT p.id, CASE WHEN h.is_another THEN CASE WHEN p.id = $5 THEN $6::text END ELSE coalesce(h.name, ",
    last_name!("p.id"),
    ") END AS name,
        h.id IS NULL OR h.is_another AS deleted,
        coalesce(h.status = 'enabled' AND h.event = $1 AND NOT h.is_another, false) AS enabled,
        CASE WHEN h.is_another THEN h.name END AS replaced_by
    FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY p (id, created, place)
    LEFT JOIN LATERAL (SELECT h.*, ",
    is_another!("p.created", "$4::timestamptz"),
    " AS is_another FROM handlers h WHERE h.id = p.id) h ON true
    ORDER BY p.place"
);

/// `replaced` is decided by `died_at`, which an index contains. Using `plan_created` would read each of a million
/// dead letters.
const DEAD_LETTERS: &str = "WITH g AS (SELECT event_name, handler_id, of_created, count(*) AS count,
        coalesce(died_at < of_created, false) AS replaced
    FROM dead_letters LEFT JOIN (SELECT id AS of_id, created_at AS of_created FROM handlers) h ON of_id = handler_id";

const DEAD_LETTERS_BY_HANDLER: &str = "GROUP BY event_name, handler_id, of_created, replaced)
    SELECT g.*, CASE WHEN g.handler_id IS NOT NULL THEN (
            SELECT d.handler_name FROM dead_letters d WHERE d.handler_id = g.handler_id
                AND coalesce(d.died_at < g.of_created, false) = g.replaced
            ORDER BY d.handler_id DESC, d.died_at DESC LIMIT 1) END AS handler_name,
        (SELECT count(*) FROM handlers h WHERE h.event = g.event_name AND h.status = 'enabled'
            AND (g.handler_id IS NULL OR h.id = g.handler_id AND NOT g.replaced)) AS enabled
    FROM g ORDER BY count DESC, event_name, handler_id, replaced";

const fn executions(scope: ReplayScope) -> &'static str {
    match scope {
        ReplayScope::AsRecorded | ReplayScope::HandlerOnly => {
            "WITH g AS (SELECT event_name, handler_id, max(handler_name) AS handler_name,
                 count(DISTINCT event_id) AS count, coalesce(recorded_at < of_created, false) AS replaced
             FROM executions
             LEFT JOIN (SELECT id AS of_id, created_at AS of_created FROM handlers) h ON of_id = handler_id"
        }
        ReplayScope::WholeEvent => {
            "WITH g AS (SELECT event_name, NULL::bigint AS handler_id, NULL::text AS handler_name,
                 count(DISTINCT event_id) AS count, false AS replaced FROM executions"
        }
    }
}

const EXECUTIONS_BY_HANDLER: &str = "GROUP BY 1, 2, replaced)
    SELECT g.*, (SELECT count(*) FROM handlers h WHERE h.event = g.event_name AND h.status = 'enabled'
            AND (g.handler_id IS NULL OR h.id = g.handler_id AND NOT g.replaced)) AS enabled
    FROM g ORDER BY count DESC, event_name, handler_id, replaced";

fn line(row: &Row) -> Result<PlanLine> {
    Ok(PlanLine {
        event: row.try_get("event_name")?,
        handler_id: row.try_get::<_, Option<i64>>("handler_id")?.map(HandlerId),
        handler_name: row.try_get("handler_name")?,
        count: row.try_get("count")?,
        enabled: row.try_get("enabled")?,
        replaced: row.try_get("replaced")?,
    })
}
