//! The operator's metrics. Labels have small fixed sets of values; those of pipelines are in [`crate::pipeline_metrics`].

use std::sync::Arc;

use herd_spec::scale::ReasonKind;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::pipeline_metrics::PipelineMetrics;
use crate::reason::Reason;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    verb: &'static str,
}

/// The operator's metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    reconciles: Family<OutcomeLabel, Counter>,
    errors: Family<ReasonLabel, Counter>,
    writes: Family<WriteLabels, Counter>,
    decisions: Family<ReasonLabel, Counter>,
    topics_left: Counter,
    seconds: Histogram,
    running: Gauge,
    leader: Gauge,
    /// The status of each pipeline.
    pub pipelines: PipelineMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut root = Registry::with_prefix("herd");
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
            pipelines: PipelineMetrics::default(),
            registry: Arc::default(),
        };
        root.register_collector(Box::new(metrics.pipelines.clone()));
        let registry = root.sub_registry_with_prefix("operator");
        registry.register("reconciles", "Finished reconciles", metrics.reconciles.clone());
        registry.register("errors", "Failed reconciles, by reason", metrics.errors.clone());
        registry.register("writes", "Writes to the API server, by kind and verb", metrics.writes.clone());
        registry.register("decisions", "Decided changes of replicas, by reason", metrics.decisions.clone());
        registry.register(
            "topics_left",
            "Topics and consumer groups of deleted pipelines that remain in Kafka because deleting them failed",
            metrics.topics_left.clone(),
        );
        registry.register("reconcile_seconds", "Duration of a reconcile", metrics.seconds.clone());
        registry.register("reconciling", "Reconciles in progress", metrics.running.clone());
        registry.register(
            "leader",
            "1 while this process is the leader, otherwise 0",
            metrics.leader.clone(),
        );
        *metrics.registry.lock() = root;
        metrics
    }
}

/// A reconcile in progress: it starts when this is created and finishes with [`Running::end`].
#[derive(Debug)]
pub struct Running<'m> {
    metrics: &'m Metrics,
    begun: std::time::Instant,
}

impl Metrics {
    /// Starts to measure a reconcile.
    #[must_use]
    pub fn begin(&self) -> Running<'_> {
        self.running.inc();
        Running { metrics: self, begun: std::time::Instant::now() }
    }

    /// Counts a write to the API server.
    pub fn write(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&WriteLabels { kind, verb }).inc();
    }

    /// Counts a decided change of replicas.
    pub fn decided(&self, reason: ReasonKind) {
        self.decisions.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
    }

    /// Counts topics and groups that remain in Kafka.
    pub fn remaining(&self, many: usize) {
        self.topics_left.inc_by(u64::try_from(many).unwrap_or(u64::MAX));
    }

    /// Sets whether this process is the leader.
    pub fn lead(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// If a metric cannot be encoded.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }
}

impl Running<'_> {
    /// Finishes the reconcile, which succeeded or failed for this reason.
    pub fn end(self, failure: Option<Reason>) {
        let outcome = if failure.is_some() { "failed" } else { "done" };
        self.metrics.reconciles.get_or_create(&OutcomeLabel { outcome }).inc();
        if let Some(reason) = failure {
            self.metrics.errors.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
        }
        self.metrics.seconds.observe(self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.metrics.running.dec();
    }
}
