//! One run of an event: the rest of its plan, and what was published for it.

mod copies;
mod records;
mod replies;
mod resumed;

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tracing::{Span as LogSpan, record_all, warn};

use super::{Worker, queue_state::QueueState};
use crate::{
    broker::{
        Confirm, Deferred, Delivery, MAX_HEADER_BYTES, MessageMeta, NewDeadLetter, Unconfirmed, dead_letter,
        retry_of,
    },
    domain::{
        dead_letter::{DeadLetter, Reason},
        event::{Arrival, Event, EventId, EventName, Malformed, RunId, decode, readable},
        plan::{LONGEST_RUN, Plan, Step},
        trace::Trace,
    },
    store::RunKey,
    telemetry::metrics::{DeliveryKind, dead_letter as count_dead_letter},
    telemetry::traces::Span,
};
use replies::ReplyRequest;

/// The state of a run while the worker handles one delivery of it.
pub(super) struct EventRun<'a> {
    worker: &'a Worker,
    pub lane: &'a QueueState,
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
    taken_at: Timestamp,
    begun: Instant,
    /// Whether this delivery ran or skipped a handler. From then on a drain hands over the rest of the plan
    /// and does not simply requeue the delivery.
    has_side_effects: bool,
    unconfirmed: Vec<Confirm>,
    asked: Option<ReplyRequest>,
}

/// Why a delivery is requeued: a problem of provisiond, not of a handler.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequeueReason {
    #[error("the worker is draining and did not start this event")]
    NotStarted,
    #[error("the event was still running at the end of worker.drain_timeout")]
    Cut,
    /// The watchdog logs it once for all deliveries of the queue.
    #[error("the consumer was stuck")]
    Stuck,
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
    #[error("cannot encode a message of this event")]
    Unwritable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<anyhow::Error> for RequeueReason {
    fn from(error: anyhow::Error) -> Self {
        Self::Unwritable(error.into())
    }
}

/// A delivery that is not a valid event.
pub(super) struct MalformedDelivery {
    name: EventName,
    facts: MessageMeta,
    why: Malformed,
}

impl<'a> EventRun<'a> {
    pub(super) fn open(
        worker: &'a Worker,
        lane: &'a QueueState,
        delivery: &Delivery,
    ) -> Result<Self, Box<MalformedDelivery>> {
        let name = &lane.event;
        let facts = MessageMeta::of(delivery);
        let refuse = |why, facts| Box::new(MalformedDelivery { name: name.clone(), facts, why });
        let copy = retry_of(delivery, &worker.names).map_err(Malformed);
        let copy = match copy.and_then(|copy| check_headers(&facts, copy.is_some()).map(|()| copy)) {
            Ok(copy) => copy,
            Err(why) => return Err(refuse(why, facts)),
        };
        let arrival = Arrival {
            name,
            content_type: facts.content_type.as_deref(),
            content_encoding: facts.content_encoding.as_deref(),
            message_id: facts.message_id.as_deref(),
            timestamp: facts.timestamp,
            body: &delivery.body,
            known_id: copy.as_ref().map(|copy| &copy.event_id),
        };
        let event = match decode(&arrival, worker.max_event_bytes) {
            Ok(event) => event,
            Err(why) => return Err(refuse(why, facts)),
        };
        let first_failed_at = copy.as_ref().and_then(|copy| copy.first_failed_at);
        let is_first = copy.is_none();
        let came_before = delivery.redelivered || copy.as_ref().is_some_and(|copy| copy.is_again);
        let (id, plan, put_off_in) = match copy {
            Some(copy) => (copy.run_id, copy.plan, copy.put_off_in),
            None => (RunId::from(event.id.clone()), None, None),
        };
        let plan = plan.unwrap_or_else(|| worker.registry.snapshot().plan(name));
        let span = worker
            .traces
            .as_ref()
            .and_then(|traces| traces.begin(&facts.trace, &event, &worker.names.event_queue(name)));
        let trace = span.as_ref().map_or_else(|| facts.trace.clone(), |span| span.trace().clone());
        let asked = if is_first { ReplyRequest::by(&facts, &plan, worker, name) } else { None };
        Ok(Self {
            worker,
            lane,
            event,
            id,
            plan,
            trace,
            _span: span,
            first_failed_at,
            is_first,
            is_redelivery: came_before,
            put_off_in,
            taken_at: Timestamp::now(),
            begun: Instant::now(),
            has_side_effects: false,
            unconfirmed: Vec::new(),
            asked,
        })
    }

    /// Counts the delivery in the metrics. Called after it was decoded successfully.
    pub(super) fn count_arrival(&self, delivery: &Delivery) {
        let kind = match (delivery.redelivered, self.is_first) {
            (true, _) => DeliveryKind::Redelivered,
            (false, false) => DeliveryKind::Copy,
            (false, true) => DeliveryKind::First,
        };
        self.lane.meters.took(kind);
        if let DeliveryKind::First = kind {
            self.worker.presence.count_event(&self.event.name);
            // The publisher's clock may be ahead: then the wait is zero.
            let since = Timestamp::now().duration_since(self.event.dt);
            self.lane.meters.waited(since.try_into().unwrap_or_default());
        }
    }

    pub(super) const fn id(&self) -> &RunId {
        &self.id
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
        self.worker.draining.is_cancelled() || Instant::now() >= self.deadline()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.begun + LONGEST_RUN
    }

    /// Waits until the broker has confirmed every result of this run. Copies and dead letters are confirmed
    /// when they are published.
    pub(super) async fn confirmed(self) -> Result<(), RequeueReason> {
        try_join_all(self.unconfirmed.into_iter().map(Confirm::confirmed)).await?;
        Ok(())
    }
}

impl MalformedDelivery {
    /// Publishes a dead letter with the body as it was received, or decompressed if that is possible.
    pub(super) async fn publish_dead_letter(
        self: Box<Self>,
        worker: &Worker,
        delivery: &Delivery,
    ) -> Result<(), RequeueReason> {
        let MessageMeta { message_id, timestamp, .. } = &self.facts;
        let body = &delivery.body;
        let run_id = EventId::of_message(message_id.as_deref(), self.name.as_str(), *timestamp, body);
        record_all!(LogSpan::current(), event_id = run_id.as_str(), run_id = run_id.as_str());
        let (error, name, run) = (self.why.to_string(), self.name.as_str(), Some(run_id.to_string()));
        let letter = DeadLetter {
            worker: Some(worker.id.clone()),
            ..DeadLetter::of_whole(Reason::Malformed, &error, name, run, &delivery.body, Timestamp::now())
        };
        let content_type = self.facts.content_type.as_deref();
        let body = readable(&delivery.body, self.facts.content_encoding.as_deref(), worker.max_event_bytes);
        let burial = NewDeadLetter { letter: &letter, body, content_type, trace: &self.facts.trace };
        let confirm = worker.publishers.letters.publish(dead_letter(&worker.names, burial)?).await;
        confirm.confirmed().await?;
        count_dead_letter(&self.name, Reason::Malformed);
        warn!(error, "dead-lettered malformed event");
        if retry_of(delivery, &worker.names).is_ok_and(|copy| copy.is_none()) {
            ReplyRequest::answer_malformed(worker, &self.facts, run_id, &error).await?;
        }
        Ok(())
    }
}

/// Rejects headers that the AMQP client cannot read, and limits the size of a publisher's headers. Copies
/// have no limit: their headers come from provisiond and the broker.
fn check_headers(facts: &MessageMeta, is_copy: bool) -> Result<(), Malformed> {
    if let Some(unreadable) = &facts.unreadable {
        return Err(Malformed(unreadable.clone()));
    }
    let bytes = facts.header_bytes;
    if is_copy || bytes <= MAX_HEADER_BYTES {
        return Ok(());
    }
    Err(Malformed(format!("the headers have {bytes} bytes; at most {MAX_HEADER_BYTES} are allowed")))
}
