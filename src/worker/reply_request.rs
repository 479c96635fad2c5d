//! The reply to a publisher that asked for one (`reply_to`).

use tracing::warn;

use super::{outbox::Outbox, registry::Snapshot, requeue::RequeueReason};
use crate::{
    broker::MessageMeta,
    domain::{
        event::{EventId, EventName},
        execution::{Disposition, HandlerRef},
        handler::{HandlerId, Mode},
        plan::Plan,
        reply::{NamedHandler, ReplyBuilder},
    },
};

/// A request for a reply, and the reply as it is built.
pub(super) struct ReplyRequest {
    reply_to: String,
    correlation_id: Option<String>,
    builder: ReplyBuilder,
}

impl ReplyRequest {
    /// None: the event has no `reply_to`.
    pub(super) fn of(meta: &MessageMeta, plan: &Plan, snapshot: &Snapshot, name: &EventName) -> Option<Self> {
        let intercepts = |id: &HandlerId| {
            snapshot.enabled(*id, name).is_some_and(|h| h.handler.spec.mode == Mode::Intercept)
        };
        Self::new(meta, || ReplyBuilder::new(plan.handlers().filter(intercepts).collect()))
    }

    /// The request of a malformed message, which no handler gets.
    pub(super) fn of_malformed(meta: &MessageMeta, error: &str) -> Option<Self> {
        let mut request = Self::new(meta, ReplyBuilder::default)?;
        request.leave_open(&format!("malformed: {error}"));
        Some(request)
    }

    fn new(meta: &MessageMeta, builder: impl FnOnce() -> ReplyBuilder) -> Option<Self> {
        let reply_to = meta.reply_to.clone()?;
        Some(Self { reply_to, correlation_id: meta.correlation_id.clone(), builder: builder() })
    }

    /// Notes what became of a handler.
    pub(super) fn note(
        &mut self,
        handler: Option<&HandlerRef>,
        disposition: Disposition,
        error: Option<&str>,
    ) {
        let handler = handler.map(|handler| NamedHandler { id: handler.id, name: handler.name.clone() });
        self.builder.note(handler, disposition, error);
    }

    /// Notes why the reply cannot say what becomes of the event.
    pub(super) fn leave_open(&mut self, why: &str) {
        self.builder.leave_open(why);
    }

    pub(super) async fn answer(self, outbox: &Outbox, id: EventId, body: &[u8]) -> Result<(), RequeueReason> {
        let reply = self.builder.into_reply(id, body);
        outbox.publish_reply(&self.reply_to, self.correlation_id.as_deref(), &reply).await
    }

    /// Why the reply must not be sent: `reply_to` names a queue of provisiond. Otherwise anyone who may
    /// publish events could write into the dead letters, or into the queue of another event type.
    pub(super) fn refusal(&self, outbox: &Outbox) -> Option<String> {
        outbox.names.is_own(&self.reply_to).then(|| {
            warn!(reply_to = self.reply_to, "sent no reply: reply_to is a queue of provisiond itself");
            format!("reply_to {} is a queue of provisiond itself", self.reply_to)
        })
    }
}
