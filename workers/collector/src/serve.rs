//! Accepting connections, within limits, until told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::routes::Peer;

/// What a connection beyond the limit hears.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
connection: close\r\n\r\n\
{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections: try again soon\"}\n";
/// A pause after accepting failed, which it does where this process has no file descriptors left.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// Most bytes of a request's headers.
const HEADER_BYTES: usize = 64 << 10;

/// Serves until `shutdown`; then finishes what is under way, at most for `grace`.
pub(crate) async fn serve(
    listener: &TcpListener,
    router: Router,
    app: &App,
    shutdown: &CancellationToken,
    grace: Duration,
) {
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
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            turn_away(&stream);
            continue;
        };
        let connection = connection(&builder, stream, peer, &router);
        let watched = graceful.watch(connection);
        let open = app.metrics.connections.clone();
        open.inc();
        tokio::spawn(async move {
            // How a connection ends is its client's affair.
            let _ = watched.await;
            open.dec();
            drop(place);
        });
    }
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(?grace, "some requests were not finished in time");
    }
}

fn connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    peer: SocketAddr,
    router: &Router,
) -> impl hyper_util::server::graceful::GracefulConnection<Output: Send> + Send + 'static + use<> {
    // Answers are small: waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.clone().layer(Extension(Peer(peer.ip()))));
    builder.serve_connection(TokioIo::new(stream), service).into_owned()
}

/// Says why, as far as that is possible without waiting.
fn turn_away(stream: &TcpStream) {
    let _ = stream.try_write(FULL);
}
