//! What a run publishes for later: retry copies, handovers and dead letters.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::{EventRun, RequeueReason};
use crate::{
    broker::{CopyOf, Deferred, NewDeadLetter, dead_letter, retry_copy},
    domain::{
        dead_letter::{DeadLetter, Reason, dead_letter_id, header_error},
        execution::Disposition,
        handler::{HandlerId, HandlerVersions, Status},
        outcome::{Failure, Outcome},
        plan::{Plan, Step},
    },
    store::StoreError,
    telemetry::metrics::dead_letter as count_dead_letter,
    worker::{attempt::Attempted, registry::Registered},
};

impl EventRun<'_> {
    /// Publishes a copy that runs the plan after `delay`, then the result that records the retry.
    pub(crate) async fn retry(
        &mut self,
        handler: &Registered,
        step: Step,
        attempted: Attempted,
        plan: &Plan,
        delay: Duration,
    ) -> Result<(), RequeueReason> {
        self.has_side_effects = true;
        // An attempt that was deferred for lack of a slot, a secret or a resource has not failed.
        let is_busy = matches!(attempted.outcome, Outcome::PutOff { is_failing: false, .. });
        let failed_now = (!is_busy).then_some(attempted.started_at);
        let first_failed_at = self.first_failed_at.or(failed_now);
        let retry_at = Timestamp::now() + delay;
        let run_id = format!("{}/{}", step.handler, plan.first_attempt().number());
        let is_put_off = matches!(attempted.outcome, Outcome::PutOff { .. });
        let put_off_in = is_put_off.then(|| Deferred { run_id: self.id.clone(), since: self.taken_at });
        self.publish_copy(plan, &run_id, delay, first_failed_at, put_off_in).await?;
        self.lane.meters.retried();
        self.record(handler, step, attempted, Disposition::Retrying, Some(retry_at)).await
    }

    /// Publishes a dead letter with `plan`, then the result that records it.
    pub(crate) async fn give_up(
        &mut self,
        handler: &Registered,
        step: Step,
        attempted: Attempted,
        plan: &Plan,
        reason: Reason,
    ) -> Result<(), RequeueReason> {
        self.has_side_effects = true;
        let error = attempted.error().unwrap_or_default();
        self.first_failed_at.get_or_insert(attempted.started_at);
        self.publish_dead_letter(self.letter(reason, error, Some(step.handler), step.attempt.number(), plan))
            .await?;
        if let Outcome::Failed { failure: Failure { gone: true, .. }, .. } = attempted.outcome {
            // Boxed to keep the future of every delivery small: this query hardly ever runs.
            Box::pin(self.disable_gone(handler)).await;
        }
        self.record(handler, step, attempted, Disposition::DeadLettered, None).await
    }

    /// Builds the dead letter for `plan`; `handler` is the one that failed, if known.
    pub(super) fn letter(
        &self,
        reason: Reason,
        error: &str,
        handler: Option<HandlerId>,
        attempts: u32,
        plan: &Plan,
    ) -> DeadLetter {
        let known = handler.map(|id| self.worker.registry.snapshot().handler_ref(id));
        DeadLetter {
            id: dead_letter_id(self.id.as_str(), handler, reason, &self.event.body),
            event_id: Some(self.event.id.to_string()),
            run_id: Some(self.id.to_string()),
            event_name: self.event.name.to_string(),
            object_id: Some(self.event.object_id.clone()),
            reason,
            error: header_error(error),
            handler_id: handler,
            handler_name: known.and_then(|known| known.name),
            attempts,
            plan: plan.handlers().collect(),
            plan_created: plan.created().collect(),
            first_failed_at: self.first_failed_at,
            died_at: Timestamp::now(),
            worker: Some(self.worker.id.clone()),
        }
    }

    /// Publishes a dead letter and waits for the confirm.
    pub(super) async fn publish_dead_letter(&self, letter: DeadLetter) -> Result<(), RequeueReason> {
        let body = self.event.body.clone();
        let burial = NewDeadLetter {
            letter: &letter,
            body,
            content_type: Some("application/json"),
            trace: &self.trace,
        };
        let outgoing = dead_letter(&self.worker.names, burial)?;
        self.worker.publishers.letters.publish(outgoing).await.confirmed().await?;
        count_dead_letter(&self.event.name, letter.reason);
        warn!(
            handler = letter.handler_id.map(|id| id.0),
            name = letter.handler_name.as_ref().map(tracing::field::display),
            reason = %letter.reason,
            error = letter.error,
            "gave up: published dead letter"
        );
        Ok(())
    }

    /// Publishes `step` and the rest of the plan as a copy that is delivered at once.
    ///
    /// During a drain, a delivery of which no handler has run is requeued instead.
    pub(crate) async fn hand_over(&mut self, step: Step) -> Result<(), RequeueReason> {
        if !self.has_side_effects && self.worker.draining.is_cancelled() {
            return Err(RequeueReason::NotStarted);
        }
        self.leave_open("the remaining handlers were handed over to another worker");
        let plan = self.plan.with_first(step);
        info!(%plan, "handing over the rest of the plan");
        let run_id = format!("handover/{}/{}", step.handler, step.attempt.number());
        self.publish_copy(&plan, &run_id, Duration::ZERO, self.first_failed_at, None).await
    }

    async fn publish_copy(
        &self,
        plan: &Plan,
        run_id: &str,
        delay: Duration,
        first_failed_at: Option<Timestamp>,
        put_off_in: Option<Deferred>,
    ) -> Result<(), RequeueReason> {
        let run_id = &self.id.next(run_id);
        let seen = &HandlerVersions::default();
        let (event, trace) = (&self.event, &self.trace);
        let copy = CopyOf { event, plan, run_id, first_failed_at, put_off_in, seen, trace };
        let outgoing = retry_copy(&self.worker.names, &copy, delay);
        Ok(self.worker.publishers.copies.publish(outgoing).await.confirmed().await?)
    }

    /// Disables a handler whose endpoint answered 410. If the database is away, the next 410 tries again.
    async fn disable_gone(&self, handler: &Registered) {
        let (id, version) = (handler.handler.id, Some(handler.handler.version));
        let (by, note) = ("provisiond", "its endpoint answered 410 Gone");
        match self.worker.store.set_handler_status(id, version, Status::Disabled, by, Some(note)).await {
            Ok(_) => warn!(handler = %id, "disabled handler: {note}"),
            // The handler was changed after the call: the 410 may not apply to its new version.
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                warn!(handler = %id, error, "cannot disable handler although {note}");
            }
        }
    }
}
