//! Claims one item: locks it, finds the handlers that would run, and detects that somebody else was faster.

use bytes::Bytes;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    plan::is_another,
    run::{ClaimedItem, ReplayItem, ReplayRun},
};
use crate::{
    domain::{
        dead_letter::State,
        handler::{HandlerId, HandlerVersions, InvalidField},
        trace::Trace,
    },
    store::{
        Result, StoreError,
        dead_letters::{COLUMNS, MESSAGE, stored},
    },
};

impl ReplayRun {
    /// Claims a dead letter. Waits while somebody else replays or discards it.
    pub(super) async fn claim_dead_letter(
        &mut self,
        id: Uuid,
        edited: Option<Vec<u8>>,
    ) -> Result<ClaimedItem> {
        let sql = format!(
            "SELECT {COLUMNS}, {MESSAGE}, (
                 SELECT {HANDLER_VERSIONS} FROM handlers h WHERE h.event = event_name AND h.status = 'enabled'
                     AND (cardinality(plan) = 0 OR EXISTS (
                         SELECT FROM unnest(plan, plan_created) p (id, created) WHERE p.id = h.id AND NOT {IS_ANOTHER}))
                 ) AS enabled, ARRAY (
                 SELECT p.id FROM unnest(plan, plan_created) p (id, created) JOIN handlers h ON h.id = p.id
                 WHERE {IS_ANOTHER}) AS replaced
             FROM dead_letters WHERE id = $1 FOR UPDATE"
        );
        let Some(row) = self.session.query_opt(&sql, &[&id]).await? else {
            return Ok(ClaimedItem::Pass("it no longer exists".to_owned()));
        };
        let dead_letter = stored(&row)?;
        if dead_letter.row.state != State::Open {
            let by = dead_letter.row.state_changed_by.unwrap_or_default();
            return Ok(ClaimedItem::Pass(format!("it was {} already, by {by}", dead_letter.row.state)));
        }
        let meta = dead_letter.row.letter;
        Ok(ClaimedItem::Replay(Box::new(ReplayItem {
            key: meta.id.to_string(),
            event_name: meta.event_name,
            event_id: meta.event_id,
            edited: edited.is_some(),
            body: edited.map_or(dead_letter.body, Bytes::from),
            content_type: dead_letter.content_type,
            plan: meta.plan,
            plan_created: meta.plan_created,
            enabled: enabled(&row)?,
            replaced: row.try_get::<_, Vec<i64>>("replaced")?.into_iter().map(HandlerId).collect(),
            trace: dead_letter.trace,
        })))
    }

    /// Claims an execution. `share` is the event id or, if only one handler is replayed, the event id and the handler
    /// id. Waits while another job replays the same share, and skips it if that job did so since this job was
    /// created.
    pub(super) async fn claim_execution(&mut self, id: Uuid, share: &str) -> Result<ClaimedItem> {
        self.session.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&share]).await?;
        let other = "SELECT r.id, r.created_by FROM replay_items i JOIN replays r ON r.id = i.replay_id
            WHERE i.share = $2 AND i.state = 'replayed' AND i.replay_id <> $1
                AND i.settled_at > (SELECT created_at FROM replays WHERE id = $1) LIMIT 1";
        if let Some(row) = self.session.query_opt(other, &[&self.job.id, &share]).await? {
            let (other, by): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            return Ok(ClaimedItem::Pass(format!("it was replayed already, by {by} in replay {other}")));
        }
        let sql = format!("SELECT e.event_name, e.event_id, s.handler_id, s.handler_id IS NULL AS whole,
                EXISTS (SELECT FROM handlers h WHERE h.id = s.handler_id AND h.created_at > e.recorded_at) AS is_another,
                CASE WHEN s.handler_id IS NULL THEN (
                    -- What came first has the body that no handler has changed yet.
                    SELECT f.request FROM executions f WHERE f.event_id = e.event_id AND f.started_at <= e.started_at
                    ORDER BY f.started_at, f.id LIMIT 1) ELSE e.request END AS request,
                (SELECT {HANDLER_VERSIONS} FROM handlers h WHERE h.event = e.event_name AND h.status = 'enabled'
                    AND (s.handler_id IS NULL OR h.id = s.handler_id)) AS enabled
            FROM replay_items i
            JOIN executions e ON e.id = i.execution_id AND e.started_at = i.execution_started_at
            CROSS JOIN LATERAL (SELECT CASE WHEN i.share <> e.event_id THEN e.handler_id END AS handler_id) s
            WHERE i.replay_id = $1 AND i.position = $2");
        let Some(row) = self.session.query_opt(&sql, &[&self.job.id, &self.position]).await? else {
            return Ok(ClaimedItem::Pass("it no longer exists".to_owned()));
        };
        let handler: Option<i64> = row.try_get("handler_id")?;
        if let (Some(id), true) = (handler, row.try_get::<_, bool>("is_another")?) {
            return Ok(ClaimedItem::Refuse(format!(
                "handler {id} was created after this execution, so it is another handler"
            )));
        }
        Ok(ClaimedItem::Replay(Box::new(ReplayItem {
            key: format!("{}/{id}", self.job.id),
            event_name: row.try_get("event_name")?,
            event_id: row.try_get("event_id")?,
            body: Bytes::from(row.try_get::<_, String>("request")?),
            content_type: None,
            edited: false,
            plan: handler.map(HandlerId).into_iter().collect(),
            plan_created: Vec::new(),
            enabled: enabled(&row)?,
            replaced: Vec::new(),
            trace: Trace::default(),
        })))
    }
}

/// Whether the handler `h` has the same id as the planned handler `p`, but is another one.
const IS_ANOTHER: &str = is_another!("p.created", "died_at");

/// The ids and versions of the handlers `h`, as text.
const HANDLER_VERSIONS: &str =
    "coalesce(string_agg(h.id || '@' || h.version, ',' ORDER BY h.priority, h.id), '')";

fn enabled(row: &Row) -> Result<HandlerVersions> {
    let versions: &str = row.try_get("enabled")?;
    versions.parse().map_err(|why: InvalidField| StoreError::other(why.to_string()))
}
