//! The report of `check`, line by line.

use std::fmt::Write as _;

use serde::Serialize;

/// One line of the report.
#[derive(Serialize)]
pub(super) struct Finding {
    what: &'static str,
    pub(super) state: State,
    /// What was found, and what to do about it.
    found: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    /// It works, but with a drawback.
    Warning,
    Failed,
}

pub(super) fn text(report: &[Finding]) -> String {
    report.iter().fold(String::new(), |mut text, finding| {
        let word = match finding.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "FAILED",
        };
        let _ = writeln!(text, "{:<14} {word:<8} {}", finding.what, finding.found);
        text
    })
}

pub(super) const fn finding(what: &'static str, state: State, found: String) -> Finding {
    Finding { what, state, found }
}

pub(super) const fn ok(what: &'static str, found: String) -> Finding {
    finding(what, State::Ok, found)
}
