//! Reads rows of `dead_letters`.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    domain::{
        dead_letter::{DeadLetter, State},
        execution::WorkerId,
        handler::{HandlerId, HandlerName},
        trace::Trace,
    },
    store::{Cursor, Result, StoreError},
};

/// A dead letter as in lists, without its body.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct DeadLetterRow {
    #[serde(flatten)]
    pub letter: DeadLetter,
    pub state: State,
    pub state_changed_at: Option<Timestamp>,
    pub state_changed_by: Option<String>,
    pub state_note: Option<String>,
    pub recorded_at: Timestamp,
}

impl DeadLetterRow {
    pub const fn cursor(&self) -> Cursor {
        Cursor { at: self.letter.died_at, id: self.letter.id }
    }
}

/// A dead letter with its body and its message properties.
#[derive(Clone, Debug)]
pub struct StoredDeadLetter {
    pub row: DeadLetterRow,
    pub body: Bytes,
    pub content_type: Option<String>,
    pub exchange: Option<String>,
    pub routing_key: Option<String>,
    pub trace: Trace,
}

pub(in crate::store) const COLUMNS: &str =
    "id, event_id, run_id, event_name, object_id, reason, error, handler_id, handler_name, attempts,
    plan, plan_created, first_failed_at, died_at, worker_host, worker_pid, worker_version, state, state_changed_at,
    state_changed_by, state_note, recorded_at";

/// The columns that [`stored`] reads besides [`COLUMNS`].
pub(in crate::store) const MESSAGE: &str =
    "body, content_type, exchange, routing_key, traceparent, tracestate";

/// Reads a row with [`COLUMNS`] and [`MESSAGE`].
pub(in crate::store) fn stored(row: &Row) -> Result<StoredDeadLetter> {
    Ok(StoredDeadLetter {
        row: dead_letter_row(row)?,
        body: Bytes::from(row.try_get::<_, Vec<u8>>("body")?),
        content_type: row.try_get("content_type")?,
        exchange: row.try_get("exchange")?,
        routing_key: row.try_get("routing_key")?,
        trace: Trace { parent: row.try_get("traceparent")?, state: row.try_get("tracestate")? },
    })
}

pub(super) fn dead_letter_row(row: &Row) -> Result<DeadLetterRow> {
    read(row).map_err(|error| {
        let id: Option<Uuid> = row.try_get("id").ok();
        StoreError::other(format!("dead letter {} cannot be read: {error:#}", id.unwrap_or_default()))
    })
}

fn read(row: &Row) -> anyhow::Result<DeadLetterRow> {
    let text = |column| row.try_get::<_, &str>(column);
    Ok(DeadLetterRow {
        letter: DeadLetter {
            id: row.try_get("id")?,
            event_id: row.try_get("event_id")?,
            run_id: row.try_get("run_id")?,
            event_name: row.try_get("event_name")?,
            object_id: row.try_get("object_id")?,
            reason: text("reason")?.parse()?,
            error: row.try_get("error")?,
            handler_id: row.try_get::<_, Option<i64>>("handler_id")?.map(HandlerId),
            handler_name: handler_name(row)?,
            attempts: row.try_get::<_, i32>("attempts")?.try_into()?,
            plan: row.try_get::<_, Vec<i64>>("plan")?.into_iter().map(HandlerId).collect(),
            plan_created: row.try_get("plan_created")?,
            first_failed_at: row.try_get("first_failed_at")?,
            died_at: row.try_get("died_at")?,
            worker: worker(row)?,
        },
        state: text("state")?.parse()?,
        state_changed_at: row.try_get("state_changed_at")?,
        state_changed_by: row.try_get("state_changed_by")?,
        state_note: row.try_get("state_note")?,
        recorded_at: row.try_get("recorded_at")?,
    })
}

fn handler_name(row: &Row) -> anyhow::Result<Option<HandlerName>> {
    Ok(row.try_get::<_, Option<&str>>("handler_name")?.map(str::parse).transpose()?)
}

fn worker(row: &Row) -> anyhow::Result<Option<WorkerId>> {
    let Some(host) = row.try_get("worker_host")? else { return Ok(None) };
    let pid: Option<i64> = row.try_get("worker_pid")?;
    let version: Option<String> = row.try_get("worker_version")?;
    Ok(Some(WorkerId {
        host,
        pid: u32::try_from(pid.unwrap_or_default())?,
        version: version.unwrap_or_default(),
    }))
}
