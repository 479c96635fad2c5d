//! Writes one batch. A row that Postgres rejects does not block the others.

use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;

use super::{
    Recorder,
    batch::{Batch, Rows},
};
use crate::{
    broker::{Delivery, NewDeadLetter, Outgoing, dead_letter, unrouted_event},
    domain::{
        dead_letter::{DeadLetter, DeadLetterMessage, Reason},
        event::EventName,
        execution::Execution,
        trace::Trace,
    },
    store::StoreError,
};

/// How long to hold a copy whose queue cannot be declared before it is requeued, because it is redelivered at
/// once.
const RETRY_DELAY: Duration = Duration::from_secs(1);

impl Recorder {
    /// Writes `batch` and acknowledges what is written.
    ///
    /// On an error of Postgres the unwritten rest stays in `batch`. An error with one kind of row does not
    /// stop the others.
    pub(super) async fn write(&self, batch: &mut Batch) -> Result<(), StoreError> {
        let executions = self.write_executions(&mut batch.executions).await;
        let dead_letters = self.write_dead_letters(&mut batch.dead_letters).await;
        let copies = self.rescue_copies(&mut batch.copies).await;
        executions.and(dead_letters).and(copies)
    }

    async fn write_executions(&self, batch: &mut Rows<Execution>) -> Result<(), StoreError> {
        if batch.rows.is_empty() {
            return Ok(());
        }
        match self.store.insert_executions(&batch.rows).await {
            Err(StoreError::BadData(_)) => self.insert_executions_one_by_one(batch).await,
            written => written.map(|new| {
                self.stats.executions(new, &batch.rows);
                batch.acknowledge();
            }),
        }
    }

    /// Writes the rows one by one to find those that Postgres rejects. They become dead letters.
    async fn insert_executions_one_by_one(&self, batch: &mut Rows<Execution>) -> Result<(), StoreError> {
        while let Some(execution) = batch.rows.last() {
            let written = self.store.insert_executions(std::slice::from_ref(execution)).await;
            let refused = match written {
                Ok(new) => {
                    self.stats.executions(new, std::slice::from_ref(execution));
                    None
                }
                Err(StoreError::BadData(error)) => {
                    warn!(execution = %execution.id, %error, "PostgreSQL rejected an execution result");
                    Some(format!("PostgreSQL rejected this execution result: {error}"))
                }
                Err(error) => return Err(error),
            };
            batch.rows.pop();
            let Some(delivery) = batch.deliveries.pop() else { break };
            match refused {
                None => delivery.ack.acknowledge(),
                Some(error) => self.publish_dead_letter(self.unreadable(&delivery, &error), delivery).await,
            }
        }
        Ok(())
    }

    async fn write_dead_letters(&self, batch: &mut Rows<DeadLetterMessage>) -> Result<(), StoreError> {
        if batch.rows.is_empty() {
            return Ok(());
        }
        if !self.settings.config.drain_dead_letters {
            // Dead letters stay in the broker, also those that were found in another queue.
            for (message, delivery) in batch.rows.drain(..).zip(batch.deliveries.drain(..)) {
                self.publish_dead_letter(message, delivery).await;
            }
            return Ok(());
        }
        match self.store.insert_dead_letters(&batch.rows).await {
            Err(StoreError::BadData(_)) => self.insert_dead_letters_one_by_one(batch).await,
            written => written.map(|new| {
                self.stats.dead_letters(new, &batch.rows);
                batch.acknowledge();
            }),
        }
    }

    /// Writes the dead letters one by one. One whose facts Postgres rejects is stored with its body only.
    async fn insert_dead_letters_one_by_one(
        &self,
        batch: &mut Rows<DeadLetterMessage>,
    ) -> Result<(), StoreError> {
        while let Some(message) = batch.rows.last() {
            let new = match self.store.insert_dead_letters(std::slice::from_ref(message)).await {
                Err(StoreError::BadData(error)) => {
                    warn!(letter = %message.facts.id, %error, "PostgreSQL rejected the metadata of a dead letter: storing its body only");
                    let reduced = [reduced(message, &error.to_string())];
                    self.store.insert_dead_letters(&reduced).await?
                }
                written => written?,
            };
            self.stats.dead_letters(new, std::slice::from_ref(message));
            batch.rows.pop();
            if let Some(delivery) = batch.deliveries.pop() {
                delivery.ack.acknowledge();
            }
        }
        Ok(())
    }

    /// Declares the missing queues of retry copies and publishes the copies again. Copies of an event type
    /// that is not in the catalogue become dead letters.
    async fn rescue_copies(
        &self,
        copies: &mut Vec<(EventName, Outgoing, Delivery)>,
    ) -> Result<(), StoreError> {
        if copies.is_empty() {
            return Ok(());
        }
        let catalogue = self.store.list_event_types(false).await?;
        for (event, copy, delivery) in copies.drain(..) {
            if !catalogue.iter().any(|known| known.name == event) {
                let message = unrouted_event(&delivery, &self.settings.broker.topology.names);
                self.publish_dead_letter(message, delivery).await;
            } else if self.declare(&event).await {
                self.publish(copy, delivery).await;
            } else {
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
        Ok(())
    }

    async fn declare(&self, event: &EventName) -> bool {
        let mut link = self.link.clone();
        let connection = tokio::select! {
            connection = link.connection() => connection,
            () = self.stop.cancelled() => None,
        };
        let Some(connection) = connection else { return false };
        match link.topology().declare_event(&connection, event).await {
            Ok(_) => true,
            Err(error) => {
                warn!(%event, error = format!("{error:#}"), "cannot declare the queue of a retry");
                false
            }
        }
    }

    /// Publishes `message` in place of `delivery`.
    async fn publish_dead_letter(&self, message: DeadLetterMessage, delivery: Delivery) {
        let DeadLetterMessage { facts: details, body, content_type, trace, .. } = message;
        let new =
            NewDeadLetter { letter: &details, body, content_type: content_type.as_deref(), trace: &trace };
        match dead_letter(&self.settings.broker.topology.names, new) {
            Ok(outgoing) => self.publish(outgoing, delivery).await,
            Err(error) => warn!(error = format!("{error:#}"), "cannot publish a dead letter"),
        }
    }

    /// Publishes `outgoing` in place of `delivery`, which is acknowledged after the confirm.
    ///
    /// The batch does not wait for the confirm: a broker that blocks publishers must not stop the recording.
    async fn publish(&self, outgoing: Outgoing, delivery: Delivery) {
        let confirm = tokio::select! {
            confirm = self.publisher.publish(outgoing) => confirm,
            () = self.stop.cancelled() => return,
        };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                confirmed = confirm.confirmed() => if confirmed.is_ok() { delivery.ack.acknowledge() },
                () = stop.cancelled() => {}
            }
        });
    }
}

/// The dead letter without the facts that Postgres can reject.
fn reduced(message: &DeadLetterMessage, why: &str) -> DeadLetterMessage {
    let name: String = message.facts.event_name.chars().take(127).collect();
    let error = format!("its metadata cannot be stored ({why}); original reason: {}", message.facts.reason);
    let run_id = Some(message.facts.id.to_string());
    let details =
        DeadLetter::of_whole(Reason::Malformed, &error, &name, run_id, &message.body, Timestamp::now());
    DeadLetterMessage {
        facts: DeadLetter { id: message.facts.id, ..details },
        body: message.body.clone(),
        content_type: None,
        exchange: None,
        routing_key: None,
        trace: Trace::default(),
    }
}
