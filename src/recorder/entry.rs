//! Decides what a delivery is: a result, a dead letter or a retry copy.

use jiff::Timestamp;

use super::Recorder;
use crate::{
    broker::{Delivery, Outgoing, dead_letter_of, letter_of, resent, retry_of, unrouted_event},
    domain::{
        dead_letter::{DeadLetter, DeadLetterMessage, Reason},
        event::EventName,
        execution::Execution,
    },
};

/// The queue that a delivery came from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Queue {
    ExecutionLog,
    DeadLetters,
    Unrouted,
}

/// What a delivery is.
pub(super) enum Entry {
    Execution(Box<Execution>),
    Letter(Box<DeadLetterMessage>),
    /// A retry copy that missed its queue; the recorder publishes it again.
    Copy(EventName, Box<Outgoing>),
}

impl Recorder {
    pub(super) fn read(&self, queue: Queue, delivery: &Delivery) -> Entry {
        let names = &self.settings.broker.topology.names;
        match queue {
            Queue::ExecutionLog => self.read_result(delivery),
            Queue::DeadLetters => Entry::Letter(Box::new(dead_letter_of(delivery, names))),
            // A message in `unrouted` keeps the name of the exchange that it was published to.
            Queue::Unrouted if delivery.exchange == names.results() => self.read_result(delivery),
            Queue::Unrouted if delivery.exchange == names.dead_letters() => {
                Entry::Letter(Box::new(dead_letter_of(delivery, names)))
            }
            Queue::Unrouted => match retry_of(delivery, names) {
                Ok(Some(_)) => match resent(delivery, names) {
                    Some((event, copy)) => Entry::Copy(event, Box::new(copy)),
                    None => Entry::Letter(Box::new(unrouted_event(delivery, names))),
                },
                _ => Entry::Letter(Box::new(unrouted_event(delivery, names))),
            },
        }
    }

    fn read_result(&self, delivery: &Delivery) -> Entry {
        match serde_json::from_slice::<Execution>(&delivery.body) {
            Ok(execution) => Entry::Execution(Box::new(execution)),
            Err(error) => {
                let error = format!("it was published as an execution result but is not one: {error}");
                Entry::Letter(Box::new(self.unreadable(delivery, &error)))
            }
        }
    }

    /// The dead letter for a result that cannot be read or stored. It keeps the bytes.
    pub(super) fn unreadable(&self, delivery: &Delivery, error: &str) -> DeadLetterMessage {
        let message_id = delivery.properties.message_id().as_ref().map(ToString::to_string);
        let (name, body) = (&delivery.routing_key, &delivery.body);
        let facts = DeadLetter::of_whole(Reason::Malformed, error, name, message_id, body, Timestamp::now());
        // The message id is that of the result, not that of an event.
        let facts = DeadLetter { event_id: None, worker: Some(self.id.clone()), ..facts };
        letter_of(delivery, facts)
    }
}
