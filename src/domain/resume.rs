//! Resumes a redelivered event: handlers that the Execution Logs already have for its run do not run again.

use jiff::Timestamp;

use super::{
    execution::Disposition,
    handler::HandlerId,
    plan::{Attempt, Plan},
};

/// One row of the Execution Logs of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// `None` if the row is about the event and not about a handler (`no_handler`, `duplicate`).
    pub handler: Option<HandlerId>,
    pub disposition: Disposition,
    pub error: Option<String>,
    pub started_at: Timestamp,
    /// SHA-256 of the body that was sent.
    pub request: Vec<u8>,
    /// Whether the handler changed the event for the handlers after it.
    pub modified: bool,
}

/// What is still to do for a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Resumption {
    /// The handlers still to run.
    pub plan: Plan,
    /// Handlers that must not run because a recorded handler forbade the event. They have no record yet.
    pub not_reached: Vec<HandlerId>,
}

/// Keeps the rows of this event, oldest first. `body` is the SHA-256 of its body.
///
/// The publisher chooses the event id. If it gives two events the same id, the records of the first must not mark the
/// second as done, so the body is compared too. Handlers after one that changed the event received another body, so
/// the rows after such a row are accepted without the comparison.
pub fn of_this_event(mut rows: Vec<Recorded>, body: &[u8]) -> Vec<Recorded> {
    rows.sort_by_key(|row| row.started_at);
    let mut changed = false;
    rows.retain(|row| {
        let is_ours = row.request == body || changed;
        changed |= is_ours && row.modified;
        is_ours
    });
    rows
}

/// Computes what is left of `plan` after the rows `recorded`.
///
/// `halts` says whether a failure of a handler at that time moved the rest of the plan to the copy or dead letter. If
/// this is uncertain it returns false, and the rest runs, perhaps a second time.
pub fn resume(
    plan: &Plan,
    recorded: &[Recorded],
    halts: impl Fn(HandlerId, Timestamp) -> bool,
    intercepts: impl Fn(HandlerId) -> bool,
) -> Resumption {
    let handlers: Vec<HandlerId> = plan.handlers().collect();
    let rows_of = |id| recorded.iter().filter(move |row| row.handler == Some(id));
    let forbade = |id| rows_of(id).any(|row| row.disposition == Disposition::Forbidden);
    let transferred_rest = |id| {
        let retried_or_given_up = [Disposition::Retrying, Disposition::DeadLettered];
        rows_of(id).any(|row| retried_or_given_up.contains(&row.disposition) && halts(id, row.started_at))
    };
    // The delivery ended with this handler.
    let last = handlers.iter().position(|id| forbade(*id) || transferred_rest(*id));
    let (reached, after_last) = handlers.split_at(last.map_or(handlers.len(), |last| last + 1));
    let is_forbidden = reached.last().is_some_and(|id| forbade(*id));

    let unrecorded = |id: &HandlerId| rows_of(*id).next().is_none();
    let last_open = reached.iter().rposition(unrecorded);
    // The logs do not contain what an intercept handler changed, so it runs again if handlers after it still have to
    // run.
    let must_run_again = |index: usize, id: HandlerId| {
        intercepts(id)
            && last_open.is_some_and(|last| index < last)
            && rows_of(id).any(|row| row.disposition == Disposition::Done)
    };
    let remaining: Vec<HandlerId> = reached
        .iter()
        .enumerate()
        .filter(|(index, id)| unrecorded(id) || must_run_again(*index, **id))
        .map(|(_, id)| *id)
        .collect();
    let is_first = !remaining.is_empty() && remaining.first() == handlers.first();
    let attempt = if is_first { plan.first_attempt() } else { Attempt::FIRST };
    Resumption {
        plan: Plan::beginning_at(plan.planned().filter(|planned| remaining.contains(&planned.id)), attempt),
        not_reached: if is_forbidden {
            after_last.iter().copied().filter(unrecorded).collect()
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

    /// Resumes a plan of handlers 1 to 4 at attempt 3; 2 halts, 3 intercepts (and so halts).
    fn resumed(recorded: &[(i64, Disposition)]) -> (String, u32, Vec<i64>) {
        let plan = Plan::from_headers("1,2,3,4", 3).expect("a plan");
        let rows: Vec<_> = recorded.iter().map(|(id, disposition)| row(*id, *disposition)).collect();
        let halts = |id: HandlerId, _| [2, 3].contains(&id.0);
        let Resumption { plan, not_reached } = resume(&plan, &rows, halts, |id| id.0 == 3);
        let attempt = plan.first_attempt().number();
        (plan.to_string(), attempt, not_reached.into_iter().map(|id| id.0).collect())
    }

    #[test]
    fn recorded_handlers_are_left_out() {
        for (recorded, plan, attempt, not_reached) in [
            (&[][..], "1,2,3,4", 3, &[][..]),
            (&[(1, Done)], "2,3,4", 1, &[]),
            (&[(2, Done)], "1,3,4", 3, &[]),
            (&[(1, Retrying), (2, HandlerOff)], "3,4", 1, &[]),
            (&[(1, DeadLettered), (2, Done), (3, Done), (4, Retrying)], "", 1, &[]),
            // A failed handler with `halt` moved the rest to its copy; a handler before it may be unrecorded.
            (&[(1, Done), (2, Retrying)], "", 1, &[]),
            (&[(2, DeadLettered)], "1", 3, &[]),
            // An intercept handler runs again if a handler after it is left.
            (&[(1, Done), (2, Done), (3, Done)], "3,4", 1, &[]),
            (&[(1, Done), (3, Done), (4, Done)], "2", 1, &[]),
            (&[(2, Done), (3, Done), (4, Done)], "1", 3, &[]),
            (&[(1, Done), (2, Done), (3, HandlerOff)], "4", 1, &[]),
            // A forbid ends the delivery.
            (&[(1, Done), (2, Done), (3, Forbidden)], "", 1, &[4]),
            (&[(1, Done), (2, Done), (3, Forbidden), (4, NotReached)], "", 1, &[]),
            (&[(1, Done), (3, Forbidden)], "2", 1, &[4]),
        ] {
            assert_eq!(resumed(recorded), (plan.to_owned(), attempt, not_reached.to_vec()), "{recorded:?}");
        }
    }

    #[test]
    fn rows_of_another_event_with_the_same_id_are_ignored() {
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
