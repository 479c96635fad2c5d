//! From a delivery to what is to be done with it.

use jiff::Timestamp;

use super::Recorder;
use crate::{
    broker::{Delivery, Letter, Outgoing, copy_of, dead_letter_of, resent, unrouted_event},
    domain::{
        dead_letter::{DeadLetter, Reason, dead_letter_id, header_error},
        event::EventName,
        execution::Execution,
    },
    store::NewDeadLetter,
};

/// Where a delivery came from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Queue {
    ExecutionLog,
    DeadLetters,
    Unrouted,
}

/// What a delivery is.
pub(super) enum Entry {
    Execution(Box<Execution>),
    Letter(Box<NewDeadLetter>),
    /// A retry copy that missed its queue: it is sent again.
    Copy(EventName, Box<Outgoing>),
}

impl Recorder {
    pub(super) fn read(&self, queue: Queue, delivery: &Delivery) -> Entry {
        let names = &self.settings.broker.topology.names;
        match queue {
            Queue::ExecutionLog => self.read_result(delivery),
            Queue::DeadLetters => Entry::Letter(Box::new(new_dead_letter(dead_letter_of(delivery, names)))),
            // A message in `unrouted` still names the exchange it was published to.
            Queue::Unrouted if delivery.exchange == names.results() => self.read_result(delivery),
            Queue::Unrouted if delivery.exchange == names.dead_letters() => {
                Entry::Letter(Box::new(new_dead_letter(dead_letter_of(delivery, names))))
            }
            Queue::Unrouted => match copy_of(delivery, names) {
                Ok(Some(_)) => match resent(delivery, names) {
                    Some((event, copy)) => Entry::Copy(event, Box::new(copy)),
                    None => Entry::Letter(Box::new(new_dead_letter(unrouted_event(delivery)))),
                },
                _ => Entry::Letter(Box::new(new_dead_letter(unrouted_event(delivery)))),
            },
        }
    }

    fn read_result(&self, delivery: &Delivery) -> Entry {
        match serde_json::from_slice::<Execution>(&delivery.body) {
            Ok(execution) => Entry::Execution(Box::new(execution)),
            Err(error) => {
                let error = format!("it was published as an execution result and is none: {error}");
                Entry::Letter(Box::new(self.unreadable(delivery, &error)))
            }
        }
    }

    /// The dead letter for a result that cannot be read or stored, its bytes kept.
    pub(super) fn unreadable(&self, delivery: &Delivery, error: &str) -> NewDeadLetter {
        let message_id =
            delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
        let facts = DeadLetter {
            id: dead_letter_id(&message_id, None, Reason::Malformed, &delivery.body),
            event_id: None,
            run_id: (!message_id.is_empty()).then_some(message_id),
            event_name: delivery.routing_key.clone(),
            object_id: None,
            reason: Reason::Malformed,
            error: header_error(error),
            handler_id: None,
            handler_name: None,
            attempts: 0,
            plan: Vec::new(),
            first_failed_at: None,
            died_at: Timestamp::now(),
            worker: Some(self.id.clone()),
        };
        new_dead_letter(Letter::of(delivery, facts))
    }
}

/// The letter as it is stored.
pub(super) fn new_dead_letter(letter: Letter) -> NewDeadLetter {
    let Letter { facts, body, content_type, exchange, routing_key, trace } = letter;
    NewDeadLetter {
        letter: facts,
        body,
        content_type,
        exchange: Some(exchange),
        routing_key: Some(routing_key),
        traceparent: trace.parent,
        tracestate: trace.state,
    }
}
