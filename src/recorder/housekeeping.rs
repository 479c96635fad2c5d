//! Creates partitions of the executions ahead of time, deletes old records, and indexes the text of past
//! days.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{domain::clock::ClockAhead, store::Store};

/// How long a process without reports (it was killed) stays in the database.
const SILENT_AFTER: Duration = Duration::from_hours(1);
const DAYS_AHEAD: u16 = 3;
const INTERVAL: Duration = Duration::from_hours(1);
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// A process that has reported within this time counts as running.
const PRESENT_WITHIN: Duration = Duration::from_mins(1);
/// How long the database's clock must run evenly before anything is deleted by it.
const SETTLING_TIME: Duration = Duration::from_mins(10);
/// How far the database's clock may drift from this host's monotonic clock since the check began.
const MAX_CLOCK_SKEW: Duration = Duration::from_mins(1);

/// How long records are kept, in days.
#[derive(Clone, Copy)]
pub(super) struct Retention {
    pub executions: u16,
    /// Replayed and discarded dead letters; open ones are kept forever.
    pub dead_letters: u16,
}

/// Repeats the housekeeping until `stop`. Several recorders may do it at the same time.
pub(super) async fn keep(store: Store, retention: Retention, index_text: bool, stop: CancellationToken) {
    let mut steady = Steady::default();
    let mut logged = None;
    loop {
        let done = tokio::select! {
            () = stop.cancelled() => return,
            done = tidy(&store, retention, index_text, &mut steady) => done,
        };
        let pause = match done {
            Ok(pause) => {
                logged = None;
                pause
            }
            Err(error) => {
                let error = format!("{error:#}");
                if logged.as_ref() != Some(&error) {
                    warn!(
                        error,
                        "housekeeping failed (create partitions, delete old records, index text); retrying"
                    );
                }
                logged = Some(error);
                RETRY_DELAY
            }
        };
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
    }
}

/// Does the housekeeping once. Returns the time until the next.
async fn tidy(
    store: &Store,
    retention: Retention,
    index_text: bool,
    steady: &mut Steady,
) -> anyhow::Result<Duration> {
    store.ensure_partitions(DAYS_AHEAD).await?;
    if index_text {
        index(store).await?;
    }
    clocks_agree(store).await?;
    if let Some(jump) = store.watch_clock().await? {
        anyhow::bail!("{jump}");
    }
    let wait = steady.wait(store.moment().await?, Instant::now());
    if !wait.is_zero() {
        return Ok(wait);
    }
    delete(store, retention).await?;
    Ok(INTERVAL)
}

/// Checks that the database's clock runs evenly: compares it with this host's monotonic clock.
///
/// A clock that was set, for example by a host that starts before it knows the time, says nothing about the
/// age of a record. Holds both times at which the check began.
#[derive(Default)]
struct Steady(Option<(Timestamp, Instant)>);

impl Steady {
    /// Returns how long to wait until the database's clock can be trusted; zero: it can be trusted now.
    fn wait(&mut self, database_time: Timestamp, now: Instant) -> Duration {
        let (began_at, began) = *self.0.get_or_insert((database_time, now));
        let elapsed = now - began;
        let jumped = database_time.duration_since(began_at)
            - SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
        if jumped.unsigned_abs() > MAX_CLOCK_SKEW {
            self.0 = Some((database_time, now));
            return SETTLING_TIME;
        }
        SETTLING_TIME.saturating_sub(elapsed)
    }
}

/// Indexes the text of past days, the latest first. The first start, or a start after a long time, indexes
/// many days.
async fn index(store: &Store) -> anyhow::Result<()> {
    while let Some(day) = store.index_text_of_a_day().await? {
        info!(%day, "indexed the text of executions");
    }
    Ok(())
}

async fn delete(store: &Store, retention: Retention) -> anyhow::Result<()> {
    let old = store.drop_partitions_older_than(retention.executions).await?;
    let retention_days = retention.executions;
    for day in old.dropped {
        info!(%day, retention_days, "dropped executions older than the retention");
    }
    for day in old.busy {
        info!(%day, "executions older than the retention are in use: dropping them later");
    }
    store.forget_counts().await?;
    store.forget_silent_processes(SILENT_AFTER).await?;
    let deleted = store.forget_closed_dead_letters(retention.dead_letters).await?;
    if deleted > 0 {
        let retention_days = retention.dead_letters;
        info!(letters = deleted, retention_days, "deleted dead letters closed longer ago than the retention");
    }
    Ok(())
}

/// Fails if the clock of this host or of another process differs too much from the database's.
///
/// Then one of the clocks is wrong and it is unknown which, so nothing is deleted for its age.
async fn clocks_agree(store: &Store) -> anyhow::Result<()> {
    let here = store.clock_ahead().await?;
    if let Some(difference) = here.told().filter(|_| here.is_out_of_all_reason()) {
        anyhow::bail!("no old records are deleted while clocks differ: this host's clock is {difference}");
    }
    for seen in store.list_processes(PRESENT_WITHIN).await? {
        let Some(ahead) = seen.process.report.clock_ahead_ms.map(ClockAhead::from_millis) else { continue };
        if let Some(difference) = ahead.told().filter(|_| ahead.is_out_of_all_reason()) {
            let host = seen.process.who.host;
            anyhow::bail!(
                "no old records are deleted while clocks differ: the clock of host {host} is {difference}"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Database;

    const MIN: Duration = Duration::from_mins(1);
    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn a_clock_that_was_set_is_not_trusted_at_once() {
        let (start, now) = (Timestamp::UNIX_EPOCH, Instant::now());
        let mut steady = Steady::default();
        let mut wait = |wall: Duration, clock: Duration| steady.wait(start + wall, now + clock);
        assert_eq!(wait(Duration::ZERO, Duration::ZERO), 10 * MIN, "nothing is known yet");
        assert_eq!(wait(4 * MIN, 4 * MIN), 6 * MIN);
        assert_eq!(wait(10 * MIN, 10 * MIN), Duration::ZERO);
        assert_eq!(wait(70 * MIN + MIN, 70 * MIN), Duration::ZERO, "clocks are corrected");
        assert_eq!(wait(100 * DAY, 130 * MIN), 10 * MIN, "it was set ahead");
        assert_eq!(wait(100 * DAY + 10 * MIN, 140 * MIN), Duration::ZERO);
        assert_eq!(wait(150 * MIN, 150 * MIN), 10 * MIN, "and back");
    }

    #[tokio::test]
    async fn closed_dead_letters_are_deleted_and_open_ones_are_kept() {
        let database = Database::migrated().await;
        let store = database.store();
        let retention = Retention { executions: 90, dead_letters: 30 };
        database
            .psql(
                "INSERT INTO dead_letters (id, event_name, reason, error, attempts, plan, died_at, body, state,
                    state_changed_at, state_changed_by)
                SELECT gen_random_uuid(), 'e', 'malformed', 'no', 0, '{}', now() - interval '400 days', '',
                    state, CASE WHEN state <> 'open' THEN now() - closed * interval '1 day' END,
                    CASE WHEN state <> 'open' THEN 'me' END
                FROM (VALUES ('open', 0), ('discarded', 29), ('replayed', 31)) AS letters (state, closed)",
            )
            .await;
        let left = || database.ask("SELECT string_agg(state, ', ' ORDER BY state) FROM dead_letters");
        let mut steady = Steady::default();
        let wait = tidy(store, retention, false, &mut steady).await.expect("looked at the clock");
        assert_eq!(wait, SETTLING_TIME);
        assert_eq!(left().await, "discarded, open, replayed", "the clock is not trusted yet");

        let mut steady = Steady(steady.0.map(|(at, clock)| (at - SETTLING_TIME, clock - SETTLING_TIME)));
        let wait = tidy(store, retention, false, &mut steady).await.expect("kept house");
        assert_eq!(wait, INTERVAL);
        assert_eq!(left().await, "discarded, open");

        let ahead = r#"{"clock_ahead_ms": -8640000000}"#;
        database
            .psql(
                "UPDATE dead_letters SET state_changed_at = now() - interval '40 days' WHERE state <> 'open'",
            )
            .await;
        database
            .psql(&format!(
                "INSERT INTO processes (id, host, pid, version, roles, started_at, report)
                VALUES (gen_random_uuid(), 'far', 1, '1', '{{worker}}', now(), '{ahead}')"
            ))
            .await;
        let error = tidy(store, retention, false, &mut steady).await.expect_err("clocks differ").to_string();
        assert_eq!(
            error,
            "no old records are deleted while clocks differ: the clock of host far is 100 days behind the database's clock"
        );
        assert_eq!(left().await, "discarded, open");
    }

    #[tokio::test]
    async fn a_clock_that_jumped_is_not_trusted_for_a_week() {
        let database = Database::migrated().await;
        let store = database.store();
        let retention = Retention { executions: 90, dead_letters: 30 };
        let long_ago = Duration::from_hours(1);
        let now = store.moment().await.expect("the time");
        let mut steady = Steady(Some((now - long_ago, Instant::now() - long_ago)));
        let jump = "UPDATE installation SET clock_seen = clock_timestamp() + interval";
        for offset in ["2 hours", "-25 hours", "100 days", "-100 days"] {
            database
                .psql("UPDATE installation SET clock_seen = NULL, clock_before_jump = NULL, clock_after_jump = NULL")
                .await;
            tidy(store, retention, false, &mut steady).await.expect("a first look");
            database.psql(&format!("{jump} '{offset}'")).await;
            for _ in 0..2 {
                let error =
                    tidy(store, retention, false, &mut steady).await.expect_err("it jumped").to_string();
                assert!(error.starts_with("the database's clock moved from "), "{error}");
            }
            let day = "UPDATE installation SET clock_after_jump = clock_timestamp() - interval";
            database.psql(&format!("{day} '167 hours'")).await;
            tidy(store, retention, false, &mut steady).await.expect_err("a week is not over");
            database.psql(&format!("{day} '168 hours'")).await;
            tidy(store, retention, false, &mut steady).await.expect("it is over");
        }
        for offset in ["59 minutes", "-23 hours"] {
            database.psql(&format!("{jump} '{offset}'")).await;
            tidy(store, retention, false, &mut steady).await.expect("that is no jump");
        }
    }
}
