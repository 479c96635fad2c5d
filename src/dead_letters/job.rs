//! Runs a replay job: for each item in turn it claims the item, publishes its copy and settles it.
//!
//! The transaction of an item is committed after the broker has confirmed its copy. If the process is killed
//! in between, or the broker does not confirm, it is unknown whether this one item was sent. A resumed job
//! looks for it in the Execution Logs, and otherwise sends it marked as republished, so that the workers look
//! there too.

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

/// At the end of a job, wait for further first attempts while one ends at least this often.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How often to check whether the job was asked to stop, perhaps through another process.
const STATE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// A job that is behind its rate catches up for at most this much time.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(100);

/// The progress of a replay job.
#[derive(Clone, Copy, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Progress {
    pub total: u64,
    /// Items that no longer wait: replayed, refused or passed over.
    pub settled: u64,
    pub first_attempts: u64,
    pub failed: u64,
}

/// The result of one run of a job.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub replay: Replay,
    /// First attempts of this run that ended, those of them that failed, and replayed runs without a result
    /// yet.
    pub first_attempts: u64,
    pub failed: u64,
    pub unheard: u64,
    /// Why items were refused, and how often; the most frequent first.
    pub refusals: Vec<Refusal>,
}

/// Limits the rate: when the next item may be sent.
struct Pace {
    step: Duration,
    due: Instant,
}

impl DeadLetters {
    /// Runs a job to its end, or until `stop`, or until too many first attempts fail.
    ///
    /// A job that ends early can be resumed. `is_resumed`: the job ran before.
    ///
    /// # Errors
    /// If another process runs the job, or the broker or Postgres is lost. The job can be resumed then.
    pub async fn run_replay(
        &self,
        id: i64,
        is_resumed: bool,
        stop: &CancellationToken,
        mut progress: impl FnMut(&Progress),
    ) -> anyhow::Result<Report> {
        let mut run = self.store.run_replay(id).await?;
        let result = self.drive(&mut run, is_resumed, stop, &mut progress).await;
        let (watch, why) = match result {
            Ok(result) => result,
            Err(error) => {
                // Only possible if the database is there. If not, the job stays in the state running, but no
                // process runs it.
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

    /// Sends the items of a job. Returns why it stopped before its end, if it did.
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
        let (mut checked_at, mut may_be_sent) = (Instant::now(), is_resumed);
        let why = loop {
            (now.first_attempts, now.failed, _) = watch.counts();
            progress(&now);
            if let Some((failed, total)) = watch.too_many_failures(run.job.max_failures) {
                break Some(format!("{failed} of the latest {total} first attempts failed"));
            }
            if checked_at.elapsed() >= STATE_POLL_INTERVAL {
                checked_at = Instant::now();
                if let Some(by) = run.stop_asked_by().await? {
                    break Some(format!("stopped by {by}"));
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break Some(stop_reason(run).await),
                () = pace.wait() => {}
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
                pace.advance();
            }
            run.settle(&settled).await?;
            now.settled += 1;
        };
        if why.is_none() {
            wait_for_last_attempts(&watch, stop).await;
        }
        Ok((watch, why))
    }

    /// Publishes the copy of an item. `may_be_sent`: an earlier run of this job ended while it sent this
    /// item.
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
                 (see provisiond executions list --event-id {id}); it does not run twice if you resume the replay"
            )
        })?;
        Ok(Settled::Replayed(item.edited.then(|| format!("edited: its new event id is {}", event.id))))
    }
}

/// Says who asked the job to stop, if that is recorded.
async fn stop_reason(run: &mut ReplayRun) -> String {
    let by = run.stop_asked_by().await.ok().flatten();
    by.map_or_else(|| "asked to stop".to_owned(), |by| format!("stopped by {by}"))
}

/// Waits for the first attempts of the last items, while some still end.
async fn wait_for_last_attempts(watch: &Watch, stop: &CancellationToken) {
    let (mut counts, mut since) = (watch.counts(), Instant::now());
    while counts.2 > 0 && since.elapsed() < SHUTDOWN_TIMEOUT && !stop.is_cancelled() {
        sleep(POLL_INTERVAL).await;
        let now = watch.counts();
        if now != counts {
            (counts, since) = (now, Instant::now());
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

    async fn wait(&self) {
        sleep_until(self.due).await;
    }

    fn advance(&mut self) {
        let earliest = Instant::now().checked_sub(CATCH_UP_INTERVAL).unwrap_or(self.due);
        self.due = self.due.max(earliest) + self.step;
    }
}
