//! The sink stage: what others made goes to where people keep and see things.
//!
//! ```text
//! events  ──► table sink ─┐
//! windows ──► table sink ─┼──► PostgreSQL, SQLite      rows and positions in one transaction (herd-store)
//! alerts  ──► table sink ─┘
//! alerts  ──► webhook sink ──► an HTTP endpoint        at least once, one message a person
//!                └── what is refused for good ──► dead-letter
//! ```
//!
//! Each topic has a consumer and a thread of its own, so that one that is slow or stuck does not hold up the others. While a
//! database or an endpoint is away, a sink waits, says so in its readiness, and stays a member of its group: nothing is
//! lost, nothing is stored twice.

mod alerts;
mod conditions;
mod database;
mod dead_letter;
mod error;
mod metrics;
mod table;
mod webhook;

pub use error::SinkError;
pub use table::{Limits, TableSink, TableSinkSetup};

use std::path::PathBuf;
use std::sync::Arc;

use herd_bus::Bus;
use herd_spec::plan::{Plan, SinkKind, SinkPlan};
use herd_stage::{Stage, thread};

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
    let context = SinkContext { plan: &plan, sink: &sink, bus, stage, member: &member };
    match &sink.kind {
        SinkKind::Store(store) => database::run(&context, store, &data).await,
        SinkKind::Webhook(webhook) => webhook::run(&context, webhook).await,
    }
}

/// What every kind of sink runs with.
struct SinkContext<'a, B> {
    plan: &'a Plan,
    sink: &'a SinkPlan,
    bus: B,
    stage: Stage,
    /// Its name in its group.
    member: &'a str,
}

/// Runs `body` on a thread of its own; whatever way it ends, the whole sink is told to stop.
fn spawn(
    sink: &str,
    part: &'static str,
    condition: &'static str,
    stage: &Stage,
    body: impl FnOnce() -> Result<(), SinkError> + Send + 'static,
) -> Result<thread::Ended<SinkError>, SinkError> {
    let sink = sink.to_owned();
    let broken = move |why| SinkError::Thread { sink: sink.clone(), part, why };
    thread::spawn(format!("sink-{part}"), condition, stage, broken, body)
}
