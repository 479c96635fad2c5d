//! Names and arguments of exchanges and queues.
//!
//! Settings that an operator may want to change later are left to policies.

use lapin::types::{AMQPValue, FieldTable};

use crate::{
    config::QueueType,
    domain::{event::EventName, text_enum::text_enum},
};

text_enum! {
    /// A queue that the recorder consumes.
    RecorderQueue { DeadLetters = "dead-letters", Unrouted = "unrouted", ExecutionLog = "execution-log" }
}

/// All names under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(String);

impl Names {
    pub fn new(prefix: &str) -> Self {
        Self(prefix.to_owned())
    }

    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// Whether this queue is under the prefix.
    pub fn is_own(&self, queue: &str) -> bool {
        queue.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('.'))
    }

    pub fn events(&self) -> String {
        format!("{}.events", self.0)
    }

    pub fn event_queue(&self, event: &EventName) -> String {
        format!("{}.events.{event}", self.0)
    }

    /// The event name in the name of an event queue. It is not checked: any text may follow the prefix.
    pub fn event_of<'a>(&self, queue: &'a str) -> Option<&'a str> {
        queue.strip_prefix(&self.events())?.strip_prefix('.')
    }

    pub fn results(&self) -> String {
        format!("{}.results", self.0)
    }

    pub fn execution_log(&self) -> String {
        format!("{}.execution-log", self.0)
    }

    pub fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.0)
    }

    pub fn unrouted(&self) -> String {
        format!("{}.unrouted", self.0)
    }

    pub fn recorder_queue(&self, queue: RecorderQueue) -> String {
        match queue {
            RecorderQueue::ExecutionLog => self.execution_log(),
            RecorderQueue::DeadLetters => self.dead_letters(),
            RecorderQueue::Unrouted => self.unrouted(),
        }
    }

    /// The queue of one `publish --wait`. It is under the prefix, because the rights of a user are limited to it.
    pub fn watch(&self) -> String {
        format!("{}.watch.{}", self.0, uuid::Uuid::new_v4().simple())
    }

    /// The prefix of every exchange and queue of the delay ladder.
    pub fn delay_prefix(&self) -> String {
        format!("{}.delay.v1.", self.0)
    }

    pub fn delay_deliver(&self) -> String {
        format!("{}.delay.v1.deliver", self.0)
    }

    pub fn delay_level(&self, level: u32) -> String {
        format!("{}.delay.v1.level-{level}", self.0)
    }
}

impl QueueType {
    pub(super) fn arguments(self) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text(self.as_str()));
        arguments
    }

    /// Arguments of a queue that never gives up a message. Restarts, peeks and long outages of PostgreSQL must not
    /// reach a delivery limit. A large number means "unlimited" in every version of RabbitMQ.
    pub(super) fn consumed_arguments(self) -> FieldTable {
        let mut arguments = self.arguments();
        if self == Self::Quorum {
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(1_000_000_000));
        }
        arguments
    }

    /// Arguments of a queue that dead-letters to `exchange` what expires or is given up.
    pub(super) fn dead_lettering_arguments(self, exchange: &str) -> FieldTable {
        let mut arguments = self.arguments();
        arguments.insert("x-dead-letter-exchange".into(), text(exchange));
        if self == Self::Quorum {
            // At-least-once needs reject-publish: with drop-head RabbitMQ silently uses at-most-once.
            arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
            arguments.insert("x-overflow".into(), text("reject-publish"));
        }
        arguments
    }
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Arguments of an exchange with an alternate exchange, so that no message is lost when a queue was deleted.
pub(super) fn exchange_arguments(alternate: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), text(alternate));
    arguments
}
