//! The search for executions: from the query string to a filter.

use jiff::{Timestamp, ToSpan as _};

use crate::{
    console::pages::{
        fields::{Errors, Fields},
        format::{capital, moment, spaced},
        lists::{Chip, chips},
    },
    domain::{
        event::EventId,
        time::{InvalidMoment, parse_moment},
    },
    store::ExecutionFilter,
};

pub const PATH: &str = "/executions";

/// The search fields: the name in the query string, and its label.
pub const SEARCH: [(&str, &str); 10] = [
    ("data", "Data"),
    ("status", "Status"),
    ("disposition", "Disposition"),
    ("event", "Event"),
    ("handler", "Handler"),
    ("object_id", "Object ID"),
    ("event_id", "Event ID"),
    ("error", "Error"),
    ("since", "From"),
    ("until", "To"),
];

/// Parses the filter. An invalid field is added to `errors` and left out of the filter.
pub fn filter(search: &Fields, errors: &mut Errors) -> ExecutionFilter {
    let text = |name: &str| Some(search.get(name).to_owned()).filter(|text| !text.is_empty());
    ExecutionFilter {
        status: errors.optional("status", search.get("status"), str::parse),
        disposition: errors.optional("disposition", search.get("disposition"), str::parse),
        event: errors.optional("event", search.get("event"), str::parse),
        handler: errors.optional("handler", search.get("handler"), str::parse),
        object_id: text("object_id"),
        event_id: text("event_id").map(|id| EventId::from_message_id(&id)),
        data: text("data"),
        error: text("error"),
        since: errors.optional("since", search.get("since"), time),
        until: errors.optional("until", search.get("until"), time),
    }
}

/// Parses a time from a field of type `datetime-local`, or in any other format that provisiond accepts.
pub fn time(text: &str) -> Result<Timestamp, InvalidMoment> {
    parse_moment(text, Timestamp::now())
}

/// The chips of the search. `handler` is the name of the handler that is searched for, if it is known.
pub fn search_chips(search: &Fields, handler: Option<&str>) -> Vec<Chip> {
    chips(search, PATH, &SEARCH, |name, value| match name {
        "status" => capital(value),
        "disposition" => spaced(value),
        "handler" => handler.map_or_else(|| value.to_owned(), |name| format!("{name} ({value})")),
        "since" | "until" => searched_time(value),
        _ => value.to_owned(),
    })
}

/// A time of a search, as a chip shows it: in UTC, or as it was typed if it counts from now (`2h`).
pub fn searched_time(value: &str) -> String {
    let (now, later) = (Timestamp::now(), Timestamp::now() + 1.hour());
    match (parse_moment(value, now), parse_moment(value, later)) {
        (Ok(at), Ok(same)) if at == same => format!("{} UTC", moment(at)),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_shows_the_zone_of_a_time_once() {
        for (typed, expected) in [
            ("2026-01-31T12:30", "2026-01-31 12:30:00 UTC"),
            ("2026-01-31T12:30:00Z", "2026-01-31 12:30:00 UTC"),
            ("2026-01-31 12:30z", "2026-01-31 12:30:00 UTC"),
            ("2026-01-31T12:30:00+01:00", "2026-01-31 11:30:00 UTC"),
            ("2026-01-31T12:30:00-01:00", "2026-01-31 13:30:00 UTC"),
            ("2026-01-31", "2026-01-31 00:00:00 UTC"),
            ("2h", "2h"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(searched_time(typed), expected);
        }
    }

    #[test]
    fn times_without_a_zone_are_utc() {
        for (typed, expected) in [
            ("2026-01-31T12:30", "2026-01-31T12:30:00Z"),
            ("2026-01-31T12:30:05", "2026-01-31T12:30:05Z"),
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31T12:30:00+01:00", "2026-01-31T11:30:00Z"),
        ] {
            assert_eq!(time(typed).expect(typed).to_string(), expected);
        }
        assert!(time("soon").is_err());
    }

    #[test]
    fn each_error_belongs_to_its_field() {
        let mut errors = Errors::default();
        let search = Fields::parse(b"status=odd&since=soon&data=+x+");
        let filter = filter(&search, &mut errors);
        assert!(!errors.of("status").is_empty() && !errors.of("since").is_empty());
        assert_eq!((filter.data.as_deref(), filter.status), (Some("x"), None));
    }
}
