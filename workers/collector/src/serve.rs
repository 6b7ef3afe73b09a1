//! The HTTP server: accepts connections, within limits, until the shutdown.
//!
//! The end has two phases. While the stage *drains*, new connections are still accepted and all requests are answered, but each
//! response closes its connection (`Connection: close` in HTTP/1.1, GOAWAY in HTTP/2), so that clients reconnect to another replica.
//! At the *shutdown*, the listener is closed and open requests are finished.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::response::Response;
use axum::{Extension, Router};
use herd_stage::Stage;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::app::App;
use crate::routes::Peer;

/// Response to connections above the limit.
const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
connection: close\r\n\r\n\
{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections: try again later\"}\n";
/// Pause after a failed accept, for example because the process has no file descriptors left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Maximum time to wait at shutdown for the first request of a new connection.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum size of the headers of a request, in bytes.
const HEADER_BYTES: usize = 64 << 10;

/// State shared by all connections.
struct Server<'a> {
    builder: Builder<TokioExecutor>,
    router: Router,
    app: &'a App,
    stage: &'a Stage,
    permits: Arc<Semaphore>,
    connections: TaskTracker,
}

/// Serves until `stage.shutdown`; then finishes open requests, at most for `grace`.
pub(crate) async fn serve(listener: &TcpListener, router: Router, app: &App, stage: &Stage, grace: Duration) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(app.limits().header_timeout.0)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .keep_alive_interval(Duration::from_secs(30))
        .max_header_list_size(HEADER_BYTES as u32);
    let permits = Arc::new(Semaphore::new(app.limits().connections as usize));
    let server = Server { builder, router, app, stage, permits, connections: TaskTracker::new() };
    loop {
        let accepted = tokio::select! {
            () = stage.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => server.spawn(stream, peer),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    // Connections in the accept queue would otherwise be reset.
    while let Ok(Ok((stream, peer))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
        server.spawn(stream, peer);
    }
    server.connections.close();
    if tokio::time::timeout(grace, server.connections.wait()).await.is_err() {
        tracing::warn!(?grace, "some requests were not finished within the grace period");
    }
}

impl Server<'_> {
    fn spawn(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            refuse(&stream);
            return;
        };
        // Responses are small: Nagle's algorithm would only delay them.
        let _ = stream.set_nodelay(true);
        let (protocol_tx, protocol) = watch::channel(Protocol::Unknown);
        let service = Draining {
            inner: self.router.clone().layer(Extension(Peer(peer.ip()))),
            draining: self.stage.draining.clone(),
            protocol: Arc::new(protocol_tx),
        };
        let open = self.app.metrics.connections.clone();
        let (builder, draining, shutdown) =
            (self.builder.clone(), self.stage.draining.clone(), self.stage.shutdown.clone());
        self.connections.spawn(async move {
            open.inc();
            connection(&builder, stream, service, protocol, &draining, &shutdown, permit).await;
            open.dec();
        });
    }
}

/// Protocol of a connection, known with its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Unknown,
    Http1,
    Http2,
}

async fn connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    service: Draining,
    mut protocol: watch::Receiver<Protocol>,
    draining: &CancellationToken,
    shutdown: &CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let mut at_shutdown = protocol.clone();
    let go_away = async {
        tokio::select! {
            () = shutdown.cancelled() => {
                // A client that has just connected is about to send a request.
                let first = at_shutdown.wait_for(|protocol| *protocol != Protocol::Unknown);
                let _ = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, first).await;
            }
            // An idle HTTP/1.1 connection is not closed while draining, because a request in transit would be lost. In HTTP/2,
            // GOAWAY tells the client which requests were not processed.
            () = async {
                draining.cancelled().await;
                if protocol.wait_for(|protocol| *protocol == Protocol::Http2).await.is_err() {
                    // The service has been dropped, and the connection with it.
                    std::future::pending::<()>().await;
                }
            } => {}
        }
    };
    tokio::select! {
        // Errors of single connections are caused by clients.
        _ = connection.as_mut() => return,
        () = go_away => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The router; adds `Connection: close` to responses while the stage drains.
#[derive(Clone)]
struct Draining {
    inner: Router,
    draining: CancellationToken,
    protocol: Arc<watch::Sender<Protocol>>,
}

impl Service<Request<Incoming>> for Draining {
    type Response = Response;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        <Router as Service<Request<Incoming>>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let http2 = request.version() == Version::HTTP_2;
        let version = if http2 { Protocol::Http2 } else { Protocol::Http1 };
        self.protocol.send_if_modified(|protocol| std::mem::replace(protocol, version) != version);
        let draining = self.draining.clone();
        let answering = self.inner.call(request.map(Body::new));
        Box::pin(async move {
            let mut response = answering.await?;
            if !http2 && draining.is_cancelled() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

/// Sends the 503 response if that is possible without waiting.
fn refuse(stream: &TcpStream) {
    let _ = stream.try_write(TOO_MANY_CONNECTIONS);
}
