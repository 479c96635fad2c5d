//! Decides what a delivery is: a result, a dead letter or a retry copy.

use jiff::Timestamp;

use super::Recorder;
use crate::{
    broker::{
        Delivery, MessageKind, Outgoing, RecorderQueue, classify, dead_letter_message, dead_letter_of,
        resent, unrouted_event,
    },
    domain::{
        dead_letter::{DeadLetter, DeadLetterMessage, Reason},
        event::EventName,
        execution::Execution,
    },
};

/// What a delivery is.
pub(super) enum Entry {
    Execution(Box<Execution>),
    DeadLetter(Box<DeadLetterMessage>),
    /// A retry copy that missed its queue; the recorder publishes it again.
    Copy(EventName, Box<Outgoing>),
}

impl Recorder {
    pub(super) fn read(&self, queue: RecorderQueue, delivery: &Delivery) -> Entry {
        let names = &self.settings.broker.topology.names;
        match classify(queue, delivery, names) {
            MessageKind::Result => self.read_result(delivery),
            MessageKind::DeadLetter => Entry::DeadLetter(Box::new(dead_letter_of(delivery, names))),
            MessageKind::RetryCopy => match resent(delivery, names) {
                Some((event, copy)) => Entry::Copy(event, Box::new(copy)),
                None => Entry::DeadLetter(Box::new(unrouted_event(delivery, names))),
            },
            MessageKind::Event => Entry::DeadLetter(Box::new(unrouted_event(delivery, names))),
        }
    }

    fn read_result(&self, delivery: &Delivery) -> Entry {
        match serde_json::from_slice::<Execution>(&delivery.body) {
            Ok(execution) => Entry::Execution(Box::new(execution)),
            Err(error) => {
                let error = format!("it was published as an execution result but is not one: {error}");
                Entry::DeadLetter(Box::new(self.unreadable(delivery, &error)))
            }
        }
    }

    /// The dead letter for a result that cannot be read or stored. It keeps the bytes.
    pub(super) fn unreadable(&self, delivery: &Delivery, error: &str) -> DeadLetterMessage {
        let message_id = delivery.properties.message_id().as_ref().map(ToString::to_string);
        let (name, body) = (&delivery.routing_key, &delivery.body);
        let dead_letter =
            DeadLetter::of_whole(Reason::Malformed, error, name, message_id, body, Timestamp::now());
        // The message id is that of the result, not that of an event.
        let dead_letter = DeadLetter { event_id: None, worker: Some(self.id.clone()), ..dead_letter };
        dead_letter_message(delivery, dead_letter)
    }
}
