//! What the operator counts. Labels are of small fixed sets: never names of pipelines.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    verb: &'static str,
}

/// The operator's metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    reconciles: Family<Outcome, Counter>,
    errors: Family<Reason, Counter>,
    writes: Family<Write, Counter>,
    decisions: Family<Reason, Counter>,
    topics_left: Counter,
    seconds: Histogram,
    running: Gauge,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("herd_operator");
        let metrics = Self {
            reconciles: Family::default(),
            errors: Family::default(),
            writes: Family::default(),
            decisions: Family::default(),
            topics_left: Counter::default(),
            // 1 ms to 32 s.
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            running: Gauge::default(),
            leader: Gauge::default(),
            registry: Arc::default(),
        };
        registry.register("reconciles", "Reconciles that ended", metrics.reconciles.clone());
        registry.register("errors", "Reconciles that failed, by reason", metrics.errors.clone());
        registry.register("writes", "Objects written to the API server", metrics.writes.clone());
        registry.register("decisions", "Changes of replicas decided, by reason", metrics.decisions.clone());
        registry.register(
            "topics_left",
            "Topics and consumer groups of deleted pipelines that stay in Kafka although they were to be deleted",
            metrics.topics_left.clone(),
        );
        registry.register("reconcile_seconds", "How long a reconcile takes", metrics.seconds.clone());
        registry.register("reconciling", "Reconciles under way", metrics.running.clone());
        registry.register("leader", "1 while this process is the leader", metrics.leader.clone());
        *metrics.registry.lock() = registry;
        metrics
    }
}

/// Counts one reconcile: begun when made, ended with [`Running::end`].
#[derive(Debug)]
pub struct Running<'m> {
    metrics: &'m Metrics,
    begun: std::time::Instant,
}

impl Metrics {
    /// A reconcile begins.
    #[must_use]
    pub fn begin(&self) -> Running<'_> {
        self.running.inc();
        Running { metrics: self, begun: std::time::Instant::now() }
    }

    /// An object is written.
    pub fn write(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&Write { kind, verb }).inc();
    }

    /// Other replicas were decided.
    pub fn decided(&self, reason: &'static str) {
        self.decisions.get_or_create(&Reason { reason }).inc();
    }

    /// So many topics and groups were to be deleted and stay.
    pub fn left(&self, many: usize) {
        self.topics_left.inc_by(u64::try_from(many).unwrap_or(u64::MAX));
    }

    /// Whether we lead.
    pub fn lead(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// All of them as OpenMetrics text.
    ///
    /// # Errors
    /// If they cannot be written as text.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }
}

impl Running<'_> {
    /// It ended: well, or for this reason not.
    pub fn end(self, failure: Option<crate::reason::Reason>) {
        let outcome = if failure.is_some() { "failed" } else { "done" };
        self.metrics.reconciles.get_or_create(&Outcome { outcome }).inc();
        if let Some(reason) = failure {
            self.metrics.errors.get_or_create(&Reason { reason: reason.name() }).inc();
        }
        self.metrics.seconds.observe(self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.metrics.running.dec();
    }
}
