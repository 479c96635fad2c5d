//! Executions as text.

use jiff::Timestamp;

use crate::{
    cli::output::{field_list, format_time, response_fields, short, table},
    domain::execution::{Disposition, EventRef, Execution, HandlerRef},
    store::ExecutionRow,
};

/// The fields of an execution that every list shows.
pub(in crate::cli) struct Brief<'a> {
    event: &'a EventRef,
    handler: Option<&'a HandlerRef>,
    disposition: Disposition,
    attempt: (u32, u32),
    error: Option<&'a str>,
    started_at: Timestamp,
    duration_ms: u64,
}

/// Makes a [`Brief`] from a whole execution and from a row of a list.
macro_rules! brief_of {
    ($($type:ty),+) => { $(
        impl<'a> From<&'a $type> for Brief<'a> {
            fn from(e: &'a $type) -> Self {
                Self {
                    event: &e.event,
                    handler: e.handler.as_ref(),
                    disposition: e.disposition,
                    attempt: (e.attempt, e.max_attempts),
                    error: e.error.as_deref(),
                    started_at: e.started_at,
                    duration_ms: e.duration_ms,
                }
            }
        }
    )+ };
}
brief_of!(Execution, ExecutionRow);

impl Brief<'_> {
    /// The status, and the disposition unless it is `done`.
    fn status(&self) -> String {
        match self.disposition {
            Disposition::Done => self.disposition.status().to_string(),
            disposition => format!("{}: {disposition}", disposition.status()),
        }
    }

    fn handler_name(&self) -> String {
        let name = |handler: &HandlerRef| {
            handler.name.as_ref().map_or_else(|| handler.id.to_string(), ToString::to_string)
        };
        self.handler.map_or_else(|| "–".to_owned(), name)
    }

    fn attempt(&self) -> String {
        match self.attempt {
            (0, _) => "–".to_owned(),
            (attempt, 0) => attempt.to_string(),
            (attempt, max) => format!("{attempt}/{max}"),
        }
    }
}

pub(super) fn list_table(rows: &[ExecutionRow]) -> String {
    if rows.is_empty() {
        return "no executions\n".to_owned();
    }
    let header =
        ["ID", "Status", "Date (UTC)", "Event", "Handler", "Object ID", "Attempt", "Error", "Duration"];
    table(
        header,
        rows.iter().map(|row| {
            let brief = Brief::from(row);
            [
                row.id.to_string(),
                brief.status(),
                format_time(row.started_at),
                row.event.name.to_string(),
                short(&brief.handler_name(), 30),
                short(&row.event.object_id, 30),
                brief.attempt(),
                short(row.error.as_deref().unwrap_or_default(), 80),
                format!("{} ms", row.duration_ms),
            ]
        }),
    )
}

/// One line for a stream of executions.
pub(in crate::cli) fn summary(brief: &Brief<'_>) -> String {
    let error = brief.error.map(|error| format!("  {}", short(error, 200))).unwrap_or_default();
    format!(
        "{}  {:<20} {}  object {}  {}  attempt {}  {} ms{error}\n",
        format_time(brief.started_at),
        brief.status(),
        brief.event.name,
        short(&brief.event.object_id, 30),
        short(&brief.handler_name(), 30),
        brief.attempt(),
        brief.duration_ms,
    )
}

pub(super) fn details(e: &Execution) -> String {
    let task = e.handler.as_ref().and_then(|handler| handler.task.as_ref());
    let brief = Brief::from(e);
    let fields = [
        ("ID", e.id.to_string()),
        ("Status", brief.status()),
        ("Date", format_time(e.started_at)),
        ("Event", format!("{} of {}", e.event.name, format_time(e.event.dt))),
        ("Event ID", e.event.id.to_string()),
        ("Run ID", e.run_id.to_string()),
        ("Object ID", e.event.object_id.clone()),
        (
            "Handler",
            e.handler.as_ref().map(|h| format!("{} (id {})", brief.handler_name(), h.id)).unwrap_or_default(),
        ),
        ("Target", task.map(|task| format!("{} {}", task.kind, task.target)).unwrap_or_default()),
        ("Attempt", brief.attempt()),
        ("Error", e.error.clone().unwrap_or_default()),
        ("Next attempt", e.retry_at.map(format_time).unwrap_or_default()),
        ("Duration", format!("{} ms", e.duration_ms)),
        ("Worker", format!("{} pid {} version {}", e.worker.host, e.worker.pid, e.worker.version)),
        ("Trace", e.trace_id.clone().unwrap_or_default()),
        ("Sent", e.request.get().to_owned()),
        ("Modified", if e.modified { "yes, for the handlers after it" } else { "" }.to_owned()),
    ];
    field_list(&[&fields[..], &response_fields(e.response.as_ref())].concat())
}
