//! Handles one delivery, from decoding to the acknowledgement.

use tracing::{Instrument, Span, error_span, field::Empty, record_all, warn};

use super::{
    attempt::StepResult,
    event_run::{EventRun, RunContext},
    queue_state::QueueState,
    requeue::RequeueReason,
    shared::Shared,
};
use crate::{
    broker::{Delivery, handlers_seen},
    domain::{
        decide::{Decision, Remaining, decide},
        plan::Step,
    },
};

/// Handles `delivery` and settles it.
///
/// It is acknowledged once the broker has confirmed everything that was published for it. If that fails, it
/// is requeued.
pub(super) async fn process(shared: &Shared, queue: &QueueState, delivery: Delivery) {
    // Error level, so that no log filter drops the span, and with it the id of the event.
    let span = error_span!("event", event = %queue.event, event_id = Empty, run_id = Empty);
    settle(shared, queue, delivery).instrument(span).await;
}

async fn settle(shared: &Shared, queue: &QueueState, delivery: Delivery) {
    let _held = queue.hold();
    let stuck = queue.requeue_token();
    let handled = tokio::select! {
        handled = handle_delivery(shared, queue, &delivery) => handled,
        () = shared.abort.cancelled() => Err(RequeueReason::Cut),
        () = stuck.cancelled() => Err(RequeueReason::Stuck),
    };
    match handled {
        Ok(()) => {
            delivery.ack.acknowledge();
            queue.note_acknowledged();
        }
        Err(reason) => {
            queue.meters.returned();
            // Both are logged once for the whole queue.
            if !matches!(reason, RequeueReason::NotStarted | RequeueReason::Stuck) {
                warn!(error = format!("{:#}", anyhow::Error::new(reason)), "requeued event");
            }
            delivery.ack.requeue();
        }
    }
}

async fn handle_delivery(
    shared: &Shared,
    queue: &QueueState,
    delivery: &Delivery,
) -> Result<(), RequeueReason> {
    if let Some(seen) = handlers_seen(delivery, &shared.context.outbox.names) {
        shared.context.registry.wait_for_versions(&seen).await;
    }
    let mut run = match EventRun::open(&shared.context, queue, delivery) {
        Ok(run) => run,
        Err(malformed) => {
            let RunContext { outbox, max_event_bytes, .. } = &shared.context;
            return malformed.publish_dead_letter(outbox, *max_event_bytes, delivery).await;
        }
    };
    record_all!(Span::current(), event_id = run.event.id.as_str(), run_id = run.id.as_str());
    run.count_arrival(delivery);
    // Held until this function returns: a redelivery that started before the results are confirmed would find
    // nothing recorded.
    let admitted = shared.admission.admit(&mut run, delivery).await?;
    if admitted.is_some() {
        run_plan(shared, &mut run).await?;
    }
    run.answer().await?;
    run.confirmed().await
}

async fn run_plan(shared: &Shared, run: &mut EventRun<'_>) -> Result<(), RequeueReason> {
    if run.plan.is_empty() {
        run.record_unhandled().await?;
    }
    while let Some(step) = run.next_step() {
        if run.must_end() {
            run.hand_over(step).await?;
            break;
        }
        let attempt = error_span!("attempt", handler = %step.handler, attempt = step.attempt.number());
        if take_step(shared, run, step).instrument(attempt).await? == Remaining::Transferred {
            break;
        }
    }
    Ok(())
}

/// Runs one step and does what follows from it; says whether this delivery goes on with the plan.
async fn take_step(shared: &Shared, run: &mut EventRun<'_>, step: Step) -> Result<Remaining, RequeueReason> {
    let (handler, attempted) = match shared.attempts.run_step(run, step, &shared.admission).await {
        StepResult::Attempted(handler, attempted) => (handler, *attempted),
        StepResult::Disabled => {
            run.record_skipped(step).await?;
            return Ok(Remaining::Kept);
        }
        StepResult::Replaced => {
            run.record_replaced(step).await?;
            return Ok(Remaining::Kept);
        }
        StepResult::EndedElsewhere(recorded) => {
            run.plan = run.plan.with_first(step);
            let has_steps = run.resume(Some(recorded)).await?;
            return Ok(if has_steps { Remaining::Kept } else { Remaining::Transferred });
        }
        StepResult::DeadlineReached => {
            run.hand_over(step).await?;
            return Ok(Remaining::Transferred);
        }
    };
    let on_failure = handler.handler.spec.on_failure();
    match decide(&attempted.outcome, step, &run.plan, on_failure, &handler.policy) {
        Decision::Done => {
            run.record_ended(&handler, step, attempted).await?;
            Ok(Remaining::Kept)
        }
        Decision::Retry { plan, delay, rest } => {
            run.retry(&handler, step, attempted, &plan, delay).await?;
            Ok(rest)
        }
        Decision::GiveUp { reason, plan, rest } => {
            run.give_up(&handler, step, attempted, &plan, reason).await?;
            Ok(rest)
        }
    }
}
