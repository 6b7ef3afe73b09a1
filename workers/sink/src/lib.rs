//! The sink stage: what others made goes to where people keep and see things.
//!
//! ```text
//! events  ──► feed ─┐
//! windows ──► feed ─┼──► PostgreSQL, SQLite      rows and positions in one transaction (herd-store)
//! alerts  ──► feed ─┘
//! alerts  ──► webhook ──► an HTTP endpoint       at least once, one message a person
//!                └── what is refused for good ──► dead-letter
//! ```
//!
//! Each topic has a consumer and a thread of its own, so that one that is slow or stuck does not hold up the others. While a
//! database or an endpoint is away, a sink waits, says so in its readiness, and stays a member of its group: nothing is
//! lost, nothing is stored twice.

mod backoff;
mod batch;
mod conditions;
mod database;
mod dead_letter;
mod feed;
mod metrics;
mod webhook;

pub use database::{FeedSetup, Limits};
pub use feed::Feed;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use herd_bus::{Bus, BusError};
use herd_spec::health::Trouble;
use herd_spec::plan::{Plan, SinkKind, SinkPlan};
use herd_stage::{SecretError, Stage};
use herd_store::StoreError;

/// What stops a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The bus failed for good.
    #[error("sink {sink}: {source}")]
    Bus {
        /// The sink.
        sink: String,
        /// What the bus says.
        source: BusError,
    },
    /// The store failed for good, or this member was fenced off; started again, it goes on from the stored position.
    #[error("sink {sink}: {source}")]
    Store {
        /// The sink.
        sink: String,
        /// What the store says.
        source: StoreError,
    },
    /// A Secret could not be read.
    #[error("sink {sink}: {source}")]
    Secret {
        /// The sink.
        sink: String,
        /// Why not.
        source: SecretError,
    },
    /// The dead-letter topic does not take a refused record, and without that the sink may not go past it.
    #[error("sink {sink}: a refused record cannot be sent to {topic}: {why}")]
    DeadLetter {
        /// The sink.
        sink: String,
        /// The dead-letter topic.
        topic: String,
        /// What the bus says.
        why: String,
    },
    /// The webhook cannot be called as it is configured.
    #[error("sink {sink}: the webhook cannot be used: {why}")]
    Webhook {
        /// The sink.
        sink: String,
        /// Why not, and what to change.
        why: String,
    },
    /// A thread could not be started, or ended without a word.
    #[error("sink {sink}: the thread of {part} {why}")]
    Thread {
        /// The sink.
        sink: String,
        /// What it was for.
        part: &'static str,
        /// What happened to it.
        why: String,
    },
}

impl SinkError {
    /// What kind of trouble it is, for the stage's report of its health.
    pub(crate) fn trouble(&self) -> Trouble {
        match self {
            Self::Bus { source, .. } => source.trouble(),
            Self::Store { source, .. } => source.trouble(),
            Self::DeadLetter { .. } => Trouble::DeliveryFailing,
            Self::Webhook { .. } => Trouble::WebhookFailing,
            Self::Secret { .. } | Self::Thread { .. } => Trouble::StageFailed,
        }
    }
}

/// Runs a sink as `member` of its group until [`Stage::shutdown`] is cancelled; then finishes what is under way. `data` is
/// the folder that an SQLite file's path is relative to.
///
/// # Errors
/// The first thing that stopped it: start it again, and it goes on where it was.
pub async fn run<B: Bus>(
    plan: Arc<Plan>,
    sink: SinkPlan,
    bus: B,
    stage: Stage,
    data: PathBuf,
    member: String,
) -> Result<(), SinkError> {
    if plan.paused {
        stage.shutdown.cancelled().await;
        return Ok(());
    }
    // A failure of one part stops the other parts of this sink, but not what else runs in this process.
    let stage = stage.part();
    match &sink.kind {
        SinkKind::Store(store) => database::run(&plan, &sink, store, bus, &stage, &data, &member).await,
        SinkKind::Webhook(webhook) => webhook::run(&plan, &sink, webhook, bus, &stage, &member).await,
    }
}

/// How a thread ends.
type Ended = Pin<Box<dyn Future<Output = Result<(), SinkError>> + Send>>;

/// Runs `body` on a thread of its own; whatever way it ends, the whole sink is told to stop.
fn spawn(
    sink: &str,
    part: &'static str,
    condition: &'static str,
    stage: &Stage,
    body: impl FnOnce() -> Result<(), SinkError> + Send + 'static,
) -> Result<Ended, SinkError> {
    let (done, ended) = tokio::sync::oneshot::channel();
    let guard = stage.shutdown.clone().drop_guard();
    let (sink, stage) = (sink.to_owned(), stage.clone());
    let name = sink.clone();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name(format!("sink-{part}"))
        .spawn(move || {
            let _guard = guard;
            // Timeouts are made on this thread, and need to know whose clock they go by.
            let _runtime = runtime.enter();
            stage.health.ok(condition);
            let outcome = body();
            if let Err(error) = &outcome {
                stage.health.fail(condition, error.trouble(), error.to_string());
                tracing::error!(target: "herd_sink::stopped", sink = name, part, %error, "stopped");
            }
            // The receiver is gone only where nobody wants to know any more.
            let _ = done.send(outcome);
        })
        .map_err(|error| SinkError::Thread {
            sink: sink.clone(),
            part,
            why: format!("could not be started: {error}"),
        })?;
    Ok(Box::pin(async move {
        ended.await.unwrap_or_else(|_| Err(SinkError::Thread { sink, part, why: "panicked".into() }))
    }))
}
