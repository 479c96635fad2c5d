//! Handlers as text.

use serde::Serialize;

use crate::{
    cli::{
        context::Context,
        error::CliError,
        output::{field_list, format_time, short, table},
    },
    domain::{
        handler::{Handler, HandlerDefaults, SETTINGS},
        secret::SigningSecret,
    },
    store::{HandlerCounts, HistoryEntry},
};

/// `is_unfiltered`: the list was requested without a filter.
pub(super) fn list(handlers: &[Handler], is_unfiltered: bool) -> String {
    if handlers.is_empty() {
        let hint = if is_unfiltered {
            "no handlers yet: provisiond handlers create --help\n"
        } else {
            "no handlers match\n"
        };
        return hint.to_owned();
    }
    table(
        ["ID", "Priority", "Name", "Event", "Handler", "Target", "Status"],
        handlers.iter().map(|h| {
            let spec = &h.spec;
            [
                h.id.to_string(),
                spec.priority.to_string(),
                short(spec.name.as_str(), 40),
                spec.event.to_string(),
                spec.task.kind().to_string(),
                short(spec.task.target(), 60),
                spec.status.to_string(),
            ]
        }),
    )
}

/// The handler on one line.
pub(super) fn line(handler: &Handler) -> String {
    let spec = &handler.spec;
    let (kind, target) = (spec.task.kind(), spec.task.target());
    format!("{} on {}, {kind} {target}, priority {}, {}", spec.name, spec.event, spec.priority, spec.status)
}

pub(super) fn details(handler: &Handler, defaults: &HandlerDefaults, counts: HandlerCounts) -> String {
    let spec = &handler.spec;
    let mut rows = vec![
        ("ID", handler.id.to_string()),
        ("Name", spec.name.to_string()),
        ("Event", spec.event.to_string()),
        ("Handler", spec.task.kind().to_string()),
        ("Target", spec.task.target().to_owned()),
    ];
    rows.extend(spec.task.parameters());
    rows.extend(SETTINGS.iter().map(|setting| (setting.label, setting.applied(spec, defaults))));
    rows.extend([
        ("Signed", if handler.signed { "yes" } else { "no" }.to_owned()),
        ("Created", format_time(handler.created_at)),
        ("Updated", format_time(handler.updated_at)),
        ("Version", handler.version.to_string()),
        ("Last day", format!("{} attempts, {} failed", counts.attempts, counts.failures)),
    ]);
    field_list(&rows)
}

pub(super) fn history(entries: &[HistoryEntry]) -> String {
    table(
        ["Date (UTC)", "By", "Action", "Change", "Note"],
        entries.iter().map(|entry| {
            [
                format_time(entry.changed_at),
                entry.changed_by.clone(),
                entry.action.to_string(),
                difference(entry),
                entry.note.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// The changed fields, each with its old and new value.
fn difference(entry: &HistoryEntry) -> String {
    let (Some(before), Some(after)) = (&entry.before, &entry.after) else { return String::new() };
    let fields = after.as_object().into_iter().flatten();
    let changed = fields.filter(|(name, value)| {
        !matches!(name.as_str(), "updated_at" | "version") && before.get(name) != Some(value)
    });
    let lines = changed.map(|(name, value)| {
        let old = before.get(name).map(ToString::to_string).unwrap_or_default();
        format!("{name}: {} → {}", short(&old, 60), short(&value.to_string(), 60))
    });
    lines.collect::<Vec<_>>().join("; ")
}

/// Prints `handler` and, once, a secret that was generated here. As text the secret goes to stderr, so that it does not
/// end up in a pipe; as JSON it is part of the result.
pub(super) fn with_secret(
    context: &Context,
    handler: &Handler,
    secret: Option<&SigningSecret>,
    text: impl FnOnce(&Handler) -> String,
) -> Result<(), CliError> {
    #[derive(Serialize)]
    struct Shown<'a> {
        #[serde(flatten)]
        handler: &'a Handler,
        #[serde(skip_serializing_if = "Option::is_none")]
        signing_secret: Option<String>,
    }
    if context.output.is_json() {
        return context.output.json(&Shown { handler, signing_secret: secret.map(SigningSecret::expose) });
    }
    if let Some(secret) = secret {
        let secret = secret.expose();
        Context::hint(&format!(
            "signing secret, shown only once; the receiver needs it to verify the requests:\n{secret}"
        ));
    }
    context.output.text(&text(handler))
}
