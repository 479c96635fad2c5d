//! Where a delivery that came again goes on: what the Execution Logs hold of its run is not done twice.

use jiff::Timestamp;

use super::{
    execution::Disposition,
    handler::HandlerId,
    plan::{Attempt, Plan},
};

/// What one row of the Execution Logs says of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// None where no handler is concerned (`no_handler`, `duplicate`).
    pub handler: Option<HandlerId>,
    pub disposition: Disposition,
    pub error: Option<String>,
    pub started_at: Timestamp,
    /// SHA-256 of the body that was sent.
    pub request: Vec<u8>,
    /// The handler changed the event for those after it.
    pub modified: bool,
}

/// What is left to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Resumption {
    /// The handlers to run.
    pub plan: Plan,
    /// Handlers that a recorded forbid keeps from running, and of which nothing is recorded yet.
    pub not_reached: Vec<HandlerId>,
}

/// The rows that are of this very event, `body` being the SHA-256 of its body; oldest first.
///
/// An event's id is its publisher's word. One who gives several events the same id would otherwise
/// have the second taken for done because the first is. Handlers after one that changed the event
/// were sent another body: these rows are believed.
pub fn of_this_event(mut rows: Vec<Recorded>, body: &[u8]) -> Vec<Recorded> {
    rows.sort_by_key(|row| row.started_at);
    let mut changed = false;
    rows.retain(|row| {
        let ours = row.request == body || changed;
        changed |= ours && row.modified;
        ours
    });
    rows
}

/// What is left of `plan` after `recorded`. `halts` tells of a handler whose failure at that moment
/// moved the rest of the plan into the copy or the dead letter; where that is not certain it says no,
/// and the rest runs, perhaps once more.
pub fn resume(
    plan: &Plan,
    recorded: &[Recorded],
    halts: impl Fn(HandlerId, Timestamp) -> bool,
    intercepts: impl Fn(HandlerId) -> bool,
) -> Resumption {
    let handlers: Vec<HandlerId> = plan.handlers().collect();
    let rows_of = |id| recorded.iter().filter(move |row| row.handler == Some(id));
    let forbade = |id| rows_of(id).any(|row| row.disposition == Disposition::Forbidden);
    let moved = |id| {
        let left = [Disposition::Retrying, Disposition::DeadLettered];
        rows_of(id).any(|row| left.contains(&row.disposition) && halts(id, row.started_at))
    };
    // The delivery ended with this one.
    let last = handlers.iter().position(|id| forbade(*id) || moved(*id));
    let (reached, beyond) = handlers.split_at(last.map_or(handlers.len(), |last| last + 1));
    let is_forbidden = reached.last().is_some_and(|id| forbade(*id));

    let unrecorded = |id: &HandlerId| rows_of(*id).next().is_none();
    let last_open = reached.iter().rposition(unrecorded);
    // What an intercept handler made of the event is not in the logs: it is asked again for those after it.
    let asked_again = |place: usize, id: HandlerId| {
        intercepts(id)
            && last_open.is_some_and(|last| place < last)
            && rows_of(id).any(|row| row.disposition == Disposition::Done)
    };
    let left: Vec<HandlerId> = reached
        .iter()
        .enumerate()
        .filter(|(place, id)| unrecorded(id) || asked_again(*place, **id))
        .map(|(_, id)| *id)
        .collect();
    let is_first = !left.is_empty() && left.first() == handlers.first();
    let attempt = if is_first { plan.first_attempt() } else { Attempt::FIRST };
    Resumption {
        plan: Plan::beginning_at(plan.planned().filter(|planned| left.contains(&planned.id)), attempt),
        not_reached: if is_forbidden {
            beyond.iter().copied().filter(unrecorded).collect()
        } else {
            Vec::new()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Disposition::{DeadLettered, Done, Forbidden, HandlerOff, NotReached, Retrying};

    fn row(handler: i64, disposition: Disposition) -> Recorded {
        Recorded {
            handler: Some(HandlerId(handler)),
            disposition,
            error: None,
            started_at: Timestamp::UNIX_EPOCH,
            request: Vec::new(),
            modified: false,
        }
    }

    /// Handlers 1 to 4 at attempt 3; 2 halts, 3 intercepts (and so halts).
    fn left(recorded: &[(i64, Disposition)]) -> (String, u32, Vec<i64>) {
        let plan = Plan::from_headers("1,2,3,4", 3).expect("a plan");
        let rows: Vec<_> = recorded.iter().map(|(id, how)| row(*id, *how)).collect();
        let halts = |id: HandlerId, _| [2, 3].contains(&id.0);
        let Resumption { plan, not_reached } = resume(&plan, &rows, halts, |id| id.0 == 3);
        let attempt = plan.first_attempt().number();
        (plan.to_string(), attempt, not_reached.into_iter().map(|id| id.0).collect())
    }

    #[test]
    fn what_is_recorded_is_left_out() {
        for (recorded, plan, attempt, not_reached) in [
            (&[][..], "1,2,3,4", 3, &[][..]),
            (&[(1, Done)], "2,3,4", 1, &[]),
            (&[(2, Done)], "1,3,4", 3, &[]),
            (&[(1, Retrying), (2, HandlerOff)], "3,4", 1, &[]),
            (&[(1, DeadLettered), (2, Done), (3, Done), (4, Retrying)], "", 1, &[]),
            // A halted handler took the rest along; what came before it may be unrecorded.
            (&[(1, Done), (2, Retrying)], "", 1, &[]),
            (&[(2, DeadLettered)], "1", 3, &[]),
            // An intercept handler is asked again if somebody after it is left.
            (&[(1, Done), (2, Done), (3, Done)], "3,4", 1, &[]),
            (&[(1, Done), (3, Done), (4, Done)], "2", 1, &[]),
            (&[(2, Done), (3, Done), (4, Done)], "1", 3, &[]),
            (&[(1, Done), (2, Done), (3, HandlerOff)], "4", 1, &[]),
            // A forbid ends the delivery.
            (&[(1, Done), (2, Done), (3, Forbidden)], "", 1, &[4]),
            (&[(1, Done), (2, Done), (3, Forbidden), (4, NotReached)], "", 1, &[]),
            (&[(1, Done), (3, Forbidden)], "2", 1, &[4]),
        ] {
            assert_eq!(left(recorded), (plan.to_owned(), attempt, not_reached.to_vec()), "{recorded:?}");
        }
    }

    #[test]
    fn rows_of_another_event_with_the_same_id_are_not_believed() {
        let sent = |second: i64, request: &str, modified| Recorded {
            started_at: Timestamp::from_second(second).expect("a time"),
            request: request.into(),
            modified,
            ..row(second, Done)
        };
        let ids = |rows: Vec<Recorded>| -> Vec<i64> {
            of_this_event(rows, b"mine").iter().filter_map(|row| row.handler).map(|id| id.0).collect()
        };
        assert_eq!(ids(vec![sent(2, "mine", false), sent(1, "other", true)]), [2]);
        assert_eq!(
            ids(vec![sent(3, "changed", false), sent(2, "mine", true), sent(1, "mine", false)]),
            [1, 2, 3]
        );
    }
}
