//! What happens to a delivery: one event's story.

use tracing::warn;

use super::{
    Worker,
    admission::admit,
    attempt::{Turn, take_turn},
    lane::Lane,
    run::{Run, Trouble},
};
use crate::{
    broker::{Delivery, handlers_seen},
    domain::decide::{Rest, Settlement, decide},
};

/// Settles `delivery`: acknowledges it when everything that followed from it is confirmed by the
/// broker, and gives it back where that could not be done.
///
/// `lane` is what this event may take of the process.
pub(super) async fn process(worker: &Worker, lane: &Lane, delivery: Delivery) {
    let _held = lane.hold();
    let stuck = lane.cut();
    let told = tokio::select! {
        told = tell(worker, lane, &delivery) => told,
        () = worker.cut.cancelled() => Err(Trouble::Cut),
        () = stuck.cancelled() => Err(Trouble::Stuck),
    };
    match told {
        Ok(()) => {
            delivery.duty.acknowledge();
            lane.note_acknowledged();
        }
        Err(trouble) => {
            lane.meters.returned();
            if !matches!(trouble, Trouble::NotStarted | Trouble::Stuck) {
                warn!(event = %lane.event, error = format!("{:#}", anyhow::Error::new(trouble)), "an event goes back to its queue");
            }
            delivery.duty.requeue();
        }
    }
}

async fn tell(worker: &Worker, lane: &Lane, delivery: &Delivery) -> Result<(), Trouble> {
    if let Some(seen) = handlers_seen(delivery, &worker.names) {
        worker.registry.catch_up_with(&seen).await;
    }
    let mut run = match Run::open(worker, lane, delivery) {
        Ok(run) => run,
        Err(malformed) => return malformed.bury(worker, delivery).await,
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

async fn run_plan(worker: &Worker, run: &mut Run<'_>) -> Result<(), Trouble> {
    if run.plan.is_empty() {
        run.record_unhandled().await?;
    }
    while let Some(step) = run.next_step() {
        if run.must_end() {
            run.hand_over(step).await?;
            break;
        }
        let (handler, attempted) = match take_turn(worker, run, step).await {
            Turn::Made(handler, attempted) => (handler, *attempted),
            Turn::Off => {
                run.record_skipped(step).await?;
                continue;
            }
            Turn::Another => {
                run.record_another(step).await?;
                continue;
            }
            Turn::Elsewhere(recorded) => {
                run.plan = run.plan.with_first(step);
                if run.resume(Some(recorded)).await? {
                    continue;
                }
                break;
            }
            Turn::NoTime => {
                run.hand_over(step).await?;
                break;
            }
        };
        let on_failure = handler.handler.spec.on_failure();
        match decide(&attempted.outcome, step, &run.plan, on_failure, &handler.policy) {
            Settlement::Done => run.record_ended(&handler, step, attempted).await?,
            Settlement::Retry { plan, delay, rest } => {
                run.retry(&handler, step, attempted, &plan, delay).await?;
                if rest == Rest::Moved {
                    break;
                }
            }
            Settlement::GiveUp { reason, plan, rest } => {
                run.give_up(&handler, step, attempted, &plan, reason).await?;
                if rest == Rest::Moved {
                    break;
                }
            }
        }
    }
    Ok(())
}
