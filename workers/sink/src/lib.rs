//! The sink stage.

use std::path::PathBuf;
use std::sync::Arc;

use herd_bus::Bus;
use herd_spec::plan::{Plan, SinkPlan};
use herd_stage::Stage;

/// What stops a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] herd_bus::BusError),
    /// The store.
    #[error(transparent)]
    Store(#[from] herd_store::StoreError),
}

/// Runs a sink until [`Stage::shutdown`] is cancelled.
///
/// # Errors
/// What stopped it.
pub async fn run<B: Bus>(
    plan: Arc<Plan>,
    sink: SinkPlan,
    bus: B,
    stage: Stage,
    data: PathBuf,
    member: String,
) -> Result<(), SinkError> {
    let _ = (plan, sink, bus, data, member);
    stage.shutdown.cancelled().await;
    Ok(())
}
