//! One run of an event: what is left of its plan, and what was published about it.

mod copies;
mod records;
mod replies;
mod resumed;

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tracing::{Span as LogSpan, warn};

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

/// One run.
pub(super) struct EventRun<'a> {
    worker: &'a Worker,
    pub lane: &'a QueueState,
    pub event: Event,
    pub id: RunId,
    pub plan: Plan,
    /// The publisher's, or what was begun for an event that came without.
    pub trace: Trace,
    /// That of an event that came without a trace; it ends with this.
    _span: Option<Span>,
    first_failed_at: Option<Timestamp>,
    /// It is the platform's own message, not a copy of ours.
    is_first: bool,
    /// What it is to do may be done: it was delivered before, or published again.
    pub is_redelivery: bool,
    /// Its attempt was put off in that run, which another worker may have had as well, and done.
    pub put_off_in: Option<Deferred>,
    /// When this delivery was taken.
    taken_at: Timestamp,
    begun: Instant,
    /// Whether a handler of this delivery ran, or was passed over: from then on it cannot simply go back.
    has_side_effects: bool,
    unconfirmed: Vec<Confirm>,
    asked: Option<ReplyRequest>,
}

/// Why a delivery goes back to its queue: our trouble, not a handler's.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequeueReason {
    #[error("it had not begun when the worker was asked to stop")]
    NotStarted,
    #[error("the drain ran out of time")]
    Cut,
    /// The watchdog tells of it, once for all that were.
    #[error("it was stuck")]
    Stuck,
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
    #[error("it could not be written")]
    Unwritable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<anyhow::Error> for RequeueReason {
    fn from(error: anyhow::Error) -> Self {
        Self::Unwritable(error.into())
    }
}

/// A delivery that is no event.
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

    /// Counts it, once it is known to be an event.
    pub(super) fn count_arrival(&self, delivery: &Delivery) {
        let kind = match (delivery.redelivered, self.is_first) {
            (true, _) => DeliveryKind::Redelivered,
            (false, false) => DeliveryKind::Copy,
            (false, true) => DeliveryKind::First,
        };
        self.lane.meters.took(kind);
        if let DeliveryKind::First = kind {
            self.worker.presence.count_event(&self.event.name);
            // A publisher's clock may be ahead of ours.
            let since = Timestamp::now().duration_since(self.event.dt);
            self.lane.meters.waited(since.try_into().unwrap_or_default());
        }
    }

    pub(super) const fn id(&self) -> &RunId {
        &self.id
    }

    /// How the database knows it.
    pub(super) fn key(&self) -> RunKey {
        (self.event.id.clone(), self.id.clone())
    }

    /// The next step of the plan.
    pub(super) fn next_step(&mut self) -> Option<Step> {
        if self.has_side_effects {
            // Like the attempt, it is told of the first handler of a copy's plan alone.
            self.first_failed_at = None;
        }
        self.plan.take_next()
    }

    /// Since the handler of this step failed first.
    pub(super) fn failing_for(&self) -> Duration {
        let since = self.first_failed_at.map(|at| Timestamp::now().duration_since(at));
        // A clock that went back has no failure in the future.
        since.and_then(|so_far| so_far.try_into().ok()).unwrap_or_default()
    }

    /// Whether no further handler may begin in this delivery.
    pub(super) fn must_end(&self) -> bool {
        self.worker.draining.is_cancelled() || Instant::now() >= self.deadline()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.begun + LONGEST_RUN
    }

    /// Waits until the broker has everything that was published about this run.
    pub(super) async fn confirmed(self) -> Result<(), RequeueReason> {
        try_join_all(self.unconfirmed.into_iter().map(Confirm::confirmed)).await?;
        Ok(())
    }
}

impl MalformedDelivery {
    /// Makes a dead letter of it, with its bytes as they came; unpacked, where that can be done.
    pub(super) async fn publish_dead_letter(
        self: Box<Self>,
        worker: &Worker,
        delivery: &Delivery,
    ) -> Result<(), RequeueReason> {
        let MessageMeta { message_id, timestamp, .. } = &self.facts;
        let body = &delivery.body;
        let run_id = EventId::of_message(message_id.as_deref(), self.name.as_str(), *timestamp, body);
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
        LogSpan::current().record("event_id", run_id.as_str());
        warn!(error, "malformed: a dead letter");
        if retry_of(delivery, &worker.names).is_ok_and(|copy| copy.is_none()) {
            ReplyRequest::answer_malformed(worker, &self.facts, run_id, &error).await?;
        }
        Ok(())
    }
}

/// Refuses what the broker's client could not read, and bounds what any publisher can set. The headers of a copy are ours,
/// and the broker's on its way.
fn check_headers(facts: &MessageMeta, is_copy: bool) -> Result<(), Malformed> {
    if let Some(unreadable) = &facts.unreadable {
        return Err(Malformed(unreadable.clone()));
    }
    let bytes = facts.header_bytes;
    if is_copy || bytes <= MAX_HEADER_BYTES {
        return Ok(());
    }
    Err(Malformed(format!("it has {bytes} bytes of headers; at most {MAX_HEADER_BYTES} are allowed")))
}
