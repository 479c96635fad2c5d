//! The results that a run publishes for the Execution Logs.

use jiff::Timestamp;
use serde_json::value::RawValue;
use tracing::warn;
use uuid::Uuid;

use super::{EventRun, RequeueReason};
use crate::{
    broker::result,
    domain::{
        execution::{Disposition, EventRef, Execution, HandlerRef},
        outcome::{Outcome, Response},
        plan::{Plan, Step},
        reply::NamedHandler,
        trace::Trace,
        verdict::Verdict,
    },
    telemetry::metrics::skip,
    worker::{attempt::Attempted, registry::Registered},
};

impl Attempted {
    pub(crate) fn error(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Succeeded { .. } => None,
            Outcome::Forbidden { reason, .. } => Some(reason),
            Outcome::Failed { failure, .. } => Some(&failure.error),
            Outcome::PutOff { error, .. } => Some(error),
        }
    }

    fn into_response(self) -> Option<Response> {
        match self.outcome {
            Outcome::Succeeded { response, .. } | Outcome::Forbidden { response, .. } => Some(response),
            Outcome::Failed { response, .. } => response,
            Outcome::PutOff { .. } => None,
        }
    }
}

impl EventRun<'_> {
    /// Records a handler that allowed the event, changed it for the handlers after it, or forbade it.
    pub(crate) async fn record_ended(
        &mut self,
        handler: &Registered,
        step: Step,
        mut attempted: Attempted,
    ) -> Result<(), RequeueReason> {
        self.has_side_effects = true;
        let trace = attempted.trace.take();
        match std::mem::replace(&mut attempted.verdict, Verdict::Allow) {
            Verdict::Allow => {
                let execution = self.execution_of(handler, step, attempted, Disposition::Done)?;
                self.publish_record(&execution, trace).await
            }
            Verdict::Modify(body) => {
                let mut execution = self.execution_of(handler, step, attempted, Disposition::Done)?;
                execution.modified = true;
                self.publish_record(&execution, trace).await?;
                self.event.body = body;
                Ok(())
            }
            Verdict::Forbid { reason } => {
                let mut execution = self.execution_of(handler, step, attempted, Disposition::Forbidden)?;
                execution.error = Some(reason);
                self.publish_record(&execution, trace).await?;
                let rest = std::mem::replace(&mut self.plan, Plan::new([]));
                for id in rest.handlers() {
                    let known = self.worker.registry.snapshot().handler_ref(id);
                    self.record_passed(Some(known), 0, Disposition::NotReached).await?;
                }
                Ok(())
            }
        }
    }

    /// Records an event without an enabled handler (`worker.record_unhandled`).
    pub(crate) async fn record_unhandled(&mut self) -> Result<(), RequeueReason> {
        if !self.worker.record_unhandled {
            return Ok(());
        }
        self.record_passed(None, 0, Disposition::NoHandler).await
    }

    /// Records that the publisher gets no reply although the event ran.
    pub(super) async fn record_unanswered(&mut self, why: String) -> Result<(), RequeueReason> {
        let mut execution = self.blank(Disposition::NotAnswered)?;
        execution.error = Some(why);
        self.publish_record(&execution, None).await
    }

    /// Records a planned handler that is not enabled for this event any more.
    pub(crate) async fn record_skipped(&mut self, step: Step) -> Result<(), RequeueReason> {
        self.has_side_effects = true;
        let known = self.worker.registry.snapshot().handler_ref(step.handler);
        self.record_passed(Some(known), step.attempt.number(), Disposition::HandlerOff).await
    }

    /// Records that a planned handler is skipped because another handler has its id now. That handler must
    /// not get an event that was not planned for it.
    pub(crate) async fn record_another(&mut self, step: Step) -> Result<(), RequeueReason> {
        self.has_side_effects = true;
        let error = format!(
            "handler {} is not the handler that was planned; that one no longer exists: was the database restored from a backup?",
            step.handler
        );
        warn!(error, "skipped handler");
        let mut execution = self.blank(Disposition::HandlerOff)?;
        execution.attempt = step.attempt.number();
        execution.error = Some(error);
        skip(&self.event.name, Disposition::HandlerOff);
        self.publish_record(&execution, None).await
    }

    pub(super) async fn record(
        &mut self,
        handler: &Registered,
        step: Step,
        mut attempted: Attempted,
        disposition: Disposition,
        retry_at: Option<Timestamp>,
    ) -> Result<(), RequeueReason> {
        let trace = attempted.trace.take();
        let mut execution = self.execution_of(handler, step, attempted, disposition)?;
        execution.retry_at = retry_at;
        self.publish_record(&execution, trace).await
    }

    fn execution_of(
        &self,
        handler: &Registered,
        step: Step,
        attempted: Attempted,
        disposition: Disposition,
    ) -> Result<Execution, RequeueReason> {
        let mut execution = self.blank(disposition)?;
        execution.handler = Some(HandlerRef::from(&handler.handler));
        execution.attempt = step.attempt.number();
        execution.max_attempts = handler.policy.max_attempts;
        execution.error = attempted.error().map(str::to_owned);
        execution.started_at = attempted.started_at;
        execution.duration_ms = u64::try_from(attempted.duration.as_millis()).unwrap_or(u64::MAX);
        execution.response = attempted.into_response();
        Ok(execution)
    }

    pub(super) async fn record_passed(
        &mut self,
        handler: Option<HandlerRef>,
        attempt: u32,
        disposition: Disposition,
    ) -> Result<(), RequeueReason> {
        let mut execution = self.blank(disposition)?;
        execution.handler = handler;
        execution.attempt = attempt;
        skip(&self.event.name, disposition);
        self.publish_record(&execution, None).await
    }

    fn blank(&self, disposition: Disposition) -> Result<Execution, RequeueReason> {
        let request = String::from_utf8(self.event.body.to_vec()).map_err(anyhow::Error::from)?;
        Ok(Execution {
            id: Uuid::now_v7(),
            event: EventRef::from(&self.event),
            run_id: self.id.clone(),
            handler: None,
            attempt: 0,
            max_attempts: 0,
            status: disposition.status(),
            disposition,
            error: None,
            request: RawValue::from_string(request).map_err(anyhow::Error::from)?,
            response: None,
            modified: false,
            retry_at: None,
            started_at: Timestamp::now(),
            duration_ms: 0,
            worker: self.worker.id.clone(),
            trace_id: self.trace.id().map(str::to_owned),
        })
    }

    /// Publishes a result without waiting: all confirms are awaited together before the acknowledgement.
    /// `trace` is the attempt's trace context; without it the result carries the event's.
    async fn publish_record(
        &mut self,
        execution: &Execution,
        trace: Option<Trace>,
    ) -> Result<(), RequeueReason> {
        if let Some(asked) = &mut self.asked {
            let share = execution.handler.as_ref().map(|h| NamedHandler { id: h.id, name: h.name.clone() });
            asked.builder.note(share, execution.disposition, execution.error.as_deref());
        }
        let outgoing = result(&self.worker.names, execution, trace.as_ref().unwrap_or(&self.trace))?;
        self.unconfirmed.push(self.worker.publishers.results.publish(outgoing).await);
        Ok(())
    }
}
