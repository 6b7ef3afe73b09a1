//! The life of an operator process: waits for the lease, leads, releases the lease.

use std::sync::Arc;

use futures_util::future::join_all;
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::context::Context;
use crate::event_publisher::EventPublisher;
use crate::http::{self, Readiness};
use crate::lease::Candidate;
use crate::metrics::Metrics;
use crate::scaling::{self, Scaler};
use crate::settings::Settings;
use crate::watch;

/// Why the operator stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another operator may lead now.
    #[error("the lease was lost; another operator may lead now")]
    LeaseLost,
    /// The HTTP server failed.
    #[error("the HTTP server for health and metrics failed: {0}")]
    Http(#[from] std::io::Error),
}

/// Runs until `shutdown`: then finishes reconciles in progress and releases the lease.
///
/// # Errors
/// [`RunError`]. The process should be restarted.
pub async fn run(
    settings: Settings,
    client: Client,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let (readiness, metrics, ended) = (Readiness::default(), Metrics::default(), CancellationToken::new());
    let served = tokio::spawn(http::serve(listener, readiness.clone(), metrics.clone(), ended.clone()));
    let result = lead(&settings, client, &readiness, &metrics, shutdown).await;
    ended.cancel();
    if let Ok(served) = served.await {
        served?;
    }
    result
}

async fn lead(
    settings: &Settings,
    client: Client,
    readiness: &Readiness,
    metrics: &Metrics,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    info!(identity = settings.identity, lease = settings.lease_name, "waiting for the lease");
    let candidate =
        Candidate::new(&client, &settings.lease_namespace, &settings.lease_name, &settings.identity);
    let Some(mut held) = candidate.acquire(&shutdown, |reached| readiness.set(reached)).await else {
        return Ok(());
    };
    metrics.lead(true);
    let mut context = Context::new(
        client.clone(),
        settings.worker_image.clone(),
        Arc::new(Scaler::default()),
        EventPublisher::new(client, settings.identity.clone()),
        metrics.clone(),
    );
    context.pull_secrets = settings.pull_secrets();
    let context = Arc::new(context);
    // The lease is renewed until reconciles in progress are finished.
    let (stop, finished) = (shutdown.child_token(), CancellationToken::new());
    let watches =
        settings.scopes().into_iter().map(|scope| watch::run(scope, Arc::clone(&context), stop.clone()));
    let scaling = scaling::run(Arc::clone(&context), stop.clone());
    let work = async {
        tokio::join!(join_all(watches), scaling);
        finished.cancel();
    };
    let kept = tokio::select! {
        kept = held.keep(&finished) => kept,
        () = work => true,
    };
    metrics.lead(false);
    if !kept {
        // Reconciles in progress are aborted: another operator may write now.
        return Err(RunError::LeaseLost);
    }
    held.release().await;
    Ok(())
}
