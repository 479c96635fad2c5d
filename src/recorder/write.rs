//! Writing one batch: what Postgres refuses for its content never holds up the rest.

use tracing::warn;

use super::{
    Recorder,
    batch::{Batch, Rows},
    entry::new_dead_letter,
};
use crate::{
    broker::{Burial, Delivery, Outgoing, Trace, dead_letter, unrouted_event},
    domain::{event::EventName, execution::Execution},
    store::{NewDeadLetter, StoreError},
};

impl Recorder {
    /// Writes `batch` and acknowledges what is written. On an error of Postgres the rest stays in it.
    pub(super) async fn write(&self, batch: &mut Batch) -> Result<(), StoreError> {
        self.write_executions(&mut batch.executions).await?;
        self.write_letters(&mut batch.letters).await?;
        self.rescue_copies(&mut batch.copies).await
    }

    async fn write_executions(&self, batch: &mut Rows<Execution>) -> Result<(), StoreError> {
        if batch.rows.is_empty() {
            return Ok(());
        }
        match self.store.insert_executions(&batch.rows).await {
            Err(StoreError::BadData(_)) => self.sift_executions(batch).await,
            written => written.map(|_| batch.acknowledge()),
        }
    }

    /// Writes the rows one by one to find those that Postgres refuses; these become dead letters.
    async fn sift_executions(&self, batch: &mut Rows<Execution>) -> Result<(), StoreError> {
        while let Some(execution) = batch.rows.last() {
            let written = self.store.insert_executions(std::slice::from_ref(execution)).await;
            let refused = match written {
                Ok(_) => None,
                Err(StoreError::BadData(error)) => {
                    warn!(execution = %execution.id, %error, "Postgres refuses an execution result");
                    Some(format!("Postgres refuses this execution result: {error}"))
                }
                Err(error) => return Err(error),
            };
            batch.rows.pop();
            let Some(delivery) = batch.deliveries.pop() else { break };
            match refused {
                None => delivery.duty.acknowledge(),
                Some(error) => self.bury(self.unreadable(&delivery, &error), delivery).await,
            }
        }
        Ok(())
    }

    async fn write_letters(&self, batch: &mut Rows<NewDeadLetter>) -> Result<(), StoreError> {
        if batch.rows.is_empty() {
            return Ok(());
        }
        if !self.settings.drain_dead_letters {
            // They stay in the broker, also those that were found elsewhere.
            for (letter, delivery) in batch.rows.drain(..).zip(batch.deliveries.drain(..)) {
                self.bury(letter, delivery).await;
            }
            return Ok(());
        }
        self.store.insert_dead_letters(&batch.rows).await?;
        batch.acknowledge();
        Ok(())
    }

    /// Sends copies that missed their queue again, once it is declared; those of an event type that
    /// is not in the catalogue any more become dead letters.
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
                self.bury(new_dead_letter(unrouted_event(&delivery)), delivery).await;
            } else if self.declare(&event).await
                && self.publisher.publish(copy).await.confirmed().await.is_ok()
            {
                delivery.duty.acknowledge();
            }
        }
        Ok(())
    }

    async fn declare(&self, event: &EventName) -> bool {
        let mut link = self.link.clone();
        let Some(connection) = link.connection().await else { return false };
        match link.topology().declare_event(&connection, event).await {
            Ok(_) => true,
            Err(error) => {
                warn!(%event, error = format!("{error:#}"), "the queue of a retry copy cannot be declared");
                false
            }
        }
    }

    /// Publishes the dead letter for `delivery` and then acknowledges it.
    async fn bury(&self, letter: NewDeadLetter, delivery: Delivery) {
        let NewDeadLetter { letter, body, content_type, traceparent, tracestate, .. } = letter;
        let trace = &Trace { parent: traceparent, state: tracestate };
        let burial = Burial { letter: &letter, body, content_type: content_type.as_deref(), trace };
        match dead_letter(&self.settings.broker.topology.names, burial) {
            Ok(outgoing) => {
                if self.publisher.publish(outgoing).await.confirmed().await.is_ok() {
                    delivery.duty.acknowledge();
                }
            }
            Err(error) => warn!(error = format!("{error:#}"), "a dead letter cannot be written"),
        }
    }
}
