//! One attempt: a slot, the call, and the verdict on the event.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::time::timeout_at;
use tracing::{debug, info};

use super::{Worker, breaker::Refused, registry::Registered, run::Run, slots::Slot};
use crate::{
    domain::{
        outcome::{FailureKind, Outcome},
        plan::Step,
        verdict::{Verdict, answer_limit, judge},
    },
    runner::Call,
};

/// How long a handler that is put off waits before it asks for a slot again.
const PUT_OFF: Duration = Duration::from_secs(30);

/// An attempt that was made, or put off.
pub(super) struct Attempted {
    pub outcome: Outcome,
    pub verdict: Verdict,
    pub started_at: Timestamp,
    pub duration: Duration,
}

/// What came of the turn of one step.
pub(super) enum Turn {
    /// The handler as it was called, and how that ended.
    Made(Arc<Registered>, Box<Attempted>),
    /// It is not enabled for this event any more.
    Off,
    /// This delivery must end, and no slot came free before.
    NoTime,
}

/// Takes the turn of `step`: waits for a slot, and makes the attempt.
pub(super) async fn take_turn(worker: &Worker, run: &Run<'_>, step: Step) -> Turn {
    let current = || worker.registry.snapshot().enabled(step.handler, &run.event.name);
    let Some(handler) = current() else { return Turn::Off };
    let slot = tokio::select! {
        biased;
        () = worker.draining.cancelled() => return Turn::NoTime,
        slot = timeout_at(run.deadline().into(), worker.slots.acquire(&handler.handler)) => slot,
    };
    let Ok(slot) = slot else { return Turn::NoTime };
    // It may have been changed, or switched off, while the slot was waited for.
    let Some(handler) = current() else { return Turn::Off };
    let (started_at, clock) = (Timestamp::now(), Instant::now());
    let pass = match &handler.unusable {
        Some(why) => Err(put_off(format!("not called: {why}"))),
        None => worker.breakers.pass(&handler.handler).map_err(|refused| refuse(run, &handler, refused)),
    };
    let (outcome, verdict) = match (slot, pass) {
        (Slot::Free(_held), Ok(pass)) => {
            let outcome = call(worker, run, &handler, step).await;
            match &outcome {
                Outcome::Failed { failure, .. } if failure.kind == FailureKind::Transient => {
                    pass.failed(&failure.error);
                }
                _ => pass.answered(),
            }
            judge(outcome, handler.handler.spec.mode, &run.event, worker.max_event_bytes)
        }
        (_, Err(refused)) => (refused, Verdict::Allow),
        (Slot::Busy, Ok(_)) => {
            let error =
                "no slot came free within 30s (max_concurrency, or its share of script.concurrency): put off";
            (put_off(error.to_owned()), Verdict::Allow)
        }
    };
    let attempted = Attempted { outcome, verdict, started_at, duration: clock.elapsed() };
    log(run, &handler, step, &attempted);
    Turn::Made(handler, Box::new(attempted))
}

fn put_off(error: String) -> Outcome {
    let wait = PUT_OFF.mul_f64(rand::random_range(0.5..1.5));
    Outcome::PutOff { error, wait, is_failing: false }
}

/// Waits until the circuit may be closed, and as long again as it has failed so far: that doubles from
/// time to time.
fn refuse(run: &Run<'_>, handler: &Registered, refused: Refused) -> Outcome {
    let so_far = run.failing_for().min(handler.policy.max_interval);
    let wait = refused.wait.max(so_far).mul_f64(rand::random_range(1.0..1.5));
    Outcome::PutOff { error: refused.error, wait, is_failing: true }
}

async fn call(worker: &Worker, run: &Run<'_>, handler: &Registered, step: Step) -> Outcome {
    worker
        .runner
        .run(&Call {
            handler: &handler.handler,
            secrets: &handler.secrets,
            event: &run.event,
            attempt: step.attempt,
            timeout: handler.timeout,
            answer_limit: answer_limit(handler.handler.spec.mode, worker.max_event_bytes),
            traceparent: run.trace.parent.as_deref(),
            tracestate: run.trace.state.as_deref(),
        })
        .await
}

fn log(run: &Run<'_>, handler: &Registered, step: Step, attempted: &Attempted) {
    let outcome = match &attempted.outcome {
        Outcome::Succeeded { .. } => "success",
        Outcome::Forbidden { .. } => "forbidden",
        Outcome::Failed { .. } => "fail",
        Outcome::PutOff { error, .. } => {
            // No attempt was made; of an open circuit it is told once.
            debug!(event_id = %run.event.id, handler = %handler.handler.id, error, "put off");
            return;
        }
    };
    info!(
        event = %run.event.name,
        event_id = %run.event.id,
        handler = %handler.handler.id,
        name = %handler.handler.spec.name,
        attempt = step.attempt.number(),
        outcome,
        error = attempted.error(),
        duration_ms = u64::try_from(attempted.duration.as_millis()).unwrap_or(u64::MAX),
        "attempt"
    );
}
