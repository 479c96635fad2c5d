//! The history of handlers: who changed what, with the settings before and after.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{HandlerId, HandlerSpec, Status};
use crate::{
    domain::text_enum::{UnknownWord, text_enum},
    store::{Result, Store, StoreError},
};

text_enum! {
    /// What was done to a handler.
    Action {
        Created = "created",
        Updated = "updated",
        Enabled = "enabled",
        Disabled = "disabled",
        Archived = "archived",
        Deleted = "deleted",
        SecretSet = "secret_set",
        SecretRemoved = "secret_removed",
    }
}

/// One change of a handler. `before` and `after` are its settings, with `signed` for whether it has a signing secret.
/// `before` is `null` in the first entry, `after` in the entry of a deletion.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct HistoryEntry {
    pub id: i64,
    pub handler_id: HandlerId,
    pub changed_at: Timestamp,
    pub changed_by: String,
    pub action: Action,
    pub note: Option<String>,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl Action {
    /// Names a change from `before` to `after`: by the new status if only the status changed.
    pub(super) fn between(before: &HandlerSpec, after: &HandlerSpec) -> Self {
        let only_status = HandlerSpec { status: after.status, ..before.clone() } == *after;
        match after.status {
            _ if !only_status || before.status == after.status => Self::Updated,
            Status::Enabled => Self::Enabled,
            Status::Disabled => Self::Disabled,
            Status::Archived => Self::Archived,
        }
    }
}

/// The settings of a handler as an entry stores them. Header values may be secret, so they are masked (`HeaderValue`
/// masks itself).
pub(super) fn snapshot(spec: &HandlerSpec, signed: bool) -> Result<Value> {
    #[derive(Serialize)]
    struct Snapshot<'a> {
        #[serde(flatten)]
        spec: &'a HandlerSpec,
        signed: bool,
    }
    serde_json::to_value(Snapshot { spec, signed }).map_err(|e| StoreError::Other(e.into()))
}

impl Store {
    /// Returns the history of a handler, newest first, also of a deleted one.
    pub async fn handler_history(&self, id: HandlerId) -> Result<Vec<HistoryEntry>> {
        let sql = "SELECT id, changed_at, changed_by, action, note, before, after FROM handler_history
                   WHERE handler_id = $1 ORDER BY id DESC";
        let rows = self.session().await?.query(sql, &[&id.0]).await?;
        let entry = |row: &tokio_postgres::Row| {
            let action: &str = row.try_get("action")?;
            Ok(HistoryEntry {
                id: row.try_get("id")?,
                handler_id: id,
                changed_at: row.try_get("changed_at")?,
                changed_by: row.try_get("changed_by")?,
                action: action.parse().map_err(|e: UnknownWord| StoreError::Other(e.into()))?,
                note: row.try_get("note")?,
                before: row.try_get("before")?,
                after: row.try_get("after")?,
            })
        };
        rows.iter().map(entry).collect()
    }
}
