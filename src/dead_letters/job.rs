//! Running a replay job: claim, publish, settle, one item after the other.
//!
//! Each item's transaction is committed when the broker has confirmed its copy. A process that is killed between the two, or
//! a broker that does not confirm, leaves that one item, and no other, of which nobody knows whether it was sent. Who
//! resumes looks for it in the Execution Logs, and sends it as one that may come twice: workers look there, too.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    DeadLetters,
    prepare::{Prepared, prepare},
    watch::Watch,
};
use crate::{
    broker::{CopyOf, OneByOne, mark_republished, retry_copy},
    domain::replay::JobState,
    store::{ClaimedItem, Refusal, Replay, ReplayItem, ReplayRun, Settled},
};

/// After the last one was sent, its first attempt is waited for while others end within this.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Whether another process was asked to stop this job.
const STATE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// A job that fell behind its rate does not make up for more than this.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(100);

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Progress {
    pub total: u64,
    /// Items with which it is done, whatever became of them.
    pub settled: u64,
    pub first_attempts: u64,
    pub failed: u64,
}

/// What came of a run of a job.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub replay: Replay,
    /// Of what this run replayed: first attempts that ended, those that failed, and runs still unheard of.
    pub first_attempts: u64,
    pub failed: u64,
    pub unheard: u64,
    /// What was refused and how often, the most frequent first.
    pub refusals: Vec<Refusal>,
}

/// The next moment at which something may be sent.
struct Pace {
    step: Duration,
    due: Instant,
}

impl DeadLetters {
    /// Runs a job to its end, or until `stop`, or until too many first attempts fail. Whatever ends it
    /// early, it can be resumed; `is_resumed` says that it ran before.
    ///
    /// # Errors
    /// If somebody else runs it; if the broker or Postgres is lost: the job can be resumed.
    pub async fn run_replay(
        &self,
        id: i64,
        is_resumed: bool,
        stop: &CancellationToken,
        mut progress: impl FnMut(&Progress),
    ) -> anyhow::Result<Report> {
        let mut run = self.store.run_replay(id).await?;
        let driven = self.drive(&mut run, is_resumed, stop, &mut progress).await;
        let (watch, why) = match driven {
            Ok(driven) => driven,
            Err(error) => {
                // As far as the database is there; if not, the job is found running without a runner.
                let _ = run.release().await;
                let _ = run.end(JobState::Stopped, Some(&format!("{error:#}"))).await;
                return Err(error);
            }
        };
        let state = if why.is_some() { JobState::Stopped } else { JobState::Finished };
        let replay = run.end(state, why.as_deref()).await?;
        let (first_attempts, failed, unheard) = watch.counts();
        Ok(Report { refusals: self.store.refusals(id).await?, replay, first_attempts, failed, unheard })
    }

    /// Gives why it stopped before its end, if it did.
    async fn drive(
        &self,
        run: &mut ReplayRun,
        is_resumed: bool,
        stop: &CancellationToken,
        progress: &mut impl FnMut(&Progress),
    ) -> anyhow::Result<(Watch, Option<String>)> {
        let connection = self.broker.dial_for(self.store.installation().await?, "replay").await?;
        let watch = Watch::open(&connection, &self.broker.topology.names, &run.events().await?).await?;
        let mut publisher = OneByOne::open(&connection).await?;
        let mut pace = Pace::new(run.job.rate);
        let mut now = Progress { total: count(run.job.counts.total()), ..Progress::default() };
        now.settled = now.total - count(run.job.counts.waiting);
        let (mut asked_at, mut may_be_sent) = (Instant::now(), is_resumed);
        let why = loop {
            (now.first_attempts, now.failed, _) = watch.counts();
            progress(&now);
            if let Some((failed, of)) = watch.too_many_failures(run.job.max_failures) {
                break Some(format!("{failed} of the latest {of} first attempts failed"));
            }
            if asked_at.elapsed() >= STATE_POLL_INTERVAL {
                asked_at = Instant::now();
                if let Some(by) = run.stop_asked_by().await? {
                    break Some(format!("stopped by {by}"));
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break Some(stopped(run).await),
                () = pace.turn() => {}
            }
            let settled = match run.next().await? {
                None => break None,
                Some(ClaimedItem::Pass(why)) => Settled::Passed(why),
                Some(ClaimedItem::Refuse(why)) => Settled::Refused(why),
                Some(ClaimedItem::Replay(item)) => {
                    let may_be_sent = std::mem::take(&mut may_be_sent);
                    self.send(&mut publisher, &watch, &item, may_be_sent).await?
                }
            };
            if matches!(settled, Settled::Replayed(_)) {
                pace.took_turn();
            }
            run.settle(&settled).await?;
            now.settled += 1;
        };
        if why.is_none() {
            last_words(&watch, stop).await;
        }
        Ok((watch, why))
    }

    /// `may_be_sent`: it was in hand when an earlier run of this job ended.
    async fn send(
        &self,
        publisher: &mut OneByOne,
        watch: &Watch,
        item: &ReplayItem,
        may_be_sent: bool,
    ) -> anyhow::Result<Settled> {
        let Prepared { event, plan, run_id } = match prepare(item, self.max_event_bytes) {
            Ok(prepared) => prepared,
            Err(why) => return Ok(Settled::Refused(why)),
        };
        if may_be_sent && self.store.is_recorded(&event.id, &run_id).await? {
            return Ok(Settled::Replayed(Some("it was sent before the replay was interrupted".to_owned())));
        }
        watch.expect(run_id.clone());
        let copy = CopyOf {
            event: &event,
            plan: &plan,
            run_id: &run_id,
            first_failed_at: None,
            put_off_in: None,
            seen: &item.enabled,
            trace: &item.trace,
        };
        let outgoing = retry_copy(&self.broker.topology.names, &copy, Duration::ZERO);
        let sent = publisher.publish(if may_be_sent { mark_republished(outgoing) } else { outgoing }).await;
        sent.with_context(|| {
            let id = &event.id;
            format!(
                "the broker did not confirm the replay of event {id}, which may still run \
                 (provisiond executions list --event-id {id}; whoever resumes does not run it twice)"
            )
        })?;
        Ok(Settled::Replayed(item.edited.then(|| format!("edited, as event {}", event.id))))
    }
}

/// Who asked, if it is written down.
async fn stopped(run: &mut ReplayRun) -> String {
    let by = run.stop_asked_by().await.ok().flatten();
    by.map_or_else(|| "asked to stop".to_owned(), |by| format!("stopped by {by}"))
}

/// Waits for the first attempts of what was sent last, while some still end.
async fn last_words(watch: &Watch, stop: &CancellationToken) {
    let (mut heard, mut since) = (watch.counts(), Instant::now());
    while heard.2 > 0 && since.elapsed() < SHUTDOWN_TIMEOUT && !stop.is_cancelled() {
        sleep(POLL_INTERVAL).await;
        let now = watch.counts();
        if now != heard {
            (heard, since) = (now, Instant::now());
        }
    }
}

fn count(items: i64) -> u64 {
    u64::try_from(items).unwrap_or_default()
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self { step: Duration::from_secs(1) / rate.max(1), due: Instant::now() }
    }

    async fn turn(&self) {
        sleep_until(self.due).await;
    }

    fn took_turn(&mut self) {
        let earliest = Instant::now().checked_sub(CATCH_UP_INTERVAL).unwrap_or(self.due);
        self.due = self.due.max(earliest) + self.step;
    }
}
