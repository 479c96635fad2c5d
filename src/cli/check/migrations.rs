//! The finding of `check` about the database's migrations.
//!
//! Migrations of a newer version are only a warning. Migrations only add, so an older process keeps working during an
//! upgrade.

use super::report::{Finding, State, finding, ok};
use crate::store::{MigrationState, StoreError};

/// Returns the finding, and whether the tables can be read.
pub(super) fn migrations(state: Result<MigrationState, StoreError>) -> (Finding, bool) {
    let of = |state, found| finding("migrations", state, found);
    let state = match state {
        Ok(state) => state,
        Err(error) => return (of(State::Failed, format!("{:#}", anyhow::Error::new(error))), false),
    };
    if !state.differing.is_empty() {
        let found = format!(
            "these migrations differ between the database and this program: {}; no release of provisiond made this \
             database: restore a backup, or use another database",
            state.differing.join(", ")
        );
        return (of(State::Failed, found), false);
    }
    if !state.pending.is_empty() {
        let found = format!("not applied: {}; run provisiond migrate", state.pending.join(", "));
        return (of(State::Failed, found), false);
    }
    match state.newer_told() {
        Some(newer) => (of(State::Warning, newer), true),
        None => (ok("migrations", format!("{} applied", state.applied.len())), true),
    }
}
