//! One attempt: waits for a slot, asks the circuit breaker, calls the handler and judges the answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::time::timeout_at;
use tracing::{debug, info};

use super::{
    admission::Admission,
    attempted::Attempted,
    breaker::{Breakers, Rejected},
    event_run::EventRun,
    registry::Registered,
    slots::{Slot, Slots},
    watchdog::Watchdog,
};
use crate::{
    domain::{
        outcome::{FailureKind, Outcome},
        plan::{Created, Step},
        resume::Recorded,
        trace::Trace,
        verdict::{Verdict, answer_limit, judge},
    },
    runner::{Call, Runner},
    telemetry::metrics::{AttemptOutcome, HandlerMeters},
    telemetry::traces::Span,
};

/// How long a deferred attempt waits on average before it is tried again.
const DEFERRAL: Duration = Duration::from_secs(30);
/// Longest delay of an attempt that was deferred because the circuit is open.
const MAX_CIRCUIT_WAIT: Duration = Duration::from_mins(5);

/// After a wait for a slot this long, check whether another worker has run the handler.
///
/// The connection may have died unnoticed, or the process may have been suspended. Then the broker
/// redelivered the event to another worker.
const LONG_WAIT: Duration = Duration::from_secs(10);

/// Makes the attempts of a worker.
pub(super) struct Attempts {
    pub runner: Arc<Runner>,
    pub slots: Slots,
    pub breakers: Breakers,
    pub meters: HandlerMeters,
    pub watchdog: Arc<Watchdog>,
}

/// The result of one step of the plan.
pub(super) enum StepResult {
    /// The attempt was made or deferred; with the handler as it was at that time.
    Attempted(Arc<Registered>, Box<Attempted>),
    /// The handler is not enabled for this event any more.
    Disabled,
    /// Another handler has this id now, as after a restore of the database from a backup.
    Replaced,
    /// Another delivery of this run finished the handler during the wait for a slot. Holds the recorded rows.
    EndedElsewhere(Vec<Recorded>),
    /// No slot came free before this delivery must end, because of a drain or its deadline.
    DeadlineReached,
}

impl Attempts {
    /// Runs one step of the plan: waits for a slot, asks the circuit breaker and calls the handler.
    pub(super) async fn run_step(&self, run: &EventRun<'_>, step: Step, admission: &Admission) -> StepResult {
        let context = run.context;
        let current = || context.registry.snapshot().enabled(step.handler, &run.event.name);
        let Some(handler) = current() else { return StepResult::Disabled };
        if !step.created.may_be(Created::at(handler.handler.created_at)) {
            return StepResult::Replaced;
        }
        let (waiting, wait_started) = (run.queue.wait(), Instant::now());
        let slot = tokio::select! {
            biased;
            () = context.draining.cancelled() => return StepResult::DeadlineReached,
            slot = timeout_at(run.deadline().into(), self.slots.acquire(&handler.handler)) => slot,
        };
        drop(waiting);
        let Ok(slot) = slot else { return StepResult::DeadlineReached };
        if wait_started.elapsed() > LONG_WAIT {
            let recorded = admission.ended_meanwhile(run).await;
            if recorded.iter().any(|row| row.handler == Some(step.handler)) {
                return StepResult::EndedElsewhere(recorded);
            }
        }
        // The handler may have been changed or disabled during the wait for a slot.
        let Some(handler) = current() else { return StepResult::Disabled };
        let (started_at, clock) = (Timestamp::now(), Instant::now());
        let permit = match &handler.unusable {
            Some(why) => Err(deferred(format!("not called: {why}"))),
            None => self.breakers.permit(&handler.handler).map_err(|rejected| rejected_call(run, rejected)),
        };
        let mut trace = None;
        let (outcome, verdict) = match (slot, permit) {
            (Slot::Free(_slot), Ok(permit)) => {
                let span = span(run, &handler, step);
                trace = span.as_ref().map(|span| span.trace().clone());
                let outcome = self.call(run, &handler, step, trace.as_ref()).await;
                match &outcome {
                    Outcome::Failed { failure, .. } if failure.kind == FailureKind::Transient => {
                        permit.failed(&failure.error);
                    }
                    // No call was made, so there is no result for the breaker.
                    Outcome::PutOff { .. } => drop(permit),
                    _ => permit.answered(),
                }
                let judged = judge(outcome, handler.handler.spec.mode, &run.event, context.max_event_bytes);
                if let Some(span) = span {
                    span.end(&judged.0);
                }
                judged
            }
            (_, Err(outcome)) => (outcome, Verdict::Allow),
            (Slot::Busy, Ok(_)) => {
                let error =
                    "deferred: no slot was free within 30s (max_concurrency, or half of script.concurrency)";
                (deferred(error.to_owned()), Verdict::Allow)
            }
        };
        let attempted = Attempted { outcome, verdict, started_at, duration: clock.elapsed(), trace };
        self.count(run, &handler, &attempted);
        log(run, &handler, &attempted);
        StepResult::Attempted(handler, Box::new(attempted))
    }

    async fn call(
        &self,
        run: &EventRun<'_>,
        handler: &Registered,
        step: Step,
        trace: Option<&Trace>,
    ) -> Outcome {
        let trace = trace.unwrap_or(&run.trace);
        let _under_way = self.meters.under_way(handler.handler.spec.task.kind());
        self.runner
            .run(&Call {
                handler: &handler.handler,
                secrets: &handler.secrets,
                event: &run.event,
                attempt: step.attempt,
                timeout: handler.timeout,
                answer_limit: answer_limit(handler.handler.spec.mode, run.context.max_event_bytes),
                traceparent: trace.parent.as_deref(),
                tracestate: trace.state.as_deref(),
            })
            .await
    }

    fn count(&self, run: &EventRun<'_>, handler: &Registered, attempted: &Attempted) {
        let outcome = match &attempted.outcome {
            Outcome::Succeeded { .. } => AttemptOutcome::Success,
            Outcome::Forbidden { .. } => AttemptOutcome::Forbidden,
            Outcome::Failed { failure, .. } if failure.kind == FailureKind::Transient => {
                AttemptOutcome::Transient
            }
            Outcome::Failed { .. } => AttemptOutcome::Permanent,
            Outcome::PutOff { .. } => AttemptOutcome::PutOff,
        };
        self.meters.attempted(handler.handler.id, &run.event.name, outcome);
        if outcome != AttemptOutcome::PutOff {
            run.queue.meters.attempted(handler.handler.spec.task.kind(), attempted.duration);
        }
        self.watchdog.note_attempt();
        run.queue.record_progress();
    }
}

fn deferred(error: String) -> Outcome {
    let wait = DEFERRAL.mul_f64(rand::random_range(0.5..1.5));
    Outcome::PutOff { error, wait, is_failing: false }
}

/// Defers an attempt that the circuit breaker rejected.
///
/// The delay is the one that the breaker suggests, or the time since the first failure if that is longer: so
/// it about doubles each time, up to [`MAX_CIRCUIT_WAIT`]. The time since the first failure may come from
/// another host's clock; the maximum also limits the effect of a wrong clock.
fn rejected_call(run: &EventRun<'_>, rejected: Rejected) -> Outcome {
    let so_far = run.failing_for().min(MAX_CIRCUIT_WAIT);
    let wait = rejected.wait.max(so_far).mul_f64(rand::random_range(1.0..1.5)).min(MAX_CIRCUIT_WAIT);
    Outcome::PutOff { error: rejected.error, wait, is_failing: true }
}

/// Starts the span of an attempt, if traces are exported.
fn span(run: &EventRun<'_>, handler: &Registered, step: Step) -> Option<Span> {
    let traces = run.context.traces.as_ref()?;
    let queue = run.context.outbox.names.event_queue(&run.event.name);
    Some(traces.attempt(&run.trace, &run.event, &queue, &handler.handler, step.attempt))
}

fn log(run: &EventRun<'_>, handler: &Registered, attempted: &Attempted) {
    if let Outcome::PutOff { error, .. } = &attempted.outcome {
        // No attempt was made. The breaker itself logs an open circuit once.
        debug!(error, "deferred attempt");
        return;
    }
    info!(
        name = %handler.handler.spec.name,
        outcome = attempted.outcome.word(),
        error = attempted.error(),
        duration_ms = attempted.duration_ms(),
        trace_id = run.trace.id(),
        "attempt"
    );
}
