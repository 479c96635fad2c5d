//! A middleware that reads the rest of a request body, and discards it, before the response is sent.
//!
//! A client that is still sending when the server closes the connection may lose the response. Data that arrives after
//! the close resets the connection, and the reset discards what the client has not read yet (RFC 9112, section 9.6). A
//! client whose body is too large, or that has no access, would then see a broken pipe and not the error.

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

/// The most bytes that are discarded.
const MAX_BYTES: usize = 64 << 20;
/// The longest time that discarding takes.
const MAX_DURATION: Duration = Duration::from_secs(5);

struct Rest {
    body: BodyDataStream,
    begun: bool,
}

/// Returns the response after the rest of the body has been discarded, within `MAX_BYTES` and `MAX_DURATION`.
pub async fn drain_unread_body(request: Request, next: Next) -> Response {
    // With `Expect: 100-continue` the client sends its body only after the server starts to read it. It waits until
    // then, and therefore receives a response.
    let expects_continue = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let rest = Arc::new(Mutex::new(Rest { body: body.into_data_stream(), begun: false }));
    let inner_body = Body::from_stream(read(Arc::clone(&rest)));
    let response = next.run(Request::from_parts(head, inner_body)).await;
    if !expects_continue || rest.lock().begun {
        // The response stays the same if the time is over or the client has gone.
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
    let (mut rest, mut discarded) = (pin!(rest), 0);
    while discarded <= MAX_BYTES
        && let Some(Ok(bytes)) = rest.next().await
    {
        discarded += bytes.len();
    }
}
