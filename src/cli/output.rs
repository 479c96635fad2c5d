//! Results on stdout: tables for people, one JSON value for programs.

use std::{
    fmt::{Display, Write as _},
    io::{ErrorKind, IsTerminal as _, Write as _},
};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;

use super::error::CliError;
use crate::domain::{
    invisible::{escaped, escaped_in_json},
    outcome::Response,
};

/// The output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A table, for people
    Table,
    /// One JSON value, for programs; a list is an array, a stream has one value per line
    Json,
}

/// Prints results.
#[derive(Clone, Copy)]
pub(super) struct Output(pub Format);

impl Output {
    pub(super) fn is_json(self) -> bool {
        self.0 == Format::Json
    }

    /// Prints `value` as JSON, or as the text that `table` makes of it.
    pub(super) fn value<T: Serialize + ?Sized>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        match self.0 {
            Format::Json => self.json(value),
            Format::Table => self.text(&table(value)),
        }
    }

    pub(super) fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CliError> {
        let mut text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
        text.push('\n');
        self.text(&escaped_in_json(&text))
    }

    /// Prints one JSON value on one line, for streams.
    pub(super) fn json_line<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CliError> {
        let mut text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
        text.push('\n');
        self.text(&escaped_in_json(&text))
    }

    /// Prints `text`, which ends with a line break, in either format. It escapes control and invisible characters: text
    /// from outside must not move the cursor, change colours or reverse the order of characters.
    #[expect(clippy::unused_self, reason = "whoever prints has an output")]
    pub(super) fn text(self, text: &str) -> Result<(), CliError> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(escaped(text).as_bytes()).and_then(|()| stdout.flush()) {
            // A closed pipe (`| head`) is not an error.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
            result => Ok(result?),
        }
    }
}

/// The items, each on its own line.
pub(super) fn lines(items: impl Iterator<Item: Display>) -> String {
    items.fold(String::new(), |mut text, item| {
        let _ = writeln!(text, "{item}");
        text
    })
}

/// Columns that may be wrapped on a narrow terminal. The others, such as ids, stay whole so that people can copy them.
const FLEXIBLE: [&str; 6] = ["Name", "Target", "Handler", "Error", "Change", "Note"];
/// Columns that are hidden on a terminal with fewer characters a line.
const OPTIONAL: [(&str, u16); 4] =
    [("Attempt", 150), ("Duration", 150), ("Object ID", 120), ("Handler", 100)];

/// Formats `rows` as a table. On a terminal it fits the width; elsewhere it has no borders, for `grep`.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| escaped(&cell).into_owned()));
    }
    if !std::io::stdout().is_terminal() {
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        return format!("{}\n", table.trim_fmt());
    }
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    let width = table.width().unwrap_or(u16::MAX);
    let is_hidden =
        |name: &str| OPTIONAL.iter().any(|(optional, min_width)| *optional == name && width < *min_width);
    for (index, name) in header.into_iter().enumerate() {
        let Some(column) = table.column_mut(index) else { continue };
        if is_hidden(name) {
            column.set_constraint(ColumnConstraint::Hidden);
        } else if !FLEXIBLE.contains(&name) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    format!("{table}\n")
}

/// Names and values, one pair a line. Empty values are left out.
pub(super) fn field_list(fields: &[(&str, String)]) -> String {
    let shown = fields.iter().filter(|(_, value)| !value.is_empty());
    let width = shown.clone().map(|(name, _)| name.len()).max().unwrap_or_default();
    let margin = format!("\n{:width$}  ", "");
    lines(shown.map(|(name, value)| format!("{name:width$}  {}", escaped(value).replace('\n', &margin))))
}

/// The fields of a response, for [`field_list`].
pub(super) fn response_fields(response: Option<&Response>) -> [(&'static str, String); 7] {
    let response = response.cloned().unwrap_or_default();
    [
        ("HTTP status", response.http_status.map(|s| s.to_string()).unwrap_or_default()),
        ("Exit code", response.exit_code.map(|c| c.to_string()).unwrap_or_default()),
        ("Signal", response.signal.map(|s| s.to_string()).unwrap_or_default()),
        ("Answer", response.body.unwrap_or_default()),
        ("Stdout", response.stdout.unwrap_or_default()),
        ("Stderr", response.stderr.unwrap_or_default()),
        ("Truncated", if response.truncated { "yes" } else { "" }.to_owned()),
    ]
}

/// `text` on one line of at most `max` characters.
pub(super) fn short(text: &str, max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = escaped(&line);
    match line.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.into_owned(),
    }
}

/// Prints a line on stderr.
pub(super) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", escaped(line));
}

/// Formats a time for people, in UTC.
pub(super) fn format_time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}
