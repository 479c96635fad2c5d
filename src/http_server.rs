//! An HTTP/1.1 server with a limit on connections and a timeout for request heads.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    http::{Request, Response},
};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{trace, warn};

/// How long the head of a request may take, or an idle connection may wait for the next request.
///
/// It is longer than the idle timeout of proxies (60 s in nginx and most load balancers). If this server
/// closed a connection just when a proxy sends a request on it, the client would get a 502.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// TCP user timeout: a client that takes nothing of a response for this long is gone, or holds memory on
/// purpose.
const READ_TIMEOUT_MS: u32 = 60_000;
/// How much of a response is handed to the connection at a time.
const CHUNK_SIZE: usize = 64 * 1024;
/// Delay after a failed accept. The usual cause is a lack of descriptors, and these become free again.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Serves `app` until `stop`, then lets started responses end.
///
/// At `max_connections`, the oldest connection on which no response is being sent is closed for a new one, so
/// that clients that connect and send nothing keep nobody out. If all are busy, the new connection is closed.
pub async fn serve(listener: TcpListener, app: Router, max_connections: usize, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let mut room = Room { max_connections, open: VecDeque::new() };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                log_accept_error(&error);
                sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        // Without this option the connection still works.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, READ_TIMEOUT_MS);
        if room.make() {
            let is_answering = Arc::new(AtomicBool::new(false));
            let serving =
                serve_connection(stream, peer, app.clone(), Arc::clone(&is_answering), stop.clone());
            let task = connections.spawn(serving).abort_handle();
            room.open.push_back(Connection { is_answering, task });
        }
    }
    connections.close();
    connections.wait().await;
}

/// Logs a failed accept, except when the peer closed the connection first.
fn log_accept_error(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        warn!(%error, "cannot accept a connection");
    }
}

/// The open connections of a listener, oldest first.
struct Room {
    max_connections: usize,
    open: VecDeque<Connection>,
}

struct Connection {
    is_answering: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Room {
    /// Whether one more connection may be opened. May close another connection for it.
    fn make(&mut self) -> bool {
        if self.open.len() >= self.max_connections {
            self.open.retain(|connection| !connection.task.is_finished());
        }
        if self.open.len() < self.max_connections {
            return true;
        }
        let is_idle = |connection: &Connection| !connection.is_answering.load(Ordering::Relaxed);
        let Some(index) = self.open.iter().position(is_idle) else { return false };
        if let Some(connection) = self.open.remove(index) {
            connection.task.abort();
        }
        true
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    is_answering: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answering = Answering(Arc::clone(&is_answering));
        let request = request.map(|body| Received::new(body, &is_answering));
        let answer = hyper::service::Service::call(&app, request);
        async move { answer.await.map(|response: Response<Body>| response.map(|body| Kept::new(body, answering))) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        trace!(%peer, %error, "a connection ended early");
    }
}

/// Marks a connection as busy from the complete request to the end of the response. A client that sends its
/// request slowly is not busy, and so keeps nobody out.
struct Answering(Arc<AtomicBool>);

/// The body of a request. When it is complete, the connection is marked as busy.
struct Received {
    body: Incoming,
    is_answering: Arc<AtomicBool>,
}

impl Received {
    fn new(body: Incoming, is_answering: &Arc<AtomicBool>) -> Self {
        if http_body::Body::is_end_stream(&body) {
            is_answering.store(true, Ordering::Relaxed);
        }
        Self { body, is_answering: Arc::clone(is_answering) }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || http_body::Body::is_end_stream(&this.body) {
            this.is_answering.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The body of a response with a value that is kept until all of it is sent or the connection is gone.
///
/// The body is handed out in parts, because a part that is handed out counts as sent.
pub struct Kept<T> {
    body: Body,
    /// The rest of the last frame that was not handed out yet.
    rest: Bytes,
    _guard: T,
}

impl<T> Kept<T> {
    pub const fn new(body: Body, kept: T) -> Self {
        Self { body, rest: Bytes::new(), _guard: kept }
    }
}

impl<T: Unpin> http_body::Body for Kept<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        if this.rest.len() <= CHUNK_SIZE {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.rest)))));
        }
        // Copied, so that a part that waits to be sent does not keep the whole frame in memory.
        let chunk = Bytes::copy_from_slice(&this.rest.split_to(CHUNK_SIZE));
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        match body.exact() {
            Some(exact) => SizeHint::with_exact(rest + exact),
            None => SizeHint::default(),
        }
    }
}
