//! The finding of `check` about the database's migrations.
//!
//! Migrations of a newer version are only a warning. Migrations only add, so an older process keeps working during an
//! upgrade.

use super::report::{Finding, State, finding, ok};
use crate::store::{MigrationState, StoreError};

/// Returns the finding, and whether the tables can be read.
pub(super) fn migrations(state: Result<MigrationState, StoreError>) -> (Finding, bool) {
    let to_finding = |state, message| finding("migrations", state, message);
    let state = match state {
        Ok(state) => state,
        Err(error) => return (to_finding(State::Failed, format!("{:#}", anyhow::Error::new(error))), false),
    };
    if !state.differing.is_empty() {
        let message = format!(
            "these migrations differ between the database and this program: {}; no release of provisiond made this \
             database: restore a backup, or use another database",
            state.differing.join(", ")
        );
        return (to_finding(State::Failed, message), false);
    }
    if !state.pending.is_empty() {
        let message = format!("not applied: {}; run provisiond migrate", state.pending.join(", "));
        return (to_finding(State::Failed, message), false);
    }
    match state.newer_warning() {
        Some(newer) => (to_finding(State::Warning, newer), true),
        None => (ok("migrations", format!("{} applied", state.applied.len())), true),
    }
}
