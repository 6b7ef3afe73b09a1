//! What every request shares.

use std::sync::Arc;

use axum::http::StatusCode;
use herd_spec::pipeline::LimitsSpec;
use herd_spec::plan::Plan;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::Memory;
use crate::delivery::Delivery;
use crate::intake::Intake;
use crate::keys::Writers;
use crate::metrics::CollectorMetrics;
use crate::problem::Problem;

/// What every request shares.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) plan: Arc<Plan>,
    pub(crate) intake: Intake,
    pub(crate) writers: Writers,
    pub(crate) memory: Memory,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) metrics: CollectorMetrics,
    pub(crate) delivery: Delivery,
}

impl App {
    pub(crate) fn limits(&self) -> &LimitsSpec {
        &self.plan.collector.limits
    }

    /// How many events may be in flight: at least one request's worth.
    pub(crate) fn most_in_flight(limits: &LimitsSpec) -> usize {
        limits.in_flight_events.max(limits.batch_events) as usize
    }

    /// Whether pages of this origin may send.
    pub(crate) fn takes_origin(&self, origin: &str) -> bool {
        self.plan.collector.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
    }

    /// Places for events in flight, now or not at all.
    pub(crate) fn take_places(&self, events: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let places = u32::try_from(events).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.places).try_acquire_many_owned(places).map_err(|_| {
            self.metrics.count("unavailable", events);
            Problem::busy("the broker is behind: too many events wait for its acknowledgement")
        })?;
        self.show_saturation();
        Ok(taken)
    }

    pub(crate) fn show_saturation(&self) {
        let most = Self::most_in_flight(self.limits());
        let taken = most.saturating_sub(self.places.available_permits());
        self.metrics.in_flight.set(i64::try_from(taken).unwrap_or(i64::MAX));
        #[allow(clippy::cast_precision_loss)] // far below 2^52
        self.metrics.saturation.set(taken as f64 / most as f64);
    }

    /// A page of an origin that is not listed.
    pub(crate) fn foreign(&self, origin: &str) -> Problem {
        let shown: String = origin.chars().take(100).collect();
        let detail = format!("pages of {shown} may not send: spec.collector.cors.origins does not list it");
        Problem::new(StatusCode::FORBIDDEN, detail)
    }
}
