//! The collector stage: takes events in over HTTP and answers once the bus has acknowledged them.
//!
//! [`intake`] is the pure core: from bytes to records. The rest is its shell: limits, write keys, delivery, answers.
//! Nothing is accepted that is not acknowledged, nothing invalid is lost: it goes to the dead-letter topic as it came.

mod app;
mod body;
mod client;
mod deliver;
mod delivery;
pub mod intake;
mod keys;
mod metrics;
mod prepare;
mod problem;
mod reply;
mod routes;
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

/// Memory that the bodies of all requests together may take.
const BODIES: usize = 512 << 20;
/// How often the bus is asked whether it answers, and how long it may take.
const PING: Duration = Duration::from_secs(2);
/// How long requests that are under way may take once the stage is to end, and then the bus to acknowledge.
const GRACE: Duration = Duration::from_secs(20);

/// What stops the stage.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The bus refuses for good.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A write key cannot be read.
    #[error("a write key of the collector: {0}")]
    Secret(#[from] SecretError),
    /// The plan's JSON Schema does not compile.
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

/// Serves on `listener` until `stage.shutdown`; then stops accepting, finishes what is under way, flushes and returns. From
/// `stage.draining` on, connections are told to close after their answer.
///
/// # Errors
/// [`CollectorError`] if it cannot begin.
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
        writers: keys::Writers::new(&plan.collector, &stage.secrets)?,
        memory: body::Memory::new(BODIES.max(4 * usize::try_from(limits.inflated_bytes).unwrap_or(BODIES))),
        places: Arc::new(Semaphore::new(App::most_in_flight(limits))),
        metrics: metrics::CollectorMetrics::registered(&stage),
        delivery: delivery::Delivery::default(),
        plan,
    });
    stage.health.starting("broker", "Kafka has not been asked yet whether it answers");
    let watching = tokio::spawn(watch(Arc::clone(&app), bus, stage.clone()));
    let router = routes::router(Arc::clone(&app), producer.clone());
    serve::serve(&listener, router, &app, &stage, GRACE).await;
    watching.abort();
    let left = tokio::task::spawn_blocking(move || producer.flush(GRACE)).await.unwrap_or(0);
    if left > 0 {
        tracing::error!(records = left, "stopped before the broker acknowledged everything");
    }
    Ok(())
}

/// Keeps readiness and gauges up to date.
async fn watch<B: Bus>(app: Arc<App>, bus: B, stage: Stage) {
    let mut tick = tokio::time::interval(PING);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (bus, topic) = (bus.clone(), app.plan.topics.events.name.clone());
        let asked = tokio::task::spawn_blocking(move || {
            bus.ping(PING)?;
            bus.partitions(&topic).map(drop)
        });
        match asked.await {
            Ok(Ok(())) => stage.health.ok("broker"),
            Ok(Err(error)) => stage.health.fail("broker", error.trouble(), error.to_string()),
            Err(error) => stage.health.fail("broker", Trouble::StageFailed, error.to_string()),
        }
        match app.delivery.complaint(Instant::now()) {
            Some(why) => stage.health.fail("delivery", Trouble::DeliveryFailing, why),
            None => stage.health.ok("delivery"),
        }
        app.show_saturation();
        app.writers.forget_idle();
    }
}
