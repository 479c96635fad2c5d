//! What follows from an outcome.

use std::time::Duration;

use super::{
    dead_letter::Reason,
    handler::OnFailure,
    outcome::{FailureKind, Outcome},
    plan::{Plan, Step},
    retry::{RetryPolicy, ladder_delay},
};

/// What is to be done about one attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The handler ended well.
    Done,
    /// Publish a copy with this plan, to arrive after `delay`.
    Retry { plan: Plan, delay: Duration, rest: Rest },
    /// Publish a dead letter with this plan.
    GiveUp { reason: Reason, plan: Plan, rest: Rest },
}

/// Who runs the handlers after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// This delivery goes on with them.
    Here,
    /// They went into the copy or the dead letter: this delivery ends.
    Moved,
}

/// Decides about the attempt `step` that ended as `outcome`, with `after` still to run. An attempt that was not made is
/// not counted, and nothing is given up without the attempts that it was promised, however long it waits.
pub fn decide(
    outcome: &Outcome,
    step: Step,
    after: &Plan,
    on_failure: OnFailure,
    policy: &RetryPolicy,
) -> Settlement {
    let (plan_of, rest): (fn(&Plan, Step) -> Plan, Rest) = match on_failure {
        OnFailure::Continue => (|_, step| Plan::only(step), Rest::Here),
        OnFailure::Halt => (Plan::with_first, Rest::Moved),
    };
    match outcome {
        Outcome::Succeeded { .. } | Outcome::Forbidden { .. } => Settlement::Done,
        Outcome::PutOff { wait, .. } => {
            let delay = ladder_delay((*wait).max(Duration::from_secs(1)));
            // The copy carries the same attempt number.
            Settlement::Retry { plan: plan_of(after, step), delay, rest }
        }
        Outcome::Failed { failure, .. } => {
            let plan = plan_of(after, step);
            match failure.kind {
                FailureKind::Permanent => Settlement::GiveUp { reason: Reason::Permanent, plan, rest },
                FailureKind::Transient if step.attempt.number() >= policy.max_attempts => {
                    Settlement::GiveUp { reason: Reason::Exhausted, plan, rest }
                }
                FailureKind::Transient => {
                    let again = Step { attempt: step.attempt.next(), ..step };
                    let delay = policy.delay_after(step.attempt.number(), failure.retry_after);
                    Settlement::Retry { plan: plan_of(after, again), delay, rest }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{handler::HandlerId, outcome::Response};

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 3,
            initial_interval: Duration::from_secs(1),
            multiplier: 2.0,
            max_interval: Duration::from_mins(1),
            jitter: 0.0,
        }
    }

    fn plan(handlers: &str, attempt: u32) -> Plan {
        Plan::from_headers(handlers, attempt).expect("a plan")
    }

    fn failed(kind: FailureKind) -> Outcome {
        Outcome::failed(kind, "no", None)
    }

    /// The settlement for handler 5 at `attempt`, with handlers 6 and 7 after it.
    fn settle(outcome: &Outcome, attempt: u32, on_failure: OnFailure) -> Settlement {
        let mut after = plan("5,6,7", attempt);
        let step = after.take_next().expect("handler 5");
        assert_eq!(step.handler, HandlerId(5));
        decide(outcome, step, &after, on_failure, &policy())
    }

    #[test]
    fn every_outcome_has_its_settlement() {
        use FailureKind::{Permanent, Transient};
        use OnFailure::{Continue, Halt};
        use Rest::{Here, Moved};
        let ok = Outcome::Succeeded { response: Response::default(), answer: None };
        let forbidden = Outcome::Forbidden { reason: "debt".into(), response: Response::default() };
        let put_off = Outcome::PutOff { error: "busy".into(), wait: Duration::ZERO, is_failing: false };
        let refused =
            Outcome::PutOff { error: "circuit open".into(), wait: Duration::from_secs(9), is_failing: true };
        let retry = |ids, attempt, secs, rest| Settlement::Retry {
            plan: plan(ids, attempt),
            delay: Duration::from_secs(secs),
            rest,
        };
        let give_up =
            |reason, ids, attempt, rest| Settlement::GiveUp { reason, plan: plan(ids, attempt), rest };
        for (outcome, attempt, on_failure, expected) in [
            (&ok, 1, Continue, Settlement::Done),
            (&ok, 3, Halt, Settlement::Done),
            (&forbidden, 1, Halt, Settlement::Done),
            (&failed(Transient), 1, Continue, retry("5", 2, 1, Here)),
            (&failed(Transient), 2, Halt, retry("5,6,7", 3, 2, Moved)),
            (&failed(Transient), 3, Continue, give_up(Reason::Exhausted, "5", 3, Here)),
            (&failed(Transient), 3, Halt, give_up(Reason::Exhausted, "5,6,7", 3, Moved)),
            (&failed(Permanent), 1, Continue, give_up(Reason::Permanent, "5", 1, Here)),
            (&failed(Permanent), 1, Halt, give_up(Reason::Permanent, "5,6,7", 1, Moved)),
            (&put_off, 2, Continue, retry("5", 2, 1, Here)),
            (&put_off, 2, Halt, retry("5,6,7", 2, 1, Moved)),
            (&refused, 3, Continue, retry("5", 3, 9, Here)),
        ] {
            assert_eq!(
                settle(outcome, attempt, on_failure),
                expected,
                "{outcome:?} at {attempt}, {on_failure}"
            );
        }
    }
}
