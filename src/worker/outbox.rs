//! Publishes everything that runs produce: results, retry copies, dead letters and replies.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::requeue::RequeueReason;
use crate::{
    broker::{
        Confirm, ConfirmMode, CopyOf, Link, Names, NewDeadLetter, OwnLink, Publisher, dead_letter, reply,
        result, retry_copy,
    },
    domain::{
        execution::{Execution, WorkerId},
        reply::Reply,
        trace::Trace,
    },
};

/// How long the publishers may take to end, at the end of a drain.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The publishers of a worker.
///
/// Each kind of message has its own channel: after a failed publish, everything that is unconfirmed on its
/// channel is published again (replies are dropped).
pub(super) struct Outbox {
    pub names: Names,
    /// This process, which results and dead letters name.
    pub worker: WorkerId,
    results: Publisher,
    copies: Publisher,
    dead_letters: Publisher,
    replies: Publisher,
}

/// The running publishers. They end when the outbox is dropped and everything is confirmed.
pub(super) struct Publishing(JoinSet<anyhow::Result<()>>);

impl Outbox {
    pub(super) fn start(
        names: Names,
        worker: WorkerId,
        link: &Link,
        stop: &CancellationToken,
    ) -> (Self, Publishing) {
        let mut tasks = JoinSet::new();
        // Replies get a connection of their own if possible: the publisher of the event chooses `reply_to`. If
        // the broker closes the connection because of it, only replies are affected.
        let reply_link = link.beside();
        let mut start = |purpose, confirm_mode, own: Option<OwnLink>| {
            let link = own.as_ref().map_or(link, |own| &own.link).clone();
            let (publisher, task) = Publisher::start(link, purpose, confirm_mode, stop.clone());
            tasks.spawn(async move {
                // Keep the connection open until everything is confirmed.
                let _own = own;
                task.await?
            });
            publisher
        };
        let outbox = Self {
            names,
            worker,
            results: start("results", ConfirmMode::Required, None),
            copies: start("retry copies", ConfirmMode::Required, None),
            dead_letters: start("dead letters", ConfirmMode::Required, None),
            replies: start("replies", ConfirmMode::BestEffort, reply_link),
        };
        (outbox, Publishing(tasks))
    }

    /// Publishes a result. The caller waits for the confirm later.
    pub(super) async fn publish_result(
        &self,
        execution: &Execution,
        trace: &Trace,
    ) -> Result<Confirm, RequeueReason> {
        Ok(self.results.publish(result(&self.names, execution, trace)?).await)
    }

    /// Publishes a retry copy and waits for the confirm.
    pub(super) async fn publish_copy(&self, copy: &CopyOf<'_>, delay: Duration) -> Result<(), RequeueReason> {
        Ok(self.copies.publish(retry_copy(&self.names, copy, delay)).await.confirmed().await?)
    }

    /// Publishes a dead letter and waits for the confirm.
    pub(super) async fn publish_dead_letter(&self, message: NewDeadLetter<'_>) -> Result<(), RequeueReason> {
        Ok(self.dead_letters.publish(dead_letter(&self.names, message)?).await.confirmed().await?)
    }

    /// Publishes a reply without waiting for the confirm: the publisher waits with a deadline of its own, and a
    /// late reply is of no use.
    pub(super) async fn publish_reply(
        &self,
        reply_to: &str,
        correlation_id: Option<&str>,
        content: &Reply,
    ) -> Result<(), RequeueReason> {
        drop(self.replies.publish(reply(reply_to, correlation_id, content)?).await);
        Ok(())
    }
}

impl Publishing {
    /// Waits until the publishers have ended, at most [`END_TIMEOUT`]. An event is acknowledged after its
    /// messages are confirmed, so what is not confirmed by then runs again.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        let all = async {
            while let Some(ended) = self.0.join_next().await {
                ended??;
            }
            Ok(())
        };
        tokio::time::timeout(END_TIMEOUT, all).await.unwrap_or_else(|_| {
            warn!(
                "the broker did not confirm all messages in time; events with unconfirmed messages will run again"
            );
            Ok(())
        })
    }
}
