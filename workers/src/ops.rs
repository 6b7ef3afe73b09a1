//! The operational endpoints of stages that have no HTTP of their own.

use herd_stage::Stage;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves `/healthz`, `/readyz` and `/metrics` of a stage until `end`: longer than the stage itself, which may have to finish.
///
/// # Errors
/// If the listener fails.
pub async fn serve(stage: Stage, listener: TcpListener, end: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, herd_stage::ops::router(stage)).with_graceful_shutdown(end.cancelled_owned()).await
}
