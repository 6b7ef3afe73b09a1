//! Accepting connections, within limits, until told to stop.
//!
//! The end has two steps. While the stage *drains*, new connections are accepted as before and every request is answered; connections
//! are told to close with that answer (`Connection: close` in HTTP/1.1, GOAWAY in HTTP/2), so that clients come back by a way that
//! leads elsewhere. When it is *shut down*, the listener closes, and what is under way is finished.

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

/// What a connection beyond the limit hears.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
connection: close\r\n\r\n\
{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections: try again soon\"}\n";
/// A pause after accepting failed, which it does where this process has no file descriptors left.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// How long somebody who connected may take to begin a request when the stage is shut down.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// Most bytes of a request's headers.
const HEADER_BYTES: usize = 64 << 10;

/// What all connections share.
struct Server<'a> {
    builder: Builder<TokioExecutor>,
    router: Router,
    app: &'a App,
    stage: &'a Stage,
    places: Arc<Semaphore>,
    connections: TaskTracker,
}

/// Serves until `stage.shutdown`; then finishes what is under way, at most for `grace`.
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
    let places = Arc::new(Semaphore::new(app.limits().connections as usize));
    let server = Server { builder, router, app, stage, places, connections: TaskTracker::new() };
    loop {
        let accepted = tokio::select! {
            () = stage.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => server.take(stream, peer),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
    // Who has connected already, and was not accepted yet, would otherwise be reset.
    while let Ok(Ok((stream, peer))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
        server.take(stream, peer);
    }
    server.connections.close();
    if tokio::time::timeout(grace, server.connections.wait()).await.is_err() {
        tracing::warn!(?grace, "some requests were not finished in time");
    }
}

impl Server<'_> {
    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            turn_away(&stream);
            return;
        };
        // Answers are small: waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let (hear, heard) = watch::channel(Heard::Nothing);
        let service = Draining {
            inner: self.router.clone().layer(Extension(Peer(peer.ip()))),
            draining: self.stage.draining.clone(),
            hear: Arc::new(hear),
        };
        let open = self.app.metrics.connections.clone();
        let (builder, draining, shutdown) =
            (self.builder.clone(), self.stage.draining.clone(), self.stage.shutdown.clone());
        self.connections.spawn(async move {
            open.inc();
            connection(&builder, stream, service, heard, &draining, &shutdown, place).await;
            open.dec();
        });
    }
}

/// What has come over a connection so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Http1,
    Http2,
}

async fn connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    service: Draining,
    mut heard: watch::Receiver<Heard>,
    draining: &CancellationToken,
    shutdown: &CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let mut at_shutdown = heard.clone();
    let go_away = async {
        tokio::select! {
            () = shutdown.cancelled() => {
                // Whoever has just connected is about to send a request.
                let first = at_shutdown.wait_for(|heard| *heard != Heard::Nothing);
                let _ = tokio::time::timeout(FIRST_REQUEST, first).await;
            }
            // An idle connection of HTTP/1.1 is not closed while draining: a request may be on its way, and would be lost. In
            // HTTP/2 a client knows which of its requests were not read, so that it is told at once.
            () = async {
                draining.cancelled().await;
                if heard.wait_for(|heard| *heard == Heard::Http2).await.is_err() {
                    // The service is gone, and the connection with it.
                    std::future::pending::<()>().await;
                }
            } => {}
        }
    };
    tokio::select! {
        // How a connection ends is its client's affair.
        _ = connection.as_mut() => return,
        () = go_away => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The router, with the word to leave in every answer while the stage drains.
#[derive(Clone)]
struct Draining {
    inner: Router,
    draining: CancellationToken,
    hear: Arc<watch::Sender<Heard>>,
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
        let version = if http2 { Heard::Http2 } else { Heard::Http1 };
        self.hear.send_if_modified(|heard| std::mem::replace(heard, version) != version);
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

/// Says why, as far as that is possible without waiting.
fn turn_away(stream: &TcpStream) {
    let _ = stream.try_write(FULL);
}
