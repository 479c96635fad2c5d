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
    /// Starts the task. `answer` gets up to a batch of questions and returns their answers in the same order.
    /// `without` completes the log message about a database that does not answer.
    pub(super) fn start<F, Answers>(most: usize, without: &'static str, answer: F) -> Self
    where
        F: Fn(Vec<Q>) -> Answers + Send + 'static,
        Answers: Future<Output = Result<Vec<A>, StoreError>> + Send + 'static,
    {
        let (questions, asked) = mpsc::channel(most);
        tokio::spawn(serve(asked, most, without, answer));
        Self(questions)
    }

    /// None: the database did not answer in time.
    pub(super) async fn ask(&self, question: Q) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        let asking = async {
            self.0.send((question, reply)).await.ok()?;
            answer.await.ok()
        };
        timeout(QUERY_TIMEOUT, asking).await.ok().flatten()
    }
}

async fn serve<Q, A, F, Answers>(
    mut asked: mpsc::Receiver<(Q, oneshot::Sender<A>)>,
    most: usize,
    without: &'static str,
    answer: F,
) where
    F: Fn(Vec<Q>) -> Answers,
    Answers: Future<Output = Result<Vec<A>, StoreError>>,
{
    let mut batch = Vec::with_capacity(most);
    let mut away: Option<Instant> = None;
    while asked.recv_many(&mut batch, most).await > 0 {
        if away.is_some_and(|since| since.elapsed() < RETRY_DELAY) {
            // Dropping the senders answers each lookup with None.
            batch.clear();
            continue;
        }
        if batch.len() < most {
            tokio::time::sleep(BATCH_DELAY).await;
            while batch.len() < most {
                let Ok(next) = asked.try_recv() else { break };
                batch.push(next);
            }
        }
        let (questions, replies): (Vec<Q>, Vec<_>) = batch.drain(..).unzip();
        let answered = timeout(QUERY_TIMEOUT, answer(questions)).await;
        let answered = match answered {
            Ok(answered) => answered.map_err(|error| format!("{:#}", anyhow::Error::new(error))),
            Err(_) => Err(format!("no answer within {QUERY_TIMEOUT:?}")),
        };
        match answered {
            Ok(answers) => {
                if away.take().is_some() {
                    info!("the database answers again, no longer {without}");
                }
                for (reply, answer) in replies.into_iter().zip(answers) {
                    let _ = reply.send(answer);
                }
            }
            Err(error) => {
                if away.is_none() {
                    warn!(error, "the database does not answer: {without}");
                }
                away = Some(Instant::now());
            }
        }
    }
}
