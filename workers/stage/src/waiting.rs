//! Time that a loop waited for records. The rest of the time it was busy; scaling estimates the capacity of a replica from this.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::Stage;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    step: &'static str,
}

/// Seconds that a loop waited for records. Clones share the counter.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Counter<f64, AtomicU64>);

impl Waiting {
    /// The counter of the loop `step`, registered with the stage. A loop that never waits is exposed as 0.
    #[must_use]
    pub fn register(stage: &Stage, step: &'static str) -> Self {
        let all = stage.instruments(|registry| {
            let all: Family<Labels, Counter<f64, AtomicU64>> = Family::default();
            registry.register("waiting_seconds", "Time that a loop waited for records", all.clone());
            all
        });
        Self(all.get_or_create(&Labels { step }).clone())
    }

    /// Adds a wait from `begun` to `until`.
    pub fn waited(&self, begun: Instant, until: Instant) {
        self.0.inc_by(until.saturating_duration_since(begun).as_secs_f64());
    }

    /// The total so far.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::try_from_secs_f64(self.0.get()).unwrap_or_default()
    }
}
