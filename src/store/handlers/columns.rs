//! The settings of a handler as the columns of its row.

use std::time::Duration;

use tokio_postgres::{
    Row,
    types::{Json, ToSql},
};

use super::{HandlerId, HandlerSpec, sealed};
use crate::{
    domain::{handler::Priority, seal::Seals},
    store::Result,
};

/// What [`super::handler`] reads.
pub(in crate::store) const COLUMNS: &str =
    "id, name, event, task, status, priority, mode, on_failure, timeout_ms, retry,
    max_concurrency, signing_secret IS NOT NULL AS signed, created_at, updated_at, version";

/// Columns to write, with their values. In the SQL, `$1` is the id of the handler, `$2` its event type, and the columns
/// follow.
pub(super) struct Columns(Vec<(&'static str, Box<dyn ToSql + Sync + Send>)>);

impl Columns {
    /// The settings of handler `id`, with its secrets in their stored form. The event type is not among them, because
    /// the statement takes it from the catalogue.
    pub(super) fn of(seals: &Seals, id: HandlerId, spec: &HandlerSpec) -> Result<Self> {
        let HandlerSpec {
            name,
            event: _,
            task,
            status,
            priority,
            mode,
            on_failure,
            timeout,
            retry,
            max_concurrency,
        } = spec;
        let timeout = timeout.map(|t| i32::try_from(t.duration().as_millis()).unwrap_or(i32::MAX));
        let mut columns = Self(Vec::new());
        columns.add("name", name.as_str().to_owned());
        columns.add("task", sealed::task(seals, id, task)?);
        columns.add("status", status.as_str());
        columns.add("priority", i32::from(*priority));
        columns.add("mode", mode.as_str());
        columns.add("on_failure", on_failure.as_str());
        columns.add("timeout_ms", timeout);
        columns.add("retry", Json(retry.clone()));
        columns.add("max_concurrency", max_concurrency.map(|n| i64::from(n.get())));
        Ok(columns)
    }

    pub(super) fn add(&mut self, column: &'static str, value: impl ToSql + Sync + Send + 'static) {
        self.0.push((column, Box::new(value)));
    }

    /// `name, task, …`
    pub(super) fn names(&self) -> String {
        self.list(|_, name| name.to_owned())
    }

    /// `$3, $4, …`
    pub(super) fn placeholders(&self) -> String {
        self.list(|index, _| format!("${index}"))
    }

    /// `name = $3, task = $4, …`
    pub(super) fn assignments(&self) -> String {
        self.list(|index, name| format!("{name} = ${index}"))
    }

    fn list(&self, item: impl Fn(usize, &str) -> String) -> String {
        let items: Vec<_> = (3..).zip(&self.0).map(|(index, (name, _))| item(index, name)).collect();
        items.join(", ")
    }

    pub(super) fn params<'a>(&'a self, id: &'a i64, event: &'a &'a str) -> Vec<&'a (dyn ToSql + Sync)> {
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![id, event];
        params.extend(self.0.iter().map(|(_, value)| -> &(dyn ToSql + Sync) { &**value }));
        params
    }
}

/// Reads the settings from a row with [`COLUMNS`].
pub(super) fn spec(row: &Row) -> anyhow::Result<HandlerSpec> {
    let text = |column| row.try_get::<_, &str>(column);
    let timeout = row.try_get::<_, Option<i32>>("timeout_ms")?;
    let timeout = timeout.map(u64::try_from).transpose()?.map(Duration::from_millis);
    let max_concurrency = row.try_get::<_, Option<i64>>("max_concurrency")?;
    Ok(HandlerSpec {
        name: text("name")?.parse()?,
        event: text("event")?.parse()?,
        task: row.try_get::<_, Json<_>>("task")?.0,
        status: text("status")?.parse()?,
        priority: Priority::try_from(row.try_get::<_, i32>("priority")?)?,
        mode: text("mode")?.parse()?,
        on_failure: text("on_failure")?.parse()?,
        timeout: timeout.map(TryInto::try_into).transpose()?,
        retry: row.try_get::<_, Json<_>>("retry")?.0,
        max_concurrency: max_concurrency
            .map(u32::try_from)
            .transpose()?
            .map(TryInto::try_into)
            .transpose()?,
    })
}
