//! One run of an event: the rest of its plan, and what is published for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    attempted::Attempted,
    malformed::MalformedDelivery,
    outbox::Outbox,
    queue_state::QueueState,
    registry::{Registered, Registry},
    reply_request::ReplyRequest,
    requeue::RequeueReason,
};
use crate::{
    broker::{Confirm, CopyOf, Deferred, Delivery, MAX_HEADER_BYTES, MessageMeta, NewDeadLetter, retry_of},
    domain::{
        dead_letter::{DeadLetter, Reason, dead_letter_id, header_error},
        event::{Arrival, Event, Malformed, RunId, decode},
        execution::{Disposition, EventRef, Execution, HandlerRef},
        handler::{HandlerId, HandlerVersions, Mode, OnFailure, Status},
        outcome::{Failure, Outcome},
        plan::{LONGEST_RUN, Plan, Step},
        resume::{Recorded, Resumption, of_this_event, resume},
        trace::Trace,
        verdict::Verdict,
    },
    status_reporter::StatusReporter,
    store::{RunKey, Store, StoreError},
    telemetry::metrics::{DeliveryKind, dead_letter as count_dead_letter, skip},
    telemetry::traces::{Span, Traces},
};

/// What all runs of a worker share.
pub(super) struct RunContext {
    pub outbox: Outbox,
    pub registry: Arc<Registry>,
    pub store: Store,
    pub status_reporter: Arc<StatusReporter>,
    pub traces: Option<Traces>,
    /// Cancelled when a shutdown begins: no further handler starts.
    pub draining: CancellationToken,
    pub max_event_bytes: usize,
    pub record_unhandled: bool,
}

/// The state of a run while the worker handles one delivery of it.
pub(super) struct EventRun<'a> {
    pub context: &'a RunContext,
    pub queue: &'a QueueState,
    pub event: Event,
    pub id: RunId,
    pub plan: Plan,
    /// The trace context of the publisher, or of a new span if the event came without one.
    pub trace: Trace,
    /// The span for an event that came without a trace context. It ends when this is dropped.
    _span: Option<Span>,
    first_failed_at: Option<Timestamp>,
    /// The message is the one that the platform published, not a copy that provisiond published.
    is_first: bool,
    /// Its handlers may have run already: the message was delivered before, or the copy was published again.
    pub is_redelivery: bool,
    /// The run that deferred the attempt of this copy. Another worker may have got a delivery of that run as
    /// well, and finished the handler.
    pub put_off_in: Option<Deferred>,
    /// When the worker received this delivery.
    pub received_at: Timestamp,
    started: Instant,
    /// Whether this delivery ran or skipped a handler. From then on a drain hands over the rest of the plan
    /// and does not simply requeue the delivery.
    has_side_effects: bool,
    unconfirmed: Vec<Confirm>,
    reply_request: Option<ReplyRequest>,
}

impl<'a> EventRun<'a> {
    pub(super) fn open(
        context: &'a RunContext,
        queue: &'a QueueState,
        delivery: &Delivery,
    ) -> Result<Self, Box<MalformedDelivery>> {
        let name = &queue.event;
        let meta = MessageMeta::of(delivery);
        let malformed = |why, meta| Box::new(MalformedDelivery { name: name.clone(), meta, why });
        let copy = retry_of(delivery, &context.outbox.names).map_err(Malformed);
        let copy = match copy.and_then(|copy| check_headers(&meta, copy.is_some()).map(|()| copy)) {
            Ok(copy) => copy,
            Err(why) => return Err(malformed(why, meta)),
        };
        let arrival = Arrival {
            name,
            content_type: meta.content_type.as_deref(),
            content_encoding: meta.content_encoding.as_deref(),
            message_id: meta.message_id.as_deref(),
            timestamp: meta.timestamp,
            body: &delivery.body,
            known_id: copy.as_ref().map(|copy| &copy.event_id),
        };
        let event = match decode(&arrival, context.max_event_bytes) {
            Ok(event) => event,
            Err(why) => return Err(malformed(why, meta)),
        };
        let first_failed_at = copy.as_ref().and_then(|copy| copy.first_failed_at);
        let is_first = copy.is_none();
        let is_redelivery = delivery.redelivered || copy.as_ref().is_some_and(|copy| copy.is_again);
        let (id, plan, put_off_in) = match copy {
            Some(copy) => (copy.run_id, copy.plan, copy.put_off_in),
            None => (RunId::from(event.id.clone()), None, None),
        };
        let snapshot = context.registry.snapshot();
        let plan = plan.unwrap_or_else(|| snapshot.plan(name));
        let span = context
            .traces
            .as_ref()
            .and_then(|traces| traces.begin(&meta.trace, &event, &context.outbox.names.event_queue(name)));
        let trace = span.as_ref().map_or_else(|| meta.trace.clone(), |span| span.trace().clone());
        let reply_request = if is_first { ReplyRequest::of(&meta, &plan, &snapshot, name) } else { None };
        Ok(Self {
            context,
            queue,
            event,
            id,
            plan,
            trace,
            _span: span,
            first_failed_at,
            is_first,
            is_redelivery,
            put_off_in,
            received_at: Timestamp::now(),
            started: Instant::now(),
            has_side_effects: false,
            unconfirmed: Vec::new(),
            reply_request,
        })
    }

    /// Counts the delivery in the metrics. Called after it was decoded successfully.
    pub(super) fn count_arrival(&self, delivery: &Delivery) {
        let kind = match (delivery.redelivered, self.is_first) {
            (true, _) => DeliveryKind::Redelivered,
            (false, false) => DeliveryKind::Copy,
            (false, true) => DeliveryKind::First,
        };
        self.queue.meters.delivered(kind);
        if let DeliveryKind::First = kind {
            self.context.status_reporter.count_event(&self.event.name);
            // The publisher's clock may be ahead: then the wait is zero.
            let since = Timestamp::now().duration_since(self.event.dt);
            self.queue.meters.waited(since.try_into().unwrap_or_default());
        }
    }

    /// The key of this run in the database.
    pub(super) fn key(&self) -> RunKey {
        (self.event.id.clone(), self.id.clone())
    }

    /// Takes the next step from the plan.
    pub(super) fn next_step(&mut self) -> Option<Step> {
        if self.has_side_effects {
            // A copy carries the time of the first failure for the first handler of its plan only, like the
            // attempt number.
            self.first_failed_at = None;
        }
        self.plan.take_next()
    }

    /// How long ago the handler of this step failed first; zero if it has not failed.
    pub(super) fn failing_for(&self) -> Duration {
        let since = self.first_failed_at.map(|at| Timestamp::now().duration_since(at));
        // If the clock was set back, the difference is negative: use zero.
        since.and_then(|so_far| so_far.try_into().ok()).unwrap_or_default()
    }

    /// Whether this delivery must not start another handler, because of a drain or its deadline.
    pub(super) fn must_end(&self) -> bool {
        self.context.draining.is_cancelled() || Instant::now() >= self.deadline()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.started + LONGEST_RUN
    }

    /// Waits until the broker has confirmed every result of this run. Copies and dead letters are confirmed
    /// when they are published.
    pub(super) async fn confirmed(self) -> Result<(), RequeueReason> {
        try_join_all(self.unconfirmed.into_iter().map(Confirm::confirmed)).await?;
        Ok(())
    }
}

/// Retries, dead letters and handovers.
impl EventRun<'_> {
    /// Publishes a copy that runs the plan after `delay`, then the result that records the retry.
    pub(super) async fn retry(
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
        let put_off_in = is_put_off.then(|| Deferred { run_id: self.id.clone(), since: self.received_at });
        self.publish_copy(plan, &run_id, delay, first_failed_at, put_off_in).await?;
        self.queue.meters.retried();
        self.record(handler, step, attempted, Disposition::Retrying, Some(retry_at)).await
    }

    /// Publishes a dead letter with `plan`, then the result that records it.
    pub(super) async fn give_up(
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
        self.publish_dead_letter(self.dead_letter_of(
            reason,
            error,
            Some(step.handler),
            step.attempt.number(),
            plan,
        ))
        .await?;
        if let Outcome::Failed { failure: Failure { gone: true, .. }, .. } = attempted.outcome {
            // Boxed to keep the future of every delivery small: this query hardly ever runs.
            Box::pin(self.disable_gone(handler)).await;
        }
        self.record(handler, step, attempted, Disposition::DeadLettered, None).await
    }

    /// Builds the dead letter for `plan`; `handler` is the one that failed, if known.
    fn dead_letter_of(
        &self,
        reason: Reason,
        error: &str,
        handler: Option<HandlerId>,
        attempts: u32,
        plan: &Plan,
    ) -> DeadLetter {
        let known = handler.map(|id| self.context.registry.snapshot().handler_ref(id));
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
            worker: Some(self.context.outbox.worker.clone()),
        }
    }

    /// Publishes a dead letter and waits for the confirm.
    async fn publish_dead_letter(&self, dead_letter: DeadLetter) -> Result<(), RequeueReason> {
        let body = self.event.body.clone();
        let content_type = Some("application/json");
        let message = NewDeadLetter { letter: &dead_letter, body, content_type, trace: &self.trace };
        self.context.outbox.publish_dead_letter(message).await?;
        count_dead_letter(&self.event.name, dead_letter.reason);
        warn!(
            handler = dead_letter.handler_id.map(|id| id.0),
            name = dead_letter.handler_name.as_ref().map(tracing::field::display),
            reason = %dead_letter.reason,
            error = dead_letter.error,
            "gave up: published dead letter"
        );
        Ok(())
    }

    /// Publishes `step` and the rest of the plan as a copy that is delivered at once.
    ///
    /// During a drain, a delivery of which no handler has run is requeued instead.
    pub(super) async fn hand_over(&mut self, step: Step) -> Result<(), RequeueReason> {
        if !self.has_side_effects && self.context.draining.is_cancelled() {
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
        self.context.outbox.publish_copy(&copy, delay).await
    }

    /// Disables a handler whose endpoint answered 410. If the database is away, the next 410 tries again.
    async fn disable_gone(&self, handler: &Registered) {
        let (id, version) = (handler.handler.id, Some(handler.handler.version));
        let (by, note) = ("provisiond", "its endpoint answered 410 Gone");
        match self.context.store.set_handler_status(id, version, Status::Disabled, by, Some(note)).await {
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

/// Results for the Execution Logs.
impl EventRun<'_> {
    /// Records a handler that allowed the event, changed it for the handlers after it, or forbade it.
    pub(super) async fn record_ended(
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
                    let known = self.context.registry.snapshot().handler_ref(id);
                    self.record_without_attempt(Some(known), 0, Disposition::NotReached).await?;
                }
                Ok(())
            }
        }
    }

    /// Records an event without an enabled handler (`worker.record_unhandled`).
    pub(super) async fn record_unhandled(&mut self) -> Result<(), RequeueReason> {
        if !self.context.record_unhandled {
            return Ok(());
        }
        self.record_without_attempt(None, 0, Disposition::NoHandler).await
    }

    /// Records that the publisher gets no reply although the event ran.
    async fn record_unanswered(&mut self, why: String) -> Result<(), RequeueReason> {
        let mut execution = self.new_execution(Disposition::NotAnswered)?;
        execution.error = Some(why);
        self.publish_record(&execution, None).await
    }

    /// Records a planned handler that is not enabled for this event any more.
    pub(super) async fn record_skipped(&mut self, step: Step) -> Result<(), RequeueReason> {
        self.has_side_effects = true;
        let known = self.context.registry.snapshot().handler_ref(step.handler);
        self.record_without_attempt(Some(known), step.attempt.number(), Disposition::HandlerOff).await
    }

    /// Records that a planned handler is skipped because another handler has its id now. That handler must
    /// not get an event that was not planned for it.
    pub(super) async fn record_replaced(&mut self, step: Step) -> Result<(), RequeueReason> {
        self.has_side_effects = true;
        let error = format!(
            "handler {} is not the handler that was planned; that one no longer exists: was the database restored from a backup?",
            step.handler
        );
        warn!(error, "skipped handler");
        let mut execution = self.new_execution(Disposition::HandlerOff)?;
        execution.attempt = step.attempt.number();
        execution.error = Some(error);
        skip(&self.event.name, Disposition::HandlerOff);
        self.publish_record(&execution, None).await
    }

    async fn record(
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
        let mut execution = self.new_execution(disposition)?;
        execution.handler = Some(HandlerRef::from(&handler.handler));
        execution.attempt = step.attempt.number();
        execution.max_attempts = handler.policy.max_attempts;
        execution.error = attempted.error().map(str::to_owned);
        execution.started_at = attempted.started_at;
        execution.duration_ms = attempted.duration_ms();
        execution.response = attempted.into_response();
        Ok(execution)
    }

    async fn record_without_attempt(
        &mut self,
        handler: Option<HandlerRef>,
        attempt: u32,
        disposition: Disposition,
    ) -> Result<(), RequeueReason> {
        let mut execution = self.new_execution(disposition)?;
        execution.handler = handler;
        execution.attempt = attempt;
        skip(&self.event.name, disposition);
        self.publish_record(&execution, None).await
    }

    fn new_execution(&self, disposition: Disposition) -> Result<Execution, RequeueReason> {
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
            worker: self.context.outbox.worker.clone(),
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
        if let Some(request) = &mut self.reply_request {
            request.note(execution.handler.as_ref(), execution.disposition, execution.error.as_deref());
        }
        let trace = trace.as_ref().unwrap_or(&self.trace);
        self.unconfirmed.push(self.context.outbox.publish_result(execution, trace).await?);
        Ok(())
    }
}

/// Runs that were delivered before, were published twice, or crash workers.
impl EventRun<'_> {
    /// Removes the handlers from the plan that are `recorded` for this run (None: unknown). False if nothing
    /// is left.
    pub(super) async fn resume(&mut self, recorded: Option<Vec<Recorded>>) -> Result<bool, RequeueReason> {
        let recorded = self.own_rows(recorded.unwrap_or_default());
        let snapshot = self.context.registry.snapshot();
        let spec = |id| snapshot.enabled(id, &self.event.name);
        // A handler that was changed after the record may not have been a halting one then: assume that it
        // was not.
        let halts = |id: HandlerId, then: Timestamp| {
            spec(id).is_some_and(|now| {
                now.handler.spec.on_failure() == OnFailure::Halt && now.handler.updated_at < then
            })
        };
        let intercepts = |id| spec(id).is_some_and(|now| now.handler.spec.mode == Mode::Intercept);
        let Resumption { plan, not_reached } = resume(&self.plan, &recorded, halts, intercepts);
        if let Some(request) = &mut self.reply_request {
            for row in &recorded {
                let handler = row.handler.map(|id| snapshot.handler_ref(id));
                request.note(handler.as_ref(), row.disposition, row.error.as_deref());
            }
        }
        debug!(
            recorded = recorded.len(),
            left = %plan,
            "resuming the run without its recorded handlers"
        );
        if plan.handlers().next() != self.plan.handlers().next() {
            self.first_failed_at = None;
        }
        self.plan = plan;
        for id in not_reached {
            self.record_without_attempt(Some(snapshot.handler_ref(id)), 0, Disposition::NotReached).await?;
        }
        // An event without a handler still has to be recorded as such.
        Ok(recorded.is_empty() || !self.plan.is_empty())
    }

    /// Of rows that were recorded under the ids of this run, those of this event.
    pub(super) fn own_rows(&self, recorded: Vec<Recorded>) -> Vec<Recorded> {
        of_this_event(recorded, &self.request_digest())
    }

    /// The digest of the body as the recorder stores it in `request`: JSON without surrounding whitespace.
    fn request_digest(&self) -> Vec<u8> {
        let is_space = |byte: &u8| b" \t\n\r".contains(byte);
        let body = &self.event.body;
        let start = body.iter().position(|b| !is_space(b)).unwrap_or(0);
        let end = body.iter().rposition(|b| !is_space(b)).map_or(0, |last| last + 1);
        Sha256::digest(body.get(start..end).unwrap_or_default()).to_vec()
    }

    /// Whether another delivery may be a duplicate of this event: it comes from the platform and has an id of
    /// its publisher.
    pub(super) const fn may_be_duplicate(&self) -> bool {
        self.is_first && self.event.is_identified
    }

    /// Records an event that was published before.
    pub(super) async fn record_duplicate(&mut self) -> Result<(), RequeueReason> {
        self.leave_open("duplicate: the event was published before, and only the first one gets a reply");
        self.record_without_attempt(None, 0, Disposition::Duplicate).await
    }

    /// Publishes a dead letter for the whole plan before any handler runs, because the event seems to crash
    /// workers.
    pub(super) async fn give_up_crashing(&mut self, starts: u32) -> Result<(), RequeueReason> {
        self.leave_open("the event was given up because it seems to crash workers");
        let plan = std::mem::replace(&mut self.plan, Plan::new([]));
        let error = format!(
            "the event was started alone {starts} times, and the worker died each time: does one of its handlers crash \
             the worker? (worker.crash_limit)"
        );
        let handlers: Vec<HandlerId> = plan.handlers().collect();
        // With several handlers, the one that crashes the worker is unknown.
        let only = if let [only] = handlers.as_slice() { Some(*only) } else { None };
        let attempts = plan.first_attempt().number() - 1;
        self.publish_dead_letter(self.dead_letter_of(Reason::CrashLoop, &error, only, attempts, &plan)).await
    }
}

/// The reply to the publisher.
impl EventRun<'_> {
    /// Sends the reply, if one was requested, after the handlers of the first delivery.
    pub(super) async fn answer(&mut self) -> Result<(), RequeueReason> {
        let Some(request) = self.reply_request.take() else { return Ok(()) };
        let outbox = &self.context.outbox;
        match request.refusal(outbox) {
            Some(why) => self.record_unanswered(why).await,
            None => request.answer(outbox, self.event.id.clone(), &self.event.body).await,
        }
    }

    fn leave_open(&mut self, why: &str) {
        if let Some(request) = &mut self.reply_request {
            request.leave_open(why);
        }
    }
}

/// Rejects headers that the AMQP client cannot read, and limits the size of a publisher's headers. Copies
/// have no limit: their headers come from provisiond and the broker.
fn check_headers(meta: &MessageMeta, is_copy: bool) -> Result<(), Malformed> {
    if let Some(unreadable) = &meta.unreadable {
        return Err(Malformed(unreadable.clone()));
    }
    let bytes = meta.header_bytes;
    if is_copy || bytes <= MAX_HEADER_BYTES {
        return Ok(());
    }
    Err(Malformed(format!("the headers have {bytes} bytes; at most {MAX_HEADER_BYTES} are allowed")))
}
