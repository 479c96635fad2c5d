//! Sends a reply to a publisher that asked for one (`reply_to`).

use tracing::warn;

use super::{EventRun, RequeueReason};
use crate::{
    broker::{MessageMeta, reply},
    domain::{
        event::{EventId, EventName},
        handler::{HandlerId, Mode},
        plan::Plan,
        reply::ReplyBuilder,
    },
    worker::Worker,
};

/// A request for a reply, and the reply as it is built.
pub(super) struct ReplyRequest {
    reply_to: String,
    correlation_id: Option<String>,
    pub(super) builder: ReplyBuilder,
}

impl ReplyRequest {
    /// None: the event has no `reply_to`.
    pub(super) fn by(facts: &MessageMeta, plan: &Plan, worker: &Worker, name: &EventName) -> Option<Self> {
        let reply_to = facts.reply_to.clone()?;
        let snapshot = worker.registry.snapshot();
        let intercepts = |id: &HandlerId| {
            snapshot.enabled(*id, name).is_some_and(|h| h.handler.spec.mode == Mode::Intercept)
        };
        let tally = ReplyBuilder::new(plan.handlers().filter(intercepts).collect());
        Some(Self { reply_to, correlation_id: facts.correlation_id.clone(), builder: tally })
    }

    /// Sends the reply without waiting for the confirm: the publisher waits with a deadline of its own, and a
    /// late reply is of no use.
    async fn answer(self, worker: &Worker, id: EventId, body: &[u8]) -> Result<(), RequeueReason> {
        let answer = self.builder.into_reply(id, body);
        let outgoing = reply(&self.reply_to, self.correlation_id.as_deref(), &answer)?;
        drop(worker.publishers.replies.publish(outgoing).await);
        Ok(())
    }

    /// Why the reply must not be sent: `reply_to` names a queue of provisiond. Otherwise anyone who may
    /// publish events could write into the dead letters, or into the queue of another event type.
    fn refusal(&self, worker: &Worker) -> Option<String> {
        let is_own = worker.names.is_own(&self.reply_to);
        is_own.then(|| {
            warn!(reply_to = self.reply_to, "sent no reply: reply_to is a queue of provisiond itself");
            format!("reply_to {} is a queue of provisiond itself", self.reply_to)
        })
    }

    /// Replies to a malformed message, which no handler gets.
    pub(super) async fn answer_malformed(
        worker: &Worker,
        facts: &MessageMeta,
        id: EventId,
        error: &str,
    ) -> Result<(), RequeueReason> {
        let Some(reply_to) = facts.reply_to.clone() else { return Ok(()) };
        let mut tally = ReplyBuilder::default();
        tally.leave_open(format!("malformed: {error}"));
        let asked = Self { reply_to, correlation_id: facts.correlation_id.clone(), builder: tally };
        match asked.refusal(worker) {
            // The dead letter of the message is record enough.
            Some(_) => Ok(()),
            None => asked.answer(worker, id, &[]).await,
        }
    }
}

impl EventRun<'_> {
    /// Sends the reply, if one was requested, after the handlers of the first delivery.
    pub(crate) async fn answer(&mut self) -> Result<(), RequeueReason> {
        let Some(asked) = self.asked.take() else { return Ok(()) };
        match asked.refusal(self.worker) {
            Some(why) => self.record_unanswered(why).await,
            None => asked.answer(self.worker, self.event.id.clone(), &self.event.body).await,
        }
    }

    pub(super) fn leave_open(&mut self, why: &str) {
        if let Some(asked) = &mut self.asked {
            asked.builder.leave_open(why);
        }
    }
}
