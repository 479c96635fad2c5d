//! The search for dead letters: from the query string to a filter.

use crate::{
    console::pages::{
        executions::{searched_time, time},
        fields::{Errors, Fields},
        format::{capital, spaced},
        lists::{Chip, chips},
    },
    domain::{dead_letter::State, event::EventId},
    store::DeadLetterFilter,
};

pub const PATH: &str = "/dead-letters";

/// The search fields: the name in the query string, and its label.
pub const SEARCH: [(&str, &str); 9] = [
    ("text", "Text"),
    ("state", "State"),
    ("reason", "Reason"),
    ("event", "Event"),
    ("handler", "Handler"),
    ("object_id", "Object ID"),
    ("event_id", "Event ID"),
    ("since", "From"),
    ("until", "To"),
];

/// The value of `state` for every state. No value means open, because operators must act on open dead letters.
pub const ANY: &str = "any";

/// Parses the filter. An invalid field is added to `errors` and left out of the filter.
pub fn filter(search: &Fields, errors: &mut Errors) -> DeadLetterFilter {
    let text = |name: &str| Some(search.get(name).to_owned()).filter(|text| !text.is_empty());
    let state = match search.get("state") {
        "" => Some(State::Open),
        ANY => None,
        word => errors.take("state", word.parse()),
    };
    DeadLetterFilter {
        event: text("event"),
        event_id: text("event_id").map(|id| EventId::from_message_id(&id).into()),
        handler: errors.optional("handler", search.get("handler"), str::parse),
        reason: errors.optional("reason", search.get("reason"), str::parse),
        object_id: text("object_id"),
        text: text("text"),
        since: errors.optional("since", search.get("since"), time),
        until: errors.optional("until", search.get("until"), time),
        state,
    }
}

/// The chips of the search. `handler` is the name of the handler that is searched for, if it is known.
pub fn search_chips(search: &Fields, handler: Option<&str>) -> Vec<Chip> {
    chips(search, PATH, &SEARCH, |name, value| match name {
        "state" | "reason" => capital(&spaced(value)),
        "handler" => handler.map_or_else(|| value.to_owned(), |name| format!("{name} ({value})")),
        "since" | "until" => searched_time(value),
        _ => value.to_owned(),
    })
}
