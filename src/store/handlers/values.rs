//! The settings of a handler as the columns of its row.

use tokio_postgres::types::{Json, ToSql};

use super::{HandlerId, HandlerSpec, sealed};
use crate::{
    domain::{retry::RetryOverrides, seal::Seals},
    store::Result,
};

/// The settings of a handler as columns, in the order of [`Values::params`].
pub(super) struct Values<'a> {
    name: &'a str,
    event: &'a str,
    task: serde_json::Value,
    status: &'static str,
    priority: i32,
    mode: &'static str,
    on_failure: &'static str,
    timeout_ms: Option<i32>,
    retry: Json<&'a RetryOverrides>,
    max_concurrency: Option<i64>,
}

impl<'a> Values<'a> {
    /// Converts the settings of handler `id`, with its secrets in their stored form.
    pub(super) fn of(seals: &Seals, id: HandlerId, spec: &'a HandlerSpec) -> Result<Self> {
        let timeout = spec.timeout.map(|t| i32::try_from(t.duration().as_millis()).unwrap_or(i32::MAX));
        Ok(Self {
            name: spec.name.as_str(),
            event: spec.event.as_str(),
            task: sealed::task(seals, id, &spec.task)?,
            status: spec.status.as_str(),
            priority: spec.priority.into(),
            mode: spec.mode.as_str(),
            on_failure: spec.on_failure.as_str(),
            timeout_ms: timeout,
            retry: Json(&spec.retry),
            max_concurrency: spec.max_concurrency.map(|n| i64::from(n.get())),
        })
    }

    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.name,
            &self.event,
            &self.task,
            &self.status,
            &self.priority,
            &self.mode,
            &self.on_failure,
            &self.timeout_ms,
            &self.retry,
            &self.max_concurrency,
        ]
    }
}
