//! The collector stage: receives events over HTTP and responds once the bus has acknowledged them.
//!
//! [`intake`] is the pure core: from bytes to records. The other modules are its shell: limits, write keys, delivery, responses.
//! Events are reported as accepted only after the acknowledgement. Invalid events go unchanged to the dead-letter topic.

mod app;
mod body;
mod client;
mod context;
mod deliver;
mod delivery;
pub mod intake;
mod keys;
mod metrics;
mod pixel;
mod prepare;
mod reply;
mod routes;
mod script;
mod serve;

use std::sync::Arc;
use std::time::{Duration, Instant};

use herd_bus::{Bus, BusError, Producer};
use herd_spec::health::Trouble;
use herd_spec::plan::Plan;
use herd_stage::{Retry, SecretError, Stage, StageError};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use app::App;

/// Memory limit for the bodies of all requests together, in bytes.
const BODY_MEMORY: usize = 512 << 20;
/// Interval and timeout of the health check of the bus.
const HEALTH_CHECK: Duration = Duration::from_secs(2);
/// Maximum time for open requests to finish at shutdown, and then for the bus to acknowledge their records.
const GRACE: Duration = Duration::from_secs(20);

/// An error that stops the stage.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The bus refused permanently.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A write key cannot be read.
    #[error("cannot read a write key of the collector: {0}")]
    Secret(#[from] SecretError),
    /// The JSON Schema of the plan does not compile.
    #[error("{0}")]
    Schema(String),
}

impl StageError for CollectorError {
    fn retry(&self) -> Retry {
        match self {
            Self::Bus(BusError::Refused { .. }) | Self::Secret(_) => Retry::AfterRepair,
            Self::Bus(_) => Retry::Soon,
            Self::Schema(_) => Retry::Never,
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            Self::Bus(error) => error.trouble(),
            Self::Secret(_) | Self::Schema(_) => Trouble::StageFailed,
        }
    }
}

/// Serves on `listener` until `stage.shutdown`; then stops accepting, finishes open requests, flushes and returns. From
/// `stage.draining` on, connections are closed after their response.
///
/// # Errors
/// [`CollectorError`] if the stage cannot start.
pub async fn run<B: Bus>(
    plan: Arc<Plan>,
    bus: B,
    stage: Stage,
    listener: TcpListener,
) -> Result<(), CollectorError> {
    let producer = bus.producer("collector")?;
    let limits = &plan.collector.limits;
    let app = Arc::new(App {
        intake: intake::Intake::new(&plan.events).map_err(CollectorError::Schema)?,
        context: context::ContextReader::new(&plan.collector),
        writers: keys::Writers::new(&plan.collector, &stage.secrets)?,
        memory: body::Memory::new(
            BODY_MEMORY.max(4 * usize::try_from(limits.inflated_bytes).unwrap_or(BODY_MEMORY)),
        ),
        in_flight_permits: Arc::new(Semaphore::new(App::max_in_flight(limits))),
        metrics: metrics::CollectorMetrics::registered(&stage),
        delivery: delivery::Delivery::default(),
        plan,
    });
    stage.health.starting("broker", "the broker has not been contacted yet");
    let watching = tokio::spawn(watch(Arc::clone(&app), bus, stage.clone()));
    let router = routes::router(Arc::clone(&app), producer.clone());
    serve::serve(&listener, router, &app, &stage, GRACE).await;
    watching.abort();
    let left = tokio::task::spawn_blocking(move || producer.flush(GRACE)).await.unwrap_or(0);
    if left > 0 {
        tracing::error!(records = left, "stopped before the broker acknowledged all records");
    }
    Ok(())
}

/// Updates health and gauges.
async fn watch<B: Bus>(app: Arc<App>, bus: B, stage: Stage) {
    let mut tick = tokio::time::interval(HEALTH_CHECK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (bus, topic) = (bus.clone(), app.plan.topics.events.name.clone());
        let check = tokio::task::spawn_blocking(move || {
            bus.ping(HEALTH_CHECK)?;
            bus.partitions(&topic).map(drop)
        });
        match check.await {
            Ok(Ok(())) => stage.health.ok("broker"),
            Ok(Err(error)) => stage.health.fail("broker", error.trouble(), error.to_string()),
            Err(error) => stage.health.fail("broker", Trouble::StageFailed, error.to_string()),
        }
        match app.delivery.failure(Instant::now()) {
            Some(why) => stage.health.fail("delivery", Trouble::DeliveryFailing, why),
            None => stage.health.ok("delivery"),
        }
        app.update_saturation();
        app.writers.forget_idle();
    }
}
