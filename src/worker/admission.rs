//! Before anything runs: did this delivery come before, was its event published twice, does it take
//! workers down?

mod batched;
mod inbox;
mod running;

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout_at,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    Worker,
    lane::Lane,
    run::{Run, Trouble},
};
use crate::{
    broker::Delivery,
    domain::resume::Recorded,
    store::{RunKey, Store},
};
use batched::Batched;
use inbox::Inbox;
use running::{Running, UnderWay};

/// What was just published about a run must have the time to reach the table.
const RECORDING: Duration = Duration::from_secs(1);
/// Runs in one query.
const BATCH: usize = 500;
/// A delivery that came this often before may be what takes workers down. Fewer cuts and restarts than
/// that happen to any delivery.
const SUSPECT: u32 = 3;
/// Suspects that came together take their turns in the order of a wait of up to this long: with one
/// order for all, those behind the culprit would never have their turn.
const SHUFFLE: Duration = Duration::from_millis(500);

/// What decides whether, and when, a delivery may run.
pub(super) struct Admission {
    running: Running,
    recorded: Batched<RunKey, Vec<Recorded>>,
    inbox: Option<Inbox>,
    /// One suspect at a time: what takes the worker down then takes no other suspect along.
    suspects: Semaphore,
    crash_limit: u32,
}

/// A delivery that may run, while this is held.
pub(super) struct Admitted<'a> {
    _under_way: UnderWay<'a>,
    _turns: [Option<SemaphorePermit<'a>>; 2],
}

impl Admission {
    /// `deduplicate`: for how long an event is remembered, if it is.
    pub(super) fn new(
        store: &Store,
        deduplicate: Option<Duration>,
        crash_limit: u32,
        stop: &CancellationToken,
    ) -> Self {
        let of = store.clone();
        let recorded = move |runs: Vec<RunKey>| {
            let store = of.clone();
            async move {
                let mut found = store.recorded(&runs).await?;
                Ok(runs.iter().map(|run| found.remove(run).unwrap_or_default()).collect())
            }
        };
        Self {
            running: Running::default(),
            recorded: Batched::start(BATCH, "running again what was delivered again", recorded),
            inbox: deduplicate.map(|window| Inbox::start(store, window, stop.clone())),
            suspects: Semaphore::new(1),
            crash_limit,
        }
    }
}

/// Waits until `run` may go on: its plan is then what has not ended yet. None: nothing is left to run.
pub(super) async fn admit<'a>(
    worker: &'a Worker,
    run: &mut Run<'_>,
    delivery: &Delivery,
    lane: &'a Lane,
) -> Result<Option<Admitted<'a>>, Trouble> {
    let _waiting = lane.wait();
    let admission = &worker.admission;
    let (under_way, twins) = admission.running.begin(run.id());
    if run.came_before {
        // Also while draining: it takes a second or two, and most have nothing left to run.
        if !run.resume(history(admission, run, &twins).await).await? {
            return Ok(None);
        }
    }
    if let Some(inbox) = &admission.inbox
        && run.may_be_duplicate()
        && inbox.is_duplicate(&run.event).await
        && !run.came_before
    {
        run.record_duplicate().await?;
        return Ok(None);
    }
    if delivery.earlier_deliveries >= admission.crash_limit && !run.plan.is_empty() {
        run.give_up_crashing(delivery.earlier_deliveries).await?;
        return Ok(None);
    }
    let suspect = delivery.earlier_deliveries >= SUSPECT;
    let waiting = async {
        let turn = if suspect { Some(suspect_turn(admission, run).await) } else { None };
        [turn.and_then(Result::ok), lane.room.acquire().await.ok()]
    };
    // Past its deadline it is handed over at once, room or not.
    let turns = tokio::select! {
        biased;
        () = worker.draining.cancelled() => return Err(Trouble::NotStarted),
        turns = timeout_at(run.deadline().into(), waiting) => turns,
    };
    Ok(Some(Admitted { _under_way: under_way, _turns: turns.unwrap_or_default() }))
}

/// Waits for the twins of `run`, and for the recorder; then asks what is recorded of it. None: unknown.
async fn history(admission: &Admission, run: &Run<'_>, twins: &[CancellationToken]) -> Option<Vec<Recorded>> {
    for twin in twins {
        twin.cancelled().await;
    }
    tokio::time::sleep(RECORDING).await;
    admission.recorded.ask((run.event.id.clone(), run.id().clone())).await
}

async fn suspect_turn<'a>(
    admission: &'a Admission,
    run: &Run<'_>,
) -> Result<SemaphorePermit<'a>, tokio::sync::AcquireError> {
    tokio::time::sleep(SHUFFLE.mul_f64(rand::random())).await;
    let turn = admission.suspects.acquire().await;
    debug!(event = %run.event.name, event_id = %run.event.id, "a suspect runs");
    turn
}
