//! Errors of commands, as the terminal shows them.

use std::{fmt::Write as _, process::ExitCode, sync::mpsc, thread, time::Duration};

use super::output::note;
use crate::{operations::TrialError, store::StoreError};

/// Why a command failed.
#[derive(Debug)]
pub(super) enum CliError {
    /// The command was used wrongly.
    Usage(String),
    /// Something that the command names does not exist.
    NotFound(String),
    Failed(anyhow::Error),
    /// The result, which is printed already, shows the failure.
    Reported,
}

impl CliError {
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(anyhow::anyhow!(message.into()))
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
    pub(super) fn usage(message: impl ToString) -> Self {
        Self::Usage(message.to_string())
    }

    /// Converts an error of another module, which may contain a [`StoreError`].
    pub(super) fn of(error: anyhow::Error) -> Self {
        error.downcast::<StoreError>().map_or_else(Self::Failed, Self::from)
    }

    /// Prints the error and its causes on stderr, and returns the exit code.
    pub(super) fn report(self) -> ExitCode {
        let (text, code) = match self {
            Self::Usage(text) => (text, 2),
            Self::NotFound(text) => (text, 3),
            Self::Failed(error) => (chain(&error), 1),
            Self::Reported => return ExitCode::from(1),
        };
        print_error(format!("error: {text}"));
        ExitCode::from(code)
    }
}

/// Prints `text` on stderr, for at most a second: a reader that does not read must not keep the process alive.
fn print_error(text: String) {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        note(&text);
        let _ = sender.send(());
    });
    let _ = receiver.recv_timeout(Duration::from_secs(1));
}

/// The error and its causes. A cause whose text was printed before is left out.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            let _ = write!(text, "{}{cause}", if text.is_empty() { "" } else { "\n  because: " });
        }
    }
    text
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<TrialError> for CliError {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Store(error) => error.into(),
            TrialError::NotCalled(_) => Self::failed(error.to_string()),
            TrialError::NoEvent(_) => Self::usage(error),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        match error {
            error @ StoreError::NotFound(_) => Self::NotFound(error.to_string()),
            StoreError::Unavailable(_) => Self::Failed(
                anyhow::Error::new(error)
                    .context("cannot use PostgreSQL (database.url); for details run provisiond check"),
            ),
            other => {
                let error = anyhow::Error::new(other);
                // SQLSTATE of an undefined table and of an undefined column.
                let text = format!("{error:#}");
                if text.contains("42P01") || text.contains("42703") {
                    return Self::Failed(error.context("the tables are outdated: run provisiond migrate"));
                }
                Self::Failed(error)
            }
        }
    }
}
