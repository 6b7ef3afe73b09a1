//! The operator as a program: waits for the lease, leads, gives it back.

use std::sync::Arc;

use futures_util::future::join_all;
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::context::Context;
use crate::http::{self, Readiness};
use crate::lease::Candidate;
use crate::metrics::Metrics;
use crate::scaling::{self, Scaler};
use crate::settings::Settings;
use crate::tell::Teller;
use crate::watch;

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another may lead now.
    #[error("the lease was lost: another operator may lead now")]
    LeaseLost,
    /// The operational endpoints failed.
    #[error("the operational endpoints failed: {0}")]
    Http(#[from] std::io::Error),
}

/// Runs until `shutdown`: what is under way is finished, the lease given back.
///
/// # Errors
/// [`RunError`]. Whoever runs it starts it again.
pub async fn run(
    settings: Settings,
    client: Client,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let (readiness, metrics, ended) = (Readiness::default(), Metrics::default(), CancellationToken::new());
    let served = tokio::spawn(http::serve(listener, readiness.clone(), metrics.clone(), ended.clone()));
    let outcome = lead(&settings, client, &readiness, &metrics, shutdown).await;
    ended.cancel();
    if let Ok(served) = served.await {
        served?;
    }
    outcome
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
    let Some(mut held) = candidate.win(&shutdown, |reached| readiness.set(reached)).await else {
        return Ok(());
    };
    metrics.lead(true);
    let mut context = Context::new(
        client.clone(),
        settings.worker_image.clone(),
        Arc::new(Scaler::default()),
        Teller::new(client, settings.identity.clone()),
        metrics.clone(),
    );
    context.pull_secrets = settings.pull_secrets();
    let context = Arc::new(context);
    // The lease is kept while what is under way is finished, and lost only with it.
    let (stop, finished) = (shutdown.child_token(), CancellationToken::new());
    let watches =
        settings.scopes().into_iter().map(|scope| watch::run(scope, Arc::clone(&context), stop.clone()));
    let (scaler, contests) = (Arc::clone(&context.scaler), Arc::clone(&context.contests));
    let scaling = scaling::run(scaler, contests, context.client.clone(), metrics.clone(), stop.clone());
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
        // What was under way ends here: another may write now.
        return Err(RunError::LeaseLost);
    }
    held.release().await;
    Ok(())
}
