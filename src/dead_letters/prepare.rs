//! Builds the replay of a stored message: its event, plan and run id.

use bytes::Bytes;

use crate::{
    domain::{
        dead_letter::DeadLetter,
        event::{Arrival, Event, EventId, EventName, RunId, decode},
        handler::HandlerId,
        plan::Plan,
    },
    store::ReplayItem,
};

/// A replay that is ready to be published.
#[derive(Debug)]
pub(super) struct Prepared {
    pub event: Event,
    pub plan: Plan,
    /// Derived from the item: the same replay published twice is the same run.
    pub run_id: RunId,
}

/// Prepares the replay of an item.
///
/// # Errors
/// Why the replay is refused: the body is not a valid event, or no handler would run.
pub(super) fn prepare(item: &ReplayItem, max_event_bytes: usize) -> Result<Prepared, String> {
    let mut event = read(item, max_event_bytes)?;
    if item.edited {
        // With the old id, receivers would take it for the old event.
        event.id = EventId::of_edited(&item.key, &item.body);
    }
    if item.enabled.is_empty() {
        let ids: Vec<String> = item.plan.iter().map(ToString::to_string).collect();
        let why = match ids.as_slice() {
            [] => format!("no handler is enabled for {}", event.name),
            [one] => format!("handler {one} is not enabled for {}", event.name),
            _ => format!("none of the handlers {} is enabled for {}", ids.join(", "), event.name),
        };
        return Err(format!("{why}{}", reused_ids(&item.replaced)));
    }
    let run_id = RunId::from(event.id.clone()).next(&format!("replay/{}", item.key));
    Ok(Prepared { event, plan: Plan::of(&item.plan, &item.plan_created), run_id })
}

/// The text about planned handlers that no longer exist and whose ids other handlers have now.
pub(super) fn reused_ids(replaced: &[HandlerId]) -> String {
    let ids: Vec<String> = replaced.iter().map(ToString::to_string).collect();
    if ids.is_empty() {
        return String::new();
    }
    format!("; another handler now has the id {}: was the database restored from a backup?", ids.join(", "))
}

fn read(item: &ReplayItem, max_event_bytes: usize) -> Result<Event, String> {
    let name = name_of(&item.event_name)?;
    let known_id = item.event_id.clone().and_then(|id| EventId::try_from(id).ok());
    let arrival = Arrival {
        content_type: item.content_type.as_deref(),
        message_id: item.event_id.as_deref(),
        known_id: known_id.as_ref(),
        ..Arrival::of(&name, &item.body)
    };
    decode(&arrival, max_event_bytes).map_err(|why| {
        let hint =
            if item.edited { "" } else { " (to correct the body: provisiond dead-letters replay --edit)" };
        format!("it is not a valid event: {why}{hint}")
    })
}

fn name_of(name: &str) -> Result<EventName, String> {
    name.parse().map_err(|e| format!("it cannot be replayed: {e}"))
}

/// Decodes the edited `body` of a dead letter.
///
/// # Errors
/// Says what was expected, and where the body differs from it.
pub fn edited_event(
    dead_letter: &DeadLetter,
    content_type: Option<&str>,
    body: &Bytes,
    max_event_bytes: usize,
) -> Result<Event, String> {
    let name = name_of(&dead_letter.event_name)?;
    let arrival = Arrival { content_type, ..Arrival::of(&name, body) };
    decode(&arrival, max_event_bytes).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{handler::HandlerVersions, trace::Trace};

    const BODY: &str =
        r#"{"event":{"dt":"2026-01-01T00:00:00Z","events_id":"clients.create","object_id":1},"data":{}}"#;

    fn item() -> ReplayItem {
        ReplayItem {
            key: "letter-1".into(),
            event_name: "clients.create".into(),
            event_id: Some("e1".into()),
            body: Bytes::from_static(BODY.as_bytes()),
            content_type: Some("application/json".into()),
            edited: false,
            plan: vec![HandlerId(3), HandlerId(4)],
            plan_created: vec![30],
            enabled: HandlerVersions::from_iter([(HandlerId(4), 1)]),
            replaced: Vec::new(),
            trace: Trace::default(),
        }
    }

    #[test]
    fn a_replay_keeps_its_identity_and_its_plan() {
        let first = prepare(&item(), 1000).expect("prepared");
        assert_eq!((first.event.id.as_str(), first.plan.to_string().as_str()), ("e1", "3,4"));
        assert_eq!(first.plan.first_attempt().number(), 1);
        let again = prepare(&item(), 1000).expect("prepared");
        assert_eq!(first.run_id, again.run_id, "published twice, it is one run");
        let other = ReplayItem { key: "letter-2".into(), ..item() };
        assert_ne!(first.run_id, prepare(&other, 1000).expect("prepared").run_id);
        assert_ne!(first.run_id.as_str(), "e1");
    }

    #[test]
    fn an_edited_body_is_another_event() {
        let edited = ReplayItem { edited: true, ..item() };
        let event = prepare(&edited, 1000).expect("prepared").event;
        assert_ne!(event.id.as_str(), "e1");
        assert_eq!(event.id, prepare(&edited, 1000).expect("prepared").event.id);
    }

    #[test]
    fn what_cannot_run_is_refused_with_its_reason() {
        for (item, expected) in [
            (
                ReplayItem { enabled: HandlerVersions::default(), ..item() },
                "none of the handlers 3, 4 is enabled",
            ),
            (
                ReplayItem { enabled: HandlerVersions::default(), plan: Vec::new(), ..item() },
                "no handler is enabled for clients.create",
            ),
            (
                ReplayItem { enabled: HandlerVersions::default(), replaced: vec![HandlerId(3)], ..item() },
                "is enabled for clients.create; another handler now has the id 3",
            ),
            (ReplayItem { body: Bytes::from_static(b"\xff"), ..item() }, "not UTF-8 at byte 0 (to correct"),
            (ReplayItem { event_name: "Strange name".into(), ..item() }, "is not an event name"),
            (ReplayItem { event_name: "clients.update".into(), ..item() }, "published as clients.update"),
        ] {
            let why = prepare(&item, 1000).expect_err(expected);
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn an_event_id_that_is_none_is_derived() {
        let invalid = ReplayItem { event_id: Some("x".repeat(9000)), ..item() };
        assert_eq!(prepare(&invalid, 1000).expect("prepared").event.id.as_str().len(), 36);
    }
}
