//! Bodies that nobody wanted to read to their end: they are taken and thrown away before the answer is sent.
//!
//! Who still sends when the connection is closed may never see the answer: what arrives after the close resets the
//! connection, and a reset discards what was not read yet (RFC 9112, section 9.6). So a body that is too large, or one
//! of somebody without access, would be answered with a broken pipe instead of what is wrong.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::Request,
    http::header,
    middleware::Next,
    response::Response,
};
use futures_util::{Stream, StreamExt as _, stream};
use parking_lot::Mutex;

/// What is taken beyond what was read, at most, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// For this long, at most.
const MAX_DURATION: Duration = Duration::from_secs(5);

struct Rest {
    body: BodyDataStream,
    begun: bool,
}

/// Answers once the request has been taken whole, within bounds.
pub async fn drain_unread_body(request: Request, next: Next) -> Response {
    // It sends the body only once that is read from, and sees an answer before.
    let asks_first = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let rest = Arc::new(Mutex::new(Rest { body: body.into_data_stream(), begun: false }));
    let lent = Body::from_stream(read(Arc::clone(&rest)));
    let response = next.run(Request::from_parts(head, lent)).await;
    if !asks_first || rest.lock().begun {
        // What becomes of it changes nothing about the answer.
        let _ = tokio::time::timeout(MAX_DURATION, discard(read(rest))).await;
    }
    response
}

fn read(rest: Arc<Mutex<Rest>>) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
    stream::poll_fn(move |context| {
        let mut rest = rest.lock();
        rest.begun = true;
        rest.body.poll_next_unpin(context)
    })
}

async fn discard(rest: impl Stream<Item = Result<Bytes, axum::Error>>) {
    let (mut rest, mut taken) = (pin!(rest), 0);
    while taken <= MAX_BYTES
        && let Some(Ok(bytes)) = rest.next().await
    {
        taken += bytes.len();
    }
}
