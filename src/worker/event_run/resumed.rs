//! Runs that were delivered before, were published twice, or crash workers.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tracing::debug;

use super::{EventRun, RequeueReason};
use crate::domain::{
    dead_letter::Reason,
    execution::Disposition,
    handler::{HandlerId, Mode, OnFailure},
    plan::Plan,
    reply::NamedHandler,
    resume::{Recorded, Resumption, of_this_event, resume},
};

impl EventRun<'_> {
    /// Removes the handlers from the plan that are `recorded` for this run (None: unknown). False if nothing
    /// is left.
    pub(crate) async fn resume(&mut self, recorded: Option<Vec<Recorded>>) -> Result<bool, RequeueReason> {
        let recorded = of_this_event(recorded.unwrap_or_default(), &self.request_digest());
        let snapshot = self.worker.registry.snapshot();
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
        if let Some(asked) = &mut self.asked {
            for row in &recorded {
                let share = row.handler.map(|id| NamedHandler { id, name: snapshot.handler_ref(id).name });
                asked.builder.note(share, row.disposition, row.error.as_deref());
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
            self.record_passed(Some(snapshot.handler_ref(id)), 0, Disposition::NotReached).await?;
        }
        // An event without a handler still has to be recorded as such.
        Ok(recorded.is_empty() || !self.plan.is_empty())
    }

    /// What another delivery of this run has ended and recorded since this delivery was received.
    pub(crate) async fn ended_meanwhile(&self) -> Vec<Recorded> {
        let recorded = self.worker.admission.ended(self.key(), self.taken_at).await;
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
    pub(crate) const fn may_be_duplicate(&self) -> bool {
        self.is_first && self.event.is_identified
    }

    /// Records an event that was published before.
    pub(crate) async fn record_duplicate(&mut self) -> Result<(), RequeueReason> {
        self.leave_open("duplicate: the event was published before, and only the first one gets a reply");
        self.record_passed(None, 0, Disposition::Duplicate).await
    }

    /// Publishes a dead letter for the whole plan before any handler runs, because the event seems to crash
    /// workers.
    pub(crate) async fn give_up_crashing(&mut self, begun: u32) -> Result<(), RequeueReason> {
        self.leave_open("the event was given up because it seems to crash workers");
        let plan = std::mem::replace(&mut self.plan, Plan::new([]));
        let error = format!(
            "the event was started alone {begun} times, and the worker died each time: does one of its handlers crash \
             the worker? (worker.crash_limit)"
        );
        let handlers: Vec<HandlerId> = plan.handlers().collect();
        // With several handlers, the one that crashes the worker is unknown.
        let only = if let [only] = handlers.as_slice() { Some(*only) } else { None };
        let made = plan.first_attempt().number() - 1;
        self.publish_dead_letter(self.letter(Reason::CrashLoop, &error, only, made, &plan)).await
    }
}
