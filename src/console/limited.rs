//! Limits how many expensive requests run at a time. A request over the limit waits a few seconds, then gets 503.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use crate::http_server::Kept;

/// How long a request waits for a permit before it gets 503.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest response, in bytes, that gives its permit back before it is sent. It needs little memory while it waits.
const SMALL_RESPONSE: u64 = 1 << 20;

/// A limit on one kind of work.
pub struct Limited {
    free: Arc<Semaphore>,
    excess: &'static str,
}

/// A permit of a [`Limited`]. Dropping it lets the next request run.
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Limited {
    /// `excess` describes the overload, for the error of a request that got no permit.
    pub fn new(excess: &'static str, max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(max)), excess }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// 503 if none becomes free within `WAIT_TIMEOUT`.
    pub async fn permit(&self) -> Result<Permit, Problem> {
        match tokio::time::timeout(WAIT_TIMEOUT, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Permit { _permit: permit }),
            _ => Err(Problem::busy(format!("{}: try again in some seconds", self.excess))),
        }
    }
}

/// Runs long synchronous work on a large message. The runtime moves other tasks of this thread to another one.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

impl Permit {
    /// Keeps the permit until the response is sent, or the connection is closed.
    pub fn until_sent(self, answer: Response) -> Response {
        if answer.body().size_hint().exact().is_some_and(|bytes| bytes <= SMALL_RESPONSE) {
            return answer;
        }
        answer.map(|body| Body::new(Kept::new(body, self)))
    }
}
