//! Shows messages that wait in a queue of the recorder, without consuming them.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::DeadLetters;
use crate::{
    broker::{
        Delivery, MessageKind, Names, RecorderQueue, classify, dead_letter_of, peek, queue_depth,
        unrouted_event,
    },
    domain::{
        dead_letter::{DeadLetter, DeadLetterMessage, Reason},
        execution::Execution,
    },
};

/// The result of a peek.
#[derive(Debug)]
pub struct Peeked {
    pub queue: String,
    /// Ready messages before the peek.
    pub messages: u32,
    /// Consumers of the queue: recorders or other tools.
    pub consumers: u32,
    pub waiting: Vec<Waiting>,
    /// The queue held more requeued messages than a peek can take out: the messages shown are now behind
    /// them.
    pub moved: bool,
}

/// One message that waits.
#[derive(Debug, Serialize)]
pub struct Waiting {
    pub kind: MessageKind,
    pub exchange: String,
    pub routing_key: String,
    /// This and the following fields are what the recorder will store: those of the dead letter, or of the
    /// attempt.
    pub event_name: String,
    pub event_id: Option<String>,
    pub reason: Option<Reason>,
    pub handler: Option<String>,
    pub attempts: Option<u32>,
    pub error: Option<String>,
    pub died_at: Option<Timestamp>,
    #[serde(skip)]
    pub body: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
}

impl DeadLetters {
    /// Returns the first `limit` messages of a queue; None if the queue does not exist.
    pub async fn peek(&self, queue: RecorderQueue, limit: u16) -> anyhow::Result<Option<Peeked>> {
        let names = &self.broker.topology.names;
        let name = names.recorder_queue(queue);
        let connection = self.broker.dial("peek").await?;
        let Some(depth) = queue_depth(&connection, &name).await? else { return Ok(None) };
        let result = peek(&connection, &name, depth, limit).await?;
        let waiting =
            result.deliveries.into_iter().map(|delivery| waiting(queue, &delivery, names)).collect();
        let (messages, consumers) = (depth.messages, depth.consumers);
        Ok(Some(Peeked { queue: name, messages, consumers, waiting, moved: result.moved }))
    }
}

fn waiting(queue: RecorderQueue, delivery: &Delivery, names: &Names) -> Waiting {
    let kind = classify(queue, delivery, names);
    match kind {
        MessageKind::Result => from_result(delivery),
        MessageKind::DeadLetter => from_dead_letter(kind, delivery, dead_letter_of(delivery, names)),
        MessageKind::RetryCopy | MessageKind::Event => {
            from_dead_letter(kind, delivery, unrouted_event(delivery, names))
        }
    }
}

fn from_dead_letter(kind: MessageKind, delivery: &Delivery, message: DeadLetterMessage) -> Waiting {
    let dead_letter = message.facts;
    Waiting {
        kind,
        exchange: delivery.exchange.clone(),
        routing_key: delivery.routing_key.clone(),
        event_name: dead_letter.event_name.clone(),
        event_id: dead_letter.event_id.clone(),
        reason: Some(dead_letter.reason),
        handler: dead_letter.handler_name.as_ref().map(ToString::to_string),
        attempts: Some(dead_letter.attempts),
        error: Some(dead_letter.error.clone()),
        died_at: (kind == MessageKind::DeadLetter).then_some(dead_letter.died_at),
        body: message.body,
        dead_letter: (kind == MessageKind::DeadLetter).then_some(dead_letter),
    }
}

fn from_result(delivery: &Delivery) -> Waiting {
    let execution = serde_json::from_slice::<Execution>(&delivery.body).ok();
    let name = execution.as_ref().map(|e| e.event.name.to_string());
    let handler = execution.as_ref().and_then(|e| e.handler.as_ref()?.name.as_ref().map(ToString::to_string));
    Waiting {
        kind: MessageKind::Result,
        exchange: delivery.exchange.clone(),
        routing_key: delivery.routing_key.clone(),
        event_name: name.unwrap_or_else(|| delivery.routing_key.clone()),
        event_id: execution.as_ref().map(|e| e.event.id.to_string()),
        reason: None,
        handler,
        attempts: execution.as_ref().map(|e| e.attempt),
        error: execution.and_then(|e| e.error),
        died_at: None,
        body: delivery.body.clone(),
        dead_letter: None,
    }
}
