//! Running processes. Each one writes its own row every few seconds, and deletes it when it ends.
//!
//! A process that was killed leaves its row behind, so the caller of a list says how old a report may be. The age is
//! measured by the database's clock, because the clocks of the processes may differ.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{
    Row,
    types::{Json, ToSql},
};
use uuid::Uuid;

use super::{Result, Store, StoreError, sql::clean};
use crate::domain::{
    event::EventName,
    execution::WorkerId,
    process::{ProcessReport, Role},
};

/// A process and its latest report.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Process {
    /// New at each start of the process.
    pub id: Uuid,
    #[serde(flatten)]
    pub who: WorkerId,
    pub roles: Vec<Role>,
    pub started_at: Timestamp,
    pub report: ProcessReport,
}

/// A process, with the time of its latest report.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SeenProcess {
    #[serde(flatten)]
    pub process: Process,
    /// The time of the latest report, by the database's clock.
    pub seen_at: Timestamp,
    /// Milliseconds since the latest report.
    pub silent_ms: u64,
}

/// Events that were taken from their queues, by minute and event type.
pub type EventCounts = BTreeMap<(Timestamp, EventName), u64>;

impl Store {
    /// Stores the report of a process, and adds the events it took since its previous report.
    pub async fn report_process(&self, process: &Process, events: &EventCounts) -> Result<()> {
        let sql = "WITH counted AS (
                INSERT INTO event_minutes (minute, event_name, events)
                SELECT * FROM UNNEST($8::timestamptz[], $9::text[], $10::integer[]) AS batch (minute, name, events)
                ORDER BY minute, name
                ON CONFLICT (minute, event_name) DO UPDATE SET events = event_minutes.events + excluded.events)
            INSERT INTO processes (id, host, pid, version, roles, started_at, report)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (id) DO UPDATE SET seen_at = now(), report = excluded.report";
        let roles: Vec<&str> = process.roles.iter().map(|role| role.as_str()).collect();
        let minutes: Vec<Timestamp> = events.keys().map(|(minute, _)| *minute).collect();
        let names: Vec<&str> = events.keys().map(|(_, name)| name.as_str()).collect();
        let counts: Vec<i32> = events.values().map(|n| i32::try_from(*n).unwrap_or(i32::MAX)).collect();
        let (host, version) = (clean(&process.who.host), clean(&process.who.version));
        let (pid, report) = (i64::from(process.who.pid), Json(&process.report));
        let values: [&(dyn ToSql + Sync); 10] = [
            &process.id,
            &host,
            &pid,
            &version,
            &roles,
            &process.started_at,
            &report,
            &minutes,
            &names,
            &counts,
        ];
        self.session().await?.execute(sql, &values).await.map(drop)
    }

    /// Deletes the row of a process that ends.
    pub async fn forget_process(&self, id: Uuid) -> Result<()> {
        self.session().await?.execute("DELETE FROM processes WHERE id = $1", &[&id]).await.map(drop)
    }

    /// Lists processes that reported within this time, by host and pid.
    pub async fn list_processes(&self, within: Duration) -> Result<Vec<SeenProcess>> {
        let sql = "SELECT id, host, pid, version, roles, started_at, report, seen_at,
                (1000 * extract(epoch FROM now() - seen_at))::bigint AS silent_ms
            FROM processes WHERE seen_at > now() - $1 * interval '1 second'
            ORDER BY host, pid, started_at LIMIT 1000";
        let rows = self.session().await?.query(sql, &[&within.as_secs_f64()]).await?;
        let seen: anyhow::Result<_> = rows.iter().map(seen_process).collect();
        seen.map_err(|error| StoreError::Other(error.into()))
    }

    /// Deletes the rows of killed processes: those without a report for `silent`.
    pub async fn forget_silent_processes(&self, silent: Duration) -> Result<u64> {
        let sql = "DELETE FROM processes WHERE seen_at < now() - $1 * interval '1 second'";
        self.session().await?.execute(sql, &[&silent.as_secs_f64()]).await
    }
}

fn seen_process(row: &Row) -> anyhow::Result<SeenProcess> {
    let who = WorkerId {
        host: row.try_get("host")?,
        pid: row.try_get::<_, i64>("pid")?.try_into()?,
        version: row.try_get("version")?,
    };
    // A newer version may have roles that this version does not know, and another form of report.
    let roles: Vec<&str> = row.try_get("roles")?;
    let roles = roles.into_iter().filter_map(|role| role.parse().ok()).collect();
    let report: Json<serde_json::Value> = row.try_get("report")?;
    let report = serde_json::from_value(report.0).unwrap_or_default();
    let (id, started_at) = (row.try_get("id")?, row.try_get("started_at")?);
    Ok(SeenProcess {
        process: Process { id, who, roles, started_at, report },
        seen_at: row.try_get("seen_at")?,
        silent_ms: row.try_get::<_, i64>("silent_ms")?.try_into().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Period, testing::Database};

    fn process(pid: u32) -> Process {
        Process {
            id: Uuid::now_v7(),
            who: WorkerId { host: "h\0st".into(), pid, version: "0.1.0".into() },
            roles: vec![Role::Worker, Role::Recorder],
            started_at: Timestamp::now(),
            report: ProcessReport::default(),
        }
    }

    #[tokio::test]
    async fn a_process_is_listed_while_it_reports() {
        let database = Database::migrated().await;
        let store = database.store();
        let within = Duration::from_mins(1);
        let (mut one, other) = (process(1), process(2));
        store.report_process(&one, &EventCounts::new()).await.expect("told");
        store.report_process(&other, &EventCounts::new()).await.expect("told");
        one.report.draining = true;
        store.report_process(&one, &EventCounts::new()).await.expect("told again");
        let seen = store.list_processes(within).await.expect("a list");
        assert_eq!(seen.iter().map(|s| s.process.who.pid).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(seen[0].process.roles, [Role::Worker, Role::Recorder]);
        assert!(seen[0].process.report.draining && seen[0].silent_ms < 60_000);

        store.forget_process(one.id).await.expect("gone");
        database.psql("UPDATE processes SET seen_at = now() - interval '2 minutes'").await;
        assert!(store.list_processes(within).await.expect("a list").is_empty(), "it was killed");
        assert_eq!(store.forget_silent_processes(Duration::from_hours(1)).await.expect("kept"), 0);
        assert_eq!(store.forget_silent_processes(within).await.expect("deleted"), 1);
    }

    #[tokio::test]
    async fn unknown_parts_of_a_report_are_ignored() {
        let database = Database::migrated().await;
        let store = database.store();
        store.report_process(&process(1), &EventCounts::new()).await.expect("told");
        for report in [r#"{"worker": {"in_flight": 3, "moon": 1}, "x": []}"#, r#"{"worker": 7}"#] {
            database
                .psql(&format!("UPDATE processes SET report = '{report}', roles = '{{worker,cook}}'"))
                .await;
            let seen = store.list_processes(Duration::from_mins(1)).await.expect("a list");
            assert_eq!(seen[0].process.roles, [Role::Worker]);
            let in_flight = seen[0].process.report.worker.as_ref().map(|worker| worker.in_flight);
            assert_eq!(in_flight, report.contains("moon").then_some(3));
        }
    }

    #[tokio::test]
    async fn events_add_up_over_processes() {
        let database = Database::migrated().await;
        let store = database.store();
        let minute: Timestamp =
            Timestamp::from_second(Timestamp::now().as_second() / 60 * 60).expect("a time");
        let counts = |n| EventCounts::from([((minute, "clients.create".parse().expect("a name")), n)]);
        store.report_process(&process(1), &counts(3)).await.expect("told");
        store.report_process(&process(2), &counts(4)).await.expect("told");
        let activity = store.activity(Period::Hour).await.expect("activity");
        assert_eq!(activity.total.events, 7);
        store.forget_counts().await.expect("nothing is old");
        assert_eq!(store.activity(Period::Day).await.expect("activity").total.events, 7);
    }
}
