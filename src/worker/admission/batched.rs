//! Combines database lookups that many deliveries make at the same time into one query.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{info, warn};

use crate::store::StoreError;

/// Longest wait for the database. Without an answer the delivery runs.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// For this long after a failed query, lookups are answered with None at once.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// How long the first lookup of a batch waits for others.
const BATCH_DELAY: Duration = Duration::from_millis(3);

/// A handle for lookups. The task that answers them ends when it is dropped.
pub(super) struct Batched<Q, A>(mpsc::Sender<(Q, oneshot::Sender<A>)>);

impl<Q: Send + 'static, A: Send + 'static> Batched<Q, A> {
    /// Starts the task. `answer` gets up to a batch of queries and returns their answers in the same order.
    /// `fallback` completes the log message about a database that does not answer.
    pub(super) fn start<F, Answers>(max_batch: usize, fallback: &'static str, answer: F) -> Self
    where
        F: Fn(Vec<Q>) -> Answers + Send + 'static,
        Answers: Future<Output = Result<Vec<A>, StoreError>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(max_batch);
        tokio::spawn(serve(receiver, max_batch, fallback, answer));
        Self(sender)
    }

    /// None: the database did not answer in time.
    pub(super) async fn query(&self, query: Q) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        let lookup = async {
            self.0.send((query, reply)).await.ok()?;
            answer.await.ok()
        };
        timeout(QUERY_TIMEOUT, lookup).await.ok().flatten()
    }
}

async fn serve<Q, A, F, Answers>(
    mut receiver: mpsc::Receiver<(Q, oneshot::Sender<A>)>,
    max_batch: usize,
    fallback: &'static str,
    answer: F,
) where
    F: Fn(Vec<Q>) -> Answers,
    Answers: Future<Output = Result<Vec<A>, StoreError>>,
{
    let mut batch = Vec::with_capacity(max_batch);
    let mut unavailable_since: Option<Instant> = None;
    while receiver.recv_many(&mut batch, max_batch).await > 0 {
        if unavailable_since.is_some_and(|since| since.elapsed() < RETRY_DELAY) {
            // Dropping the senders answers each lookup with None.
            batch.clear();
            continue;
        }
        if batch.len() < max_batch {
            tokio::time::sleep(BATCH_DELAY).await;
            while batch.len() < max_batch {
                let Ok(next) = receiver.try_recv() else { break };
                batch.push(next);
            }
        }
        let (queries, replies): (Vec<Q>, Vec<_>) = batch.drain(..).unzip();
        let result = timeout(QUERY_TIMEOUT, answer(queries)).await;
        let result = match result {
            Ok(result) => result.map_err(|error| format!("{:#}", anyhow::Error::new(error))),
            Err(_) => Err(format!("no answer within {QUERY_TIMEOUT:?}")),
        };
        match result {
            Ok(answers) => {
                if unavailable_since.take().is_some() {
                    info!("the database answers again, no longer {fallback}");
                }
                for (reply, answer) in replies.into_iter().zip(answers) {
                    let _ = reply.send(answer);
                }
            }
            Err(error) => {
                if unavailable_since.is_none() {
                    warn!(error, "the database does not answer: {fallback}");
                }
                unavailable_since = Some(Instant::now());
            }
        }
    }
}
