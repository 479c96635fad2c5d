//! Each demand of the checker can fail.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    checker::{Allowed, Verdict, judge},
    facts::{DeadLetter, Execution, Facts},
    receivers::Call,
};

const HANDLERS: [(i64, &str); 4] = [(1, "steady"), (2, "flaky"), (3, "gate"), (4, "last")];

fn execution(event: u64, handler: i64) -> Execution {
    Execution {
        was_refused: false,
        id: format!("{event}-{handler}"),
        event_id: format!("e{event}"),
        handler: Some(handler),
        attempt: 1,
        disposition: "done".to_owned(),
    }
}

fn call(event: u64, handler: i64) -> Call {
    Call { event_id: format!("e{event}"), handler, attempt: 1 }
}

fn dead_letter(event: u64, handler: i64, plan: &[i64]) -> DeadLetter {
    DeadLetter {
        event_id: Some(format!("e{event}")),
        run_id: Some(format!("e{event}")),
        handler: Some(handler),
        reason: "permanent".to_owned(),
        plan: plan.to_vec(),
    }
}

/// Events 0, 1 and 2 of which everything ended well.
fn good() -> Facts {
    let pairs = || (0..3).flat_map(|event| HANDLERS.map(|(handler, _)| (event, handler)));
    Facts {
        confirmed: BTreeSet::from([0, 1, 2]),
        handlers: BTreeMap::from(HANDLERS),
        executions: pairs().map(|(event, handler)| execution(event, handler)).collect(),
        calls: pairs().map(|(event, handler)| call(event, handler)).collect(),
        ..Facts::default()
    }
}

fn judged(change: impl FnOnce(&mut Facts)) -> Verdict {
    let mut facts = good();
    change(&mut facts);
    judge(&facts, Allowed::default())
}

#[test]
fn a_run_that_ended_well_has_no_fault() {
    let verdict = judged(|_| {});
    assert_eq!((verdict.confirmed, verdict.ended, verdict.lost, verdict.repeated), (3, 3, 0, 0));
    assert!(verdict.wrong.is_empty(), "{:?}", verdict.wrong);
}

#[test]
fn every_demand_can_fail() {
    type Change = fn(&mut Facts);
    let demands: [(&str, Change); 10] = [
        ("LOST: e7 has no end", |facts| assert!(facts.confirmed.insert(7))),
        ("LOST: e2 has no end for [\"last\"]", |facts| drop(facts.executions.pop())),
        ("1 ends are missing", |facts| facts.missing = 1),
        ("1 execution ids are in the table twice", |facts| facts.executions.push(execution(1, 1))),
        ("1 dead letters are there twice", |facts| {
            facts.dead_letters = vec![dead_letter(7, 2, &[2]), dead_letter(7, 2, &[2])];
        }),
        ("1 dead letters are not earned", |facts| facts.dead_letters.push(dead_letter(1, 2, &[2]))),
        ("1 calls were repeated", |facts| facts.calls.push(call(1, 1))),
        ("1 calls are not recorded", |facts| facts.calls.push(call(8, 1))),
        ("1 calls are recorded that no handler saw", |facts| drop(facts.calls.pop())),
        ("1 handlers ended twice", |facts| {
            facts.executions.push(Execution { id: "another".to_owned(), ..execution(1, 1) });
        }),
    ];
    for (expected, change) in demands {
        let wrong = judged(change).wrong;
        assert!(wrong.iter().any(|wrong| wrong.contains(expected)), "{expected:?} is not told: {wrong:?}");
    }
}

#[test]
fn a_dead_letter_answers_for_its_whole_plan() {
    let verdict = judged(|facts| {
        facts.confirmed.insert(9);
        facts.executions.extend([execution(9, 1), execution(9, 2)]);
        facts.calls.extend([call(9, 1), call(9, 2)]);
        facts.dead_letters.push(dead_letter(9, 3, &[3, 4]));
    });
    assert_eq!((verdict.lost, verdict.ended), (0, 4), "{:?}", verdict.wrong);
}

#[test]
fn events_lost_with_a_deleted_queue_are_counted_separately() {
    let mut facts = good();
    facts.confirmed.insert(7);
    facts.may_be_lost.insert(7);
    let verdict = judge(&facts, Allowed { lost_with_queue: 1, ..Allowed::default() });
    assert_eq!((verdict.confirmed, verdict.ended, verdict.lost_with_queue, verdict.lost), (4, 3, 1, 0));
    assert!(verdict.wrong.is_empty(), "{:?}", verdict.wrong);
    assert!(!judge(&facts, Allowed::default()).wrong.is_empty(), "but only as many as it can have held");
}
