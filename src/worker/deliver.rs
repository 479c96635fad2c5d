//! What happens to a delivery: one event's story.

use tracing::warn;

use super::{
    Worker,
    admission::admit,
    attempt::{StepResult, run_step},
    event_run::{EventRun, RequeueReason},
    queue_state::QueueState,
};
use crate::{
    broker::{Delivery, handlers_seen},
    domain::decide::{Decision, Remaining, decide},
};

/// Settles `delivery`: acknowledges it when everything that followed from it is confirmed by the
/// broker, and gives it back where that could not be done.
///
/// `lane` is what this event may take of the process.
pub(super) async fn process(worker: &Worker, lane: &QueueState, delivery: Delivery) {
    let _held = lane.hold();
    let stuck = lane.cut();
    let told = tokio::select! {
        told = handle_delivery(worker, lane, &delivery) => told,
        () = worker.cut.cancelled() => Err(RequeueReason::Cut),
        () = stuck.cancelled() => Err(RequeueReason::Stuck),
    };
    match told {
        Ok(()) => {
            delivery.ack.acknowledge();
            lane.note_acknowledged();
        }
        Err(trouble) => {
            lane.meters.returned();
            if !matches!(trouble, RequeueReason::NotStarted | RequeueReason::Stuck) {
                warn!(event = %lane.event, error = format!("{:#}", anyhow::Error::new(trouble)), "an event goes back to its queue");
            }
            delivery.ack.requeue();
        }
    }
}

async fn handle_delivery(
    worker: &Worker,
    lane: &QueueState,
    delivery: &Delivery,
) -> Result<(), RequeueReason> {
    if let Some(seen) = handlers_seen(delivery, &worker.names) {
        worker.registry.wait_for_versions(&seen).await;
    }
    let mut run = match EventRun::open(worker, lane, delivery) {
        Ok(run) => run,
        Err(malformed) => return malformed.publish_dead_letter(worker, delivery).await,
    };
    run.count_arrival(delivery);
    // Held to the end: until all is confirmed, what comes again would find nothing recorded.
    let admitted = admit(worker, &mut run, delivery, lane).await?;
    if admitted.is_some() {
        run_plan(worker, &mut run).await?;
    }
    run.answer().await?;
    run.confirmed().await
}

async fn run_plan(worker: &Worker, run: &mut EventRun<'_>) -> Result<(), RequeueReason> {
    if run.plan.is_empty() {
        run.record_unhandled().await?;
    }
    while let Some(step) = run.next_step() {
        if run.must_end() {
            run.hand_over(step).await?;
            break;
        }
        let (handler, attempted) = match run_step(worker, run, step).await {
            StepResult::Attempted(handler, attempted) => (handler, *attempted),
            StepResult::Disabled => {
                run.record_skipped(step).await?;
                continue;
            }
            StepResult::Replaced => {
                run.record_another(step).await?;
                continue;
            }
            StepResult::EndedElsewhere(recorded) => {
                run.plan = run.plan.with_first(step);
                if run.resume(Some(recorded)).await? {
                    continue;
                }
                break;
            }
            StepResult::DeadlineReached => {
                run.hand_over(step).await?;
                break;
            }
        };
        let on_failure = handler.handler.spec.on_failure();
        match decide(&attempted.outcome, step, &run.plan, on_failure, &handler.policy) {
            Decision::Done => run.record_ended(&handler, step, attempted).await?,
            Decision::Retry { plan, delay, rest } => {
                run.retry(&handler, step, attempted, &plan, delay).await?;
                if rest == Remaining::Transferred {
                    break;
                }
            }
            Decision::GiveUp { reason, plan, rest } => {
                run.give_up(&handler, step, attempted, &plan, reason).await?;
                if rest == Remaining::Transferred {
                    break;
                }
            }
        }
    }
    Ok(())
}
