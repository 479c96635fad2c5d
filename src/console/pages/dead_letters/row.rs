//! A dead letter as a row of the list.

use uuid::Uuid;

use crate::{
    console::pages::{
        fields::href,
        format::{moment, short, spaced},
    },
    domain::dead_letter::{DeadLetter, Reason},
};

const PATH: &str = "/dead-letters";

/// The texts and links of a row.
pub struct Row {
    pub id: Uuid,
    pub died_at: String,
    pub date: String,
    pub reason: String,
    pub meaning: &'static str,
    pub tone: &'static str,
    pub event: String,
    /// The list with only this event.
    pub event_href: String,
    /// Empty if the message has no readable object id.
    pub object_id: String,
    pub object_short: String,
    pub object_href: String,
    /// Empty for a dead letter of the whole event.
    pub handler: String,
    pub handler_href: String,
    pub attempts: u32,
    pub error: String,
}

impl Row {
    pub fn of(dead_letter: &DeadLetter) -> Self {
        let object_id = dead_letter.object_id.clone().unwrap_or_default();
        let named = |id| match &dead_letter.handler_name {
            Some(name) => name.to_string(),
            None => format!("handler {id}"),
        };
        Self {
            id: dead_letter.id,
            died_at: dead_letter.died_at.to_string(),
            date: moment(dead_letter.died_at),
            reason: spaced(dead_letter.reason.as_str()),
            meaning: meaning(dead_letter.reason),
            tone: if dead_letter.reason == Reason::Unrouted { "warn" } else { "bad" },
            event_href: href(PATH, "event", &dead_letter.event_name),
            event: dead_letter.event_name.clone(),
            object_short: short(&object_id, 24),
            object_href: href(PATH, "object_id", &object_id),
            object_id,
            handler_href: dead_letter
                .handler_id
                .map(|id| href(PATH, "handler", &id.to_string()))
                .unwrap_or_default(),
            handler: dead_letter.handler_id.map(named).unwrap_or_default(),
            attempts: dead_letter.attempts,
            error: dead_letter.error.clone(),
        }
    }
}

pub const fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::Malformed => "The message is not a valid event.",
        Reason::Permanent => "The handler failed in a way that a retry cannot repair.",
        Reason::Exhausted => "Every attempt failed.",
        Reason::CrashLoop => "The event was started several times, and its worker died each time.",
        Reason::Unrouted => {
            "No queue took the event: its name is not in the catalogue, or the queue was deleted."
        }
        Reason::Expired => {
            "RabbitMQ removed the event from its queue: it waited too long or was delivered too often."
        }
    }
}
