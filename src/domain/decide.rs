//! Decides what follows from the outcome of an attempt: done, retry, or give up.

use std::time::Duration;

use super::{
    dead_letter::Reason,
    handler::OnFailure,
    outcome::{FailureKind, Outcome},
    plan::{Plan, Step},
    retry::{RetryPolicy, ladder_delay},
};

/// What to do after one attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The handler has nothing more to do.
    Done,
    /// Publish a copy with this plan, to be delivered after `delay`.
    Retry { plan: Plan, delay: Duration, rest: Remaining },
    /// Publish a dead letter with this plan.
    GiveUp { reason: Reason, plan: Plan, rest: Remaining },
}

/// Who runs the handlers that follow in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// This delivery continues with them.
    Kept,
    /// They move to the copy or the dead letter, and this delivery ends.
    Transferred,
}

/// Decides what to do after the attempt `step`, which ended as `outcome`; `rest_of_plan` has the steps after it. A
/// deferred attempt is not counted: a handler is not given up before it has had all its attempts, however long it
/// waits.
pub fn decide(
    outcome: &Outcome,
    step: Step,
    rest_of_plan: &Plan,
    on_failure: OnFailure,
    policy: &RetryPolicy,
) -> Decision {
    let (plan_of, rest): (fn(&Plan, Step) -> Plan, Remaining) = match on_failure {
        OnFailure::Continue => (|_, step| Plan::only(step), Remaining::Kept),
        OnFailure::Halt => (Plan::with_first, Remaining::Transferred),
    };
    match outcome {
        Outcome::Succeeded { .. } | Outcome::Forbidden { .. } => Decision::Done,
        Outcome::PutOff { wait, .. } => {
            let delay = ladder_delay((*wait).max(Duration::from_secs(1)));
            // The copy has the same attempt number.
            Decision::Retry { plan: plan_of(rest_of_plan, step), delay, rest }
        }
        Outcome::Failed { failure, .. } => {
            let plan = plan_of(rest_of_plan, step);
            match failure.kind {
                FailureKind::Permanent => Decision::GiveUp { reason: Reason::Permanent, plan, rest },
                FailureKind::Transient if step.attempt.number() >= policy.max_attempts => {
                    Decision::GiveUp { reason: Reason::Exhausted, plan, rest }
                }
                FailureKind::Transient => {
                    let next_step = Step { attempt: step.attempt.next(), ..step };
                    let delay = policy.delay_after(step.attempt.number(), failure.retry_after);
                    Decision::Retry { plan: plan_of(rest_of_plan, next_step), delay, rest }
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

    /// The decision for handler 5 at `attempt`, with handlers 6 and 7 after it.
    fn decide_for_handler_5(outcome: &Outcome, attempt: u32, on_failure: OnFailure) -> Decision {
        let mut rest_of_plan = plan("5,6,7", attempt);
        let step = rest_of_plan.take_next().expect("handler 5");
        assert_eq!(step.handler, HandlerId(5));
        decide(outcome, step, &rest_of_plan, on_failure, &policy())
    }

    #[test]
    fn every_outcome_has_a_decision() {
        use FailureKind::{Permanent, Transient};
        use OnFailure::{Continue, Halt};
        use Remaining::{Kept, Transferred};
        let ok = Outcome::Succeeded { response: Response::default(), answer: None };
        let forbidden = Outcome::Forbidden { reason: "debt".into(), response: Response::default() };
        let deferred = Outcome::PutOff { error: "busy".into(), wait: Duration::ZERO, is_failing: false };
        let circuit_open =
            Outcome::PutOff { error: "circuit open".into(), wait: Duration::from_secs(9), is_failing: true };
        let retry = |ids, attempt, secs, rest| Decision::Retry {
            plan: plan(ids, attempt),
            delay: Duration::from_secs(secs),
            rest,
        };
        let give_up =
            |reason, ids, attempt, rest| Decision::GiveUp { reason, plan: plan(ids, attempt), rest };
        for (outcome, attempt, on_failure, expected) in [
            (&ok, 1, Continue, Decision::Done),
            (&ok, 3, Halt, Decision::Done),
            (&forbidden, 1, Halt, Decision::Done),
            (&failed(Transient), 1, Continue, retry("5", 2, 1, Kept)),
            (&failed(Transient), 2, Halt, retry("5,6,7", 3, 2, Transferred)),
            (&failed(Transient), 3, Continue, give_up(Reason::Exhausted, "5", 3, Kept)),
            (&failed(Transient), 3, Halt, give_up(Reason::Exhausted, "5,6,7", 3, Transferred)),
            (&failed(Permanent), 1, Continue, give_up(Reason::Permanent, "5", 1, Kept)),
            (&failed(Permanent), 1, Halt, give_up(Reason::Permanent, "5,6,7", 1, Transferred)),
            (&deferred, 2, Continue, retry("5", 2, 1, Kept)),
            (&deferred, 2, Halt, retry("5,6,7", 2, 1, Transferred)),
            (&circuit_open, 3, Continue, retry("5", 3, 9, Kept)),
        ] {
            assert_eq!(
                decide_for_handler_5(outcome, attempt, on_failure),
                expected,
                "{outcome:?} at {attempt}, {on_failure}"
            );
        }
    }
}
