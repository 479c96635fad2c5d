//! What takes much memory or time: so much of it is done at a time, and who comes then waits for a moment.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use crate::http_server::Kept;

/// For a turn; who waits longer is told to try again.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// A smaller answer is no matter once it is made: it may be sent while the next one is.
const SMALL: u64 = 1 << 20;

/// One kind of work, of which so much is done at a time.
pub struct Limited {
    free: Arc<Semaphore>,
    excess: &'static str,
}

/// The turn of one, which ends when this is dropped.
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Limited {
    /// `excess` says what there is too much of, to who waits in vain.
    pub fn new(excess: &'static str, at_a_time: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(at_a_time)), excess }
    }

    /// # Errors
    /// If it does not come in time.
    pub async fn turn(&self) -> Result<Turn, Problem> {
        match tokio::time::timeout(WAIT_TIMEOUT, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn { _permit: permit }),
            _ => Err(Problem::busy(format!("{}: try again in some seconds", self.excess))),
        }
    }
}

/// Does work on a large message that takes long, so that others go on meanwhile.
pub fn apart<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

impl Turn {
    /// `answer`, whose turn lasts until it is sent or the connection is gone.
    pub fn until_sent(self, answer: Response) -> Response {
        if answer.body().size_hint().exact().is_some_and(|bytes| bytes <= SMALL) {
            return answer;
        }
        answer.map(|body| Body::new(Kept::new(body, self)))
    }
}
