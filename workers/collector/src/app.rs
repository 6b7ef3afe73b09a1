//! State shared by all requests.

use std::sync::Arc;

use axum::http::StatusCode;
use herd_spec::pipeline::LimitsSpec;
use herd_spec::plan::Plan;
use herd_stage::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::Memory;
use crate::context::ContextReader;
use crate::delivery::Delivery;
use crate::intake::Intake;
use crate::keys::Writers;
use crate::metrics::CollectorMetrics;

/// State shared by all requests.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) plan: Arc<Plan>,
    pub(crate) intake: Intake,
    pub(crate) context: ContextReader,
    pub(crate) writers: Writers,
    pub(crate) memory: Memory,
    pub(crate) in_flight_permits: Arc<Semaphore>,
    pub(crate) metrics: CollectorMetrics,
    pub(crate) delivery: Delivery,
}

impl App {
    pub(crate) fn limits(&self) -> &LimitsSpec {
        &self.plan.collector.limits
    }

    /// Maximum number of events in flight: at least one request of maximum size.
    pub(crate) fn max_in_flight(limits: &LimitsSpec) -> usize {
        limits.in_flight_events.max(limits.batch_events) as usize
    }

    /// Whether CORS allows this origin.
    pub(crate) fn allows_origin(&self, origin: &str) -> bool {
        self.plan.collector.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
    }

    /// Acquires permits for events in flight without waiting.
    pub(crate) fn acquire_in_flight(&self, events: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let permits = u32::try_from(events).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.in_flight_permits).try_acquire_many_owned(permits).map_err(|_| {
            self.metrics.count("unavailable", events);
            Problem::busy(
                "too many events are waiting for the acknowledgement of the broker: try again later",
            )
        })?;
        self.update_saturation();
        Ok(taken)
    }

    pub(crate) fn update_saturation(&self) {
        let max = Self::max_in_flight(self.limits());
        let taken = max.saturating_sub(self.in_flight_permits.available_permits());
        self.metrics.in_flight.set(i64::try_from(taken).unwrap_or(i64::MAX));
        #[allow(clippy::cast_precision_loss)] // far below 2^52
        self.metrics.saturation.set(taken as f64 / max as f64);
    }

    /// The problem for an origin that is not allowed.
    pub(crate) fn origin_not_allowed(&self, origin: &str) -> Problem {
        let shown: String = origin.chars().take(100).collect();
        let detail =
            format!("the origin {shown} is not allowed: it is not listed in spec.collector.cors.origins");
        Problem::new(StatusCode::FORBIDDEN, detail)
    }
}
