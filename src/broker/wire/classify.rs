//! Decides what a message in one of the recorder's queues is.

use super::{
    super::{
        delivery::Delivery,
        names::{Names, RecorderQueue},
    },
    read::retry_of,
};
use crate::domain::text_enum::text_enum;

text_enum! {
    /// What a message is.
    MessageKind {
        DeadLetter = "dead letter",
        Result = "execution result",
        RetryCopy = "retry copy",
        Event = "event",
    }
}

/// What `delivery` from `queue` is. A message in `unrouted` keeps the name of the exchange that it was published to.
pub fn classify(queue: RecorderQueue, delivery: &Delivery, names: &Names) -> MessageKind {
    match queue {
        RecorderQueue::ExecutionLog => MessageKind::Result,
        RecorderQueue::DeadLetters => MessageKind::DeadLetter,
        RecorderQueue::Unrouted if delivery.exchange == names.results() => MessageKind::Result,
        RecorderQueue::Unrouted if delivery.exchange == names.dead_letters() => MessageKind::DeadLetter,
        RecorderQueue::Unrouted => match retry_of(delivery, names) {
            Ok(Some(_)) => MessageKind::RetryCopy,
            Ok(None) | Err(_) => MessageKind::Event,
        },
    }
}
