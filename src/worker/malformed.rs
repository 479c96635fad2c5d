//! A delivery that is not a valid event.

use jiff::Timestamp;
use tracing::{Span, record_all, warn};

use super::{outbox::Outbox, reply_request::ReplyRequest, requeue::RequeueReason};
use crate::{
    broker::{Delivery, MessageMeta, NewDeadLetter, retry_of},
    domain::{
        dead_letter::{DeadLetter, Reason},
        event::{EventId, EventName, Malformed, readable},
    },
    telemetry::metrics::dead_letter as count_dead_letter,
};

pub(super) struct MalformedDelivery {
    pub name: EventName,
    pub meta: MessageMeta,
    pub why: Malformed,
}

impl MalformedDelivery {
    /// Publishes a dead letter with the body as it was received, or decompressed if that is possible.
    pub(super) async fn publish_dead_letter(
        self: Box<Self>,
        outbox: &Outbox,
        max_event_bytes: usize,
        delivery: &Delivery,
    ) -> Result<(), RequeueReason> {
        let MessageMeta { message_id, timestamp, content_type, content_encoding, trace, .. } = &self.meta;
        let name = self.name.as_str();
        let run_id = EventId::of_message(message_id.as_deref(), name, *timestamp, &delivery.body);
        record_all!(Span::current(), event_id = run_id.as_str(), run_id = run_id.as_str());
        let (error, run) = (self.why.to_string(), Some(run_id.to_string()));
        let dead_letter = DeadLetter {
            worker: Some(outbox.worker.clone()),
            ..DeadLetter::of_whole(Reason::Malformed, &error, name, run, &delivery.body, Timestamp::now())
        };
        let body = readable(&delivery.body, content_encoding.as_deref(), max_event_bytes);
        let message =
            NewDeadLetter { letter: &dead_letter, body, content_type: content_type.as_deref(), trace };
        outbox.publish_dead_letter(message).await?;
        count_dead_letter(&self.name, Reason::Malformed);
        warn!(error, "dead-lettered malformed event");
        let is_copy = !retry_of(delivery, &outbox.names).is_ok_and(|copy| copy.is_none());
        let request = ReplyRequest::of_malformed(&self.meta, &error);
        match request.filter(|request| !is_copy && request.refusal(outbox).is_none()) {
            Some(request) => request.answer(outbox, run_id, &[]).await,
            // The dead letter of the message is record enough.
            None => Ok(()),
        }
    }
}
