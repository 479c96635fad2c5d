//! The database schema: embedded migrations, applied forward only.

use std::time::Duration;

use anyhow::Context;
use tokio_postgres::Client;

use super::{Result, Store, StoreError};

/// Advisory lock of the process that applies migrations: many processes may start at the same time. All versions must
/// use the same number, so never change it.
const LOCK: i64 = 0x7072_6f76_6973_696f;

/// How long a process waits for another one that applies migrations.
const LOCK_TIMEOUT: Duration = Duration::from_mins(2);

/// PostgreSQL 13, in the format of `server_version_num`.
const OLDEST_SERVER: i32 = 130_000;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The migrations of a database, compared with those of this binary. A name is like `V1__foundation`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MigrationState {
    pub applied: Vec<String>,
    pub pending: Vec<String>,
    /// Applied by a newer binary. Migrations only add to the schema, so this binary still runs.
    pub newer: Vec<String>,
    /// Applied with other content than in this binary: the database was not made by a release.
    pub differing: Vec<String>,
}

impl MigrationState {
    /// A sentence about the migrations of a newer version; `None` if there are none.
    pub fn newer_warning(&self) -> Option<String> {
        (!self.newer.is_empty()).then(|| {
            format!(
                "a newer version of provisiond has migrated this database ({}): this version can use it \
                 during an upgrade, but does not run handlers that need the newer version",
                self.newer.join(", ")
            )
        })
    }
}

impl Store {
    /// Applies pending migrations and returns their names.
    ///
    /// # Errors
    /// Besides the database's errors: the server is too old, its encoding is not UTF8, another process holds the lock
    /// for too long, or an applied migration differs from this binary's.
    pub async fn migrate(&self) -> anyhow::Result<Vec<String>> {
        let mut session = self.session().await?;
        let version = session.query_opt("SHOW server_version_num", &[]).await?;
        check_server(version.as_ref().map(|row| row.get(0)))?;
        let encoding = session.query_opt("SHOW server_encoding", &[]).await?;
        check_encoding(encoding.as_ref().map(|row| row.get(0)))?;
        // DDL on large tables takes long. The connection is used for nothing else.
        let client = session.take_over()?;
        let settings = format!("SET statement_timeout = 0; SET lock_timeout = {}", LOCK_TIMEOUT.as_millis());
        client.batch_execute(&settings).await.map_err(StoreError::from)?;
        lock(client).await?;
        let state = state(client).await?;
        if let Some(name) = state.differing.first() {
            anyhow::bail!(
                "migration {name} in the database differs from the one in this binary: \
                 the database was not created by a release of provisiond"
            );
        }
        if state.pending.is_empty() {
            return Ok(Vec::new());
        }
        let runner = embedded::migrations::runner().set_abort_missing(false);
        let report = runner.run_async(client).await.context("a migration failed and was rolled back")?;
        Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
    }

    /// Compares the migrations and changes nothing.
    pub async fn migration_state(&self) -> Result<MigrationState> {
        let mut session = self.session().await?;
        state(session.take_over()?).await
    }
}

fn check_server(version: Option<&str>) -> anyhow::Result<()> {
    let number: i32 = version.and_then(|v| v.parse().ok()).context("the server reports no version")?;
    if number < OLDEST_SERVER {
        anyhow::bail!("PostgreSQL {}.{} is too old: 13 or later is needed", number / 10_000, number % 10_000);
    }
    Ok(())
}

/// Requires UTF8, because events may have any text.
fn check_encoding(encoding: Option<&str>) -> anyhow::Result<()> {
    match encoding {
        Some("UTF8") => Ok(()),
        other => anyhow::bail!(
            "the database's encoding is {}: provisiond needs UTF8 (createdb -E UTF8 -T template0)",
            other.unwrap_or("unknown")
        ),
    }
}

async fn lock(client: &Client) -> anyhow::Result<()> {
    let locked = client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(StoreError::from);
    locked.map(drop).map_err(|error| match error.sql_state() {
        Some("55P03") => anyhow::anyhow!(
            "another process has been migrating this database for {} s: wait for it, or end it \
             (select pid from pg_locks where locktype = 'advisory')",
            LOCK_TIMEOUT.as_secs()
        ),
        _ => error.into(),
    })
}

async fn state(client: &Client) -> Result<MigrationState> {
    let exists = client.query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[]).await?;
    let rows = if exists.get(0) {
        client
            .query("SELECT version, name, checksum FROM refinery_schema_history ORDER BY version", &[])
            .await?
    } else {
        Vec::new()
    };
    let applied: Vec<(i32, String, String)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let runner = embedded::migrations::runner();
    let ours = runner.get_migrations().iter();
    let mut ours: Vec<(i32, String, String)> =
        ours.map(|m| (m.version(), m.name().to_owned(), m.checksum().to_string())).collect();
    ours.sort();
    Ok(compare(&applied, &ours))
}

fn compare(applied: &[(i32, String, String)], ours: &[(i32, String, String)]) -> MigrationState {
    let mut state = MigrationState::default();
    for migration in applied {
        let title = format!("V{}__{}", migration.0, migration.1);
        match ours.iter().find(|m| m.0 == migration.0) {
            None => state.newer.push(title),
            Some(own) if own == migration => state.applied.push(title),
            Some(_) => state.differing.push(title),
        }
    }
    let pending = ours.iter().filter(|m| applied.iter().all(|a| a.0 != m.0));
    state.pending = pending.map(|m| format!("V{}__{}", m.0, m.1)).collect();
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Database;

    fn migration(version: i32, checksum: &str) -> (i32, String, String) {
        (version, "x".into(), checksum.into())
    }

    #[test]
    fn migrations_are_compared_by_version_and_content() {
        let applied = [migration(1, "a"), migration(2, "b"), migration(4, "d")];
        let ours = [migration(1, "a"), migration(2, "other"), migration(3, "c")];
        let state = compare(&applied, &ours);
        assert_eq!(state.applied, ["V1__x"]);
        assert_eq!(state.differing, ["V2__x"]);
        assert_eq!(state.pending, ["V3__x"]);
        assert_eq!(state.newer, ["V4__x"]);
        let warning = state.newer_warning().expect("told");
        assert!(
            warning.contains("(V4__x)") && MigrationState::default().newer_warning().is_none(),
            "{warning}"
        );
    }

    #[test]
    fn an_old_server_is_refused() {
        assert!(check_server(Some("130004")).is_ok());
        let error = check_server(Some("120022")).expect_err("too old").to_string();
        assert!(error.contains("PostgreSQL 12.22 is too old"), "{error}");
    }

    #[tokio::test]
    async fn migrating_twice_and_at_once_applies_once() {
        let database = Database::empty().await;
        let store = database.store();
        let before = store.migration_state().await.expect("a state");
        assert_eq!(before.applied.len(), 0);
        assert_eq!(before.pending.first().map(String::as_str), Some("V1__foundation"));
        let (a, b) = tokio::join!(store.migrate(), store.migrate());
        assert_eq!(a.expect("migrated").len() + b.expect("migrated").len(), before.pending.len());
        let after = store.migration_state().await.expect("a state");
        assert_eq!((after.applied, after.pending), (before.pending, before.applied));
    }
}
