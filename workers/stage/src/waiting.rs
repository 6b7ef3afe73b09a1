//! How long a stage waited for something to do: what is left of its time, it was busy. Scaling learns from it what a replica can do
//! before one is at its limit.

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

/// Seconds in which one loop waited for records. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Counter<f64, AtomicU64>);

impl Waiting {
    /// The count of the loop `step`, registered with the stage. A loop that never waits is there as well, with none.
    #[must_use]
    pub fn register(stage: &Stage, step: &'static str) -> Self {
        let all = stage.instruments(|registry| {
            let all: Family<Labels, Counter<f64, AtomicU64>> = Family::default();
            registry.register(
                "waiting_seconds",
                "Time in which a loop waited for something to do",
                all.clone(),
            );
            all
        });
        Self(all.get_or_create(&Labels { step }).clone())
    }

    /// From when it began to wait until there was something, or until it gave up.
    pub fn waited(&self, begun: Instant, until: Instant) {
        self.0.inc_by(until.saturating_duration_since(begun).as_secs_f64());
    }

    /// All of it so far.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::try_from_secs_f64(self.0.get()).unwrap_or_default()
    }
}
