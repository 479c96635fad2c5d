//! Decides whether and when a delivery may run.
//!
//! It checks three things: whether the run was delivered before, whether the event was published twice, and
//! whether the event may crash workers.

mod batched;
mod inbox;
mod running;
mod suspects;

use std::time::Duration;

use jiff::Timestamp;
use tokio::{sync::SemaphorePermit, time::timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{event_run::EventRun, requeue::RequeueReason};
use crate::{
    broker::Delivery,
    domain::{execution::Disposition, resume::Recorded},
    store::{RunKey, Store},
};
use batched::Batched;
use inbox::Inbox;
use running::{Running, UnderWay};
use suspects::{SuspectPermit, Suspects};

/// How long to wait before the Execution Logs are read: the recorder needs time to insert recent results.
const RECORDING_DELAY: Duration = Duration::from_secs(1);
/// How many runs one query looks up.
const BATCH: usize = 500;

/// The checks that a delivery passes before it runs.
pub(super) struct Admission {
    running: Running,
    recorded: Batched<RunKey, Vec<Recorded>>,
    inbox: Option<Inbox>,
    suspects: Suspects,
}

/// Permission to run a delivery, valid until it is dropped.
pub(super) struct Admitted<'a> {
    _under_way: UnderWay<'a>,
    _suspect_permit: Option<SuspectPermit<'a>>,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Admission {
    /// `deduplicate`: how long the inbox remembers an event; None: no deduplication. `tasks`: tracks the
    /// tasks that must end before the process does.
    pub(super) fn new(
        store: &Store,
        deduplicate: Option<Duration>,
        crash_limit: u32,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let query_store = store.clone();
        let recorded = move |runs: Vec<RunKey>| {
            let store = query_store.clone();
            async move {
                let mut rows = store.recorded(&runs).await?;
                Ok(runs.iter().map(|run| rows.remove(run).unwrap_or_default()).collect())
            }
        };
        Self {
            running: Running::default(),
            recorded: Batched::start(BATCH, "running all handlers of redelivered events again", recorded),
            inbox: deduplicate.map(|window| Inbox::start(store, window, stop.clone())),
            suspects: Suspects::new(store, crash_limit, tasks),
        }
    }

    /// Waits until `run` may start, and removes the handlers that have already ended from its plan. None: nothing
    /// is left to run.
    pub(super) async fn admit<'a>(
        &'a self,
        run: &mut EventRun<'a>,
        delivery: &Delivery,
    ) -> Result<Option<Admitted<'a>>, RequeueReason> {
        let queue = run.queue;
        let _waiting = queue.wait();
        let (under_way, earlier) = self.running.begin(&run.id);
        // Also done while draining: once the earlier delivery has ended it takes a second or two, and most
        // redeliveries have nothing left to run.
        if run.is_redelivery && !run.resume(self.history(run, &earlier).await).await? {
            return Ok(None);
        }
        if let Some(deferred) = run.put_off_in.clone() {
            // Another worker may have got the same delivery when this attempt was deferred. It ran the handler in
            // that run, or deferred it as well: then its copy has the same run id as this one. So look up both
            // runs.
            let key = (run.event.id.clone(), deferred.run_id);
            let (deferring_rows, own_rows) =
                tokio::join!(self.ended(key, deferred.since), self.ended(run.key(), deferred.since));
            if !run.resume(Some([deferring_rows, own_rows].concat())).await? {
                return Ok(None);
            }
        }
        if let Some(inbox) = &self.inbox
            && run.may_be_duplicate()
            && inbox.is_duplicate(&run.event).await
            && !run.is_redelivery
        {
            run.record_duplicate().await?;
            return Ok(None);
        }
        let ready = async {
            let is_suspect = suspects::is_suspect(delivery) && !run.plan.is_empty();
            let suspect_permit = if is_suspect { Some(self.suspects.permit(run.key()).await) } else { None };
            (suspect_permit, queue.permits.acquire().await.ok())
        };
        // At the deadline, continue without a permit: `run_plan` then hands over the plan and starts no handler.
        let ready = tokio::select! {
            biased;
            () = run.context.draining.cancelled() => return Err(RequeueReason::NotStarted),
            ready = timeout_at(run.deadline().into(), ready) => ready,
        };
        let (suspect_permit, permit) = ready.unwrap_or_default();
        if let Some(starts) = suspect_permit.as_ref().and_then(|permit| permit.too_many_starts) {
            run.give_up_crashing(starts).await?;
            return Ok(None);
        }
        Ok(Some(Admitted { _under_way: under_way, _suspect_permit: suspect_permit, _permit: permit }))
    }

    /// Returns what other deliveries of `run` have recorded since this one was received.
    pub(super) async fn ended_meanwhile(&self, run: &EventRun<'_>) -> Vec<Recorded> {
        run.own_rows(self.ended(run.key(), run.received_at).await)
    }

    /// Waits for the earlier deliveries of `run` and for the recorder, then reads what is recorded of the run.
    /// None: the database did not answer.
    async fn history(&self, run: &EventRun<'_>, earlier: &[CancellationToken]) -> Option<Vec<Recorded>> {
        for delivery in earlier {
            delivery.cancelled().await;
        }
        tokio::time::sleep(RECORDING_DELAY).await;
        self.recorded.query(run.key()).await
    }

    /// Returns the records of handlers that started at or after `since` in `run` and ended. Empty if the
    /// database does not answer.
    ///
    /// Rows with the disposition `retrying` are left out, because a deferred attempt has such a row as well.
    /// Rows from before `since` belong to an earlier event with the same id.
    async fn ended(&self, run: RunKey, since: Timestamp) -> Vec<Recorded> {
        let mut recorded = self.recorded.query(run).await.unwrap_or_default();
        recorded.retain(|row| row.disposition != Disposition::Retrying && row.started_at >= since);
        recorded
    }
}
