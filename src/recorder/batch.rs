//! Collects deliveries into batches, by number, size and time.

use std::time::Duration;

use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Recorder, WRITE_TIMEOUT, entry::Entry};
use crate::{
    broker::{Delivery, Outgoing, RecorderQueue},
    domain::{dead_letter::DeadLetterMessage, event::EventName, execution::Execution},
    telemetry::metrics::write_failed,
};

/// Batches are not filled beyond this size: a much larger statement would run into its time limit.
const MAX_BATCH_BYTES: usize = 8 << 20;
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// A batch of deliveries, sorted by what they are.
#[derive(Default)]
pub(super) struct Batch {
    pub executions: Rows<Execution>,
    pub dead_letters: Rows<DeadLetterMessage>,
    pub copies: Vec<(EventName, Outgoing, Delivery)>,
}

/// Rows and the deliveries that they came in, in the same order.
pub(super) struct Rows<T> {
    pub rows: Vec<T>,
    pub deliveries: Vec<Delivery>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), deliveries: Vec::new() }
    }
}

impl<T> Rows<T> {
    fn push(&mut self, row: T, delivery: Delivery) {
        self.rows.push(row);
        self.deliveries.push(delivery);
    }

    /// Acknowledges all deliveries, once their rows are written.
    pub(super) fn acknowledge(&mut self) {
        self.rows.clear();
        self.deliveries.drain(..).for_each(|delivery| delivery.ack.acknowledge());
    }
}

impl Recorder {
    /// Writes batch after batch until the consumers have ended.
    ///
    /// If Postgres does not accept a batch within [`WRITE_TIMEOUT`], cancels `session` and requeues
    /// everything.
    pub(super) async fn write_batches(
        &self,
        mut entries: Receiver<(RecorderQueue, Delivery)>,
        session: &CancellationToken,
    ) {
        let mut raw = Vec::with_capacity(self.settings.config.batch_size);
        while self.fill(&mut raw, &mut entries).await {
            let mut batch = self.sort(&mut raw);
            if !self.write_patiently(&mut batch, session).await {
                // Dropping the deliveries requeues them.
                session.cancel();
                return;
            }
        }
    }

    /// Waits for a first delivery, then for more until the batch is full or its time is over. False: the
    /// consumers have ended.
    async fn fill(
        &self,
        raw: &mut Vec<(RecorderQueue, Delivery)>,
        entries: &mut Receiver<(RecorderQueue, Delivery)>,
    ) -> bool {
        let Some(first) = entries.recv().await else { return false };
        let mut bytes = first.1.body.len();
        raw.push(first);
        let due = Instant::now() + self.settings.config.batch_delay;
        while raw.len() < self.settings.config.batch_size && bytes < MAX_BATCH_BYTES {
            match timeout_at(due, entries.recv()).await {
                Ok(Some(next)) => {
                    bytes += next.1.body.len();
                    raw.push(next);
                }
                Ok(None) | Err(_) => break,
            }
        }
        true
    }

    fn sort(&self, raw: &mut Vec<(RecorderQueue, Delivery)>) -> Batch {
        let mut batch = Batch::default();
        for (queue, delivery) in raw.drain(..) {
            match self.read(queue, &delivery) {
                Entry::Execution(execution) => batch.executions.push(*execution, delivery),
                Entry::DeadLetter(message) => batch.dead_letters.push(*message, delivery),
                Entry::Copy(event, copy) => batch.copies.push((event, *copy, delivery)),
            }
        }
        batch
    }

    /// Writes `batch`, with retries while Postgres does not accept it. False: the time for retries is over.
    async fn write_patiently(&self, batch: &mut Batch, session: &CancellationToken) -> bool {
        let begun = Instant::now();
        let mut is_logged = false;
        loop {
            let try_begun = Instant::now();
            let Err(error) = self.write(batch).await else {
                self.stats.took(try_begun.elapsed());
                if is_logged {
                    info!("the recorder can write to PostgreSQL again");
                }
                return true;
            };
            write_failed();
            let is_over = begun.elapsed() >= WRITE_TIMEOUT || session.is_cancelled();
            if is_over || !std::mem::replace(&mut is_logged, true) {
                let error = format!("{:#}", anyhow::Error::new(error));
                let then = if is_over { "results wait in the queues" } else { "retrying" };
                warn!(error, then, "the recorder cannot write to PostgreSQL");
            }
            if is_over {
                return false;
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}
