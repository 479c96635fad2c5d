//! Reads rows of `executions`.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    domain::{
        event::{EventId, RunId},
        execution::{Disposition, EventRef, Execution, HandlerRef, Status, TaskRef, WorkerId},
        handler::HandlerId,
        outcome::Response,
    },
    store::{Cursor, Result, StoreError, handlers::last_name},
};

/// An execution as in lists, without request and response bodies.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ExecutionRow {
    pub id: Uuid,
    pub event: EventRef,
    pub run_id: RunId,
    pub handler: Option<HandlerRef>,
    pub attempt: u32,
    pub max_attempts: u32,
    pub status: Status,
    pub disposition: Disposition,
    pub error: Option<String>,
    /// HTTP status, exit code or signal, without body and output.
    pub response: Option<Response>,
    pub modified: bool,
    pub retry_at: Option<Timestamp>,
    pub started_at: Timestamp,
    pub duration_ms: u64,
    pub worker: WorkerId,
    pub trace_id: Option<String>,
    /// When the recorder stored it, by the database's clock.
    pub recorded_at: Timestamp,
}

pub(super) const COLUMNS: &str = concat!(
    "id, event_id, event_name, object_id, event_dt, run_id, handler_id, coalesce(handler_name, ",
    // A worker that skips a deleted handler knows only its id.
    last_name!("executions.handler_id"),
    ") AS handler_name,
    handler_priority, handler_mode, handler_task_type, handler_task_target, attempt, max_attempts, status,
    disposition, error, response_http_status, response_exit_code, response_signal, response_truncated,
    modified, retry_at, started_at, duration_ms, worker_host, worker_pid, worker_version, trace_id,
    recorded_at"
);

/// The columns that [`execution`] reads besides [`COLUMNS`].
pub(super) const BODIES: &str = "request, response_body, response_stdout, response_stderr";

impl ExecutionRow {
    pub(super) const fn cursor(&self) -> Cursor {
        Cursor { at: self.started_at, id: self.id }
    }
}

pub(super) fn execution_row(row: &Row) -> Result<ExecutionRow> {
    read(row).map_err(|error| {
        let id: Option<Uuid> = row.try_get("id").ok();
        StoreError::other(format!("execution {} cannot be read: {error:#}", id.unwrap_or_default()))
    })
}

/// Reads a row with [`COLUMNS`] and [`BODIES`].
pub(super) fn execution(row: &Row) -> Result<Execution> {
    let head = execution_row(row)?;
    let request: String = row.try_get("request")?;
    let mut response = head.response;
    if let Some(response) = &mut response {
        response.body = row.try_get("response_body")?;
        response.stdout = row.try_get("response_stdout")?;
        response.stderr = row.try_get("response_stderr")?;
    }
    Ok(Execution {
        id: head.id,
        event: head.event,
        run_id: head.run_id,
        handler: head.handler,
        attempt: head.attempt,
        max_attempts: head.max_attempts,
        status: head.status,
        disposition: head.disposition,
        error: head.error,
        request: RawValue::from_string(request).map_err(|e| StoreError::Other(e.into()))?,
        response,
        modified: head.modified,
        retry_at: head.retry_at,
        started_at: head.started_at,
        duration_ms: head.duration_ms,
        worker: head.worker,
        trace_id: head.trace_id,
    })
}

fn read(row: &Row) -> anyhow::Result<ExecutionRow> {
    let text = |column| row.try_get::<_, &str>(column);
    Ok(ExecutionRow {
        id: row.try_get("id")?,
        event: EventRef {
            id: text("event_id")?.to_owned().try_into()?,
            name: text("event_name")?.parse()?,
            object_id: row.try_get("object_id")?,
            dt: row.try_get("event_dt")?,
        },
        run_id: EventId::try_from(text("run_id")?.to_owned())?.into(),
        handler: handler(row)?,
        attempt: row.try_get::<_, i32>("attempt")?.try_into()?,
        max_attempts: row.try_get::<_, i32>("max_attempts")?.try_into()?,
        status: text("status")?.parse()?,
        disposition: text("disposition")?.parse()?,
        error: row.try_get("error")?,
        response: response(row)?,
        modified: row.try_get("modified")?,
        retry_at: row.try_get("retry_at")?,
        started_at: row.try_get("started_at")?,
        duration_ms: row.try_get::<_, i64>("duration_ms")?.try_into()?,
        worker: WorkerId {
            host: row.try_get("worker_host")?,
            pid: row.try_get::<_, i64>("worker_pid")?.try_into()?,
            version: row.try_get("worker_version")?,
        },
        trace_id: row.try_get("trace_id")?,
        recorded_at: row.try_get("recorded_at")?,
    })
}

fn handler(row: &Row) -> anyhow::Result<Option<HandlerRef>> {
    let Some(id) = row.try_get("handler_id")? else { return Ok(None) };
    let text = |column| row.try_get::<_, Option<&str>>(column);
    let task = match (text("handler_task_type")?, text("handler_task_target")?) {
        (Some(kind), Some(target)) => Some(TaskRef { kind: kind.parse()?, target: target.to_owned() }),
        _ => None,
    };
    Ok(Some(HandlerRef {
        id: HandlerId(id),
        name: text("handler_name")?.map(str::parse).transpose()?,
        priority: row.try_get::<_, Option<i32>>("handler_priority")?.map(TryInto::try_into).transpose()?,
        mode: text("handler_mode")?.map(str::parse).transpose()?,
        task,
    }))
}

fn response(row: &Row) -> anyhow::Result<Option<Response>> {
    let Some(truncated) = row.try_get("response_truncated")? else { return Ok(None) };
    let http_status: Option<i32> = row.try_get("response_http_status")?;
    Ok(Some(Response {
        http_status: http_status.map(u16::try_from).transpose()?,
        exit_code: row.try_get("response_exit_code")?,
        signal: row.try_get("response_signal")?,
        truncated,
        ..Response::default()
    }))
}
