//! Every field of a pipeline, and what a change of it means.

use super::effect::Effect::{self, *};

/// A field, `[]` for the items of a list that go by a name; with `.*`, it and all that is inside of it. The most exact row counts.
pub(super) const FIELDS: &[(&str, Effect)] = &[
    ("spec.kafka", Brokers),
    ("spec.kafka.bootstrapServers", Brokers),
    ("spec.kafka.tls.*", Credentials),
    ("spec.kafka.sasl.*", Credentials),
    ("spec.kafka.topicPrefix", Refused),
    ("spec.kafka.partitions", Partitions),
    ("spec.kafka.detectorPartitions", DetectorPartitions),
    ("spec.kafka.replication", Replication),
    ("spec.kafka.retention", TopicSettings),
    ("spec.kafka.config.*", TopicSettings),
    ("spec.kafka.deletionPolicy", DeletionPolicy),
    ("spec.events.mapping.*", Accepted),
    ("spec.events.types", Accepted),
    ("spec.events.schema.*", Accepted),
    ("spec.events.key", EventKey),
    ("spec.events.maxLateness", Lateness),
    ("spec.events.maxClockSkew", Accepted),
    ("spec.events.maxAge", Accepted),
    ("spec.collector.auth", Collector),
    ("spec.collector.auth.keys[].*", Collector),
    ("spec.collector.cors.origins", Collector),
    ("spec.collector.limits.*", Collector),
    ("spec.collector.trustedProxies", Collector),
    ("spec.collector.ingress.*", Ingress),
    ("spec.collector.stage.*", Size),
    ("spec.metrics[].window", MetricDefinition),
    ("spec.metrics[].aggregate.function", MetricDefinition),
    ("spec.metrics[].aggregate.field", MetricDefinition),
    ("spec.metrics[].key", MetricDefinition),
    ("spec.metrics[].events.types", MetricDefinition),
    ("spec.metrics[].events.where", MetricDefinition),
    ("spec.metrics[].maxKeys", MetricKeys),
    ("spec.metrics[].emit", MetricEmit),
    ("spec.detectors[].metric", DetectorMetric),
    ("spec.detectors[].algorithm", DetectorAlgorithm),
    ("spec.detectors[].algorithm.threshold", DetectorAlgorithm),
    ("spec.detectors[].algorithm.threshold.above", DetectorBound),
    ("spec.detectors[].algorithm.threshold.below", DetectorBound),
    ("spec.detectors[].algorithm.zscore", DetectorAlgorithm),
    ("spec.detectors[].algorithm.zscore.sigmas", DetectorBound),
    ("spec.detectors[].algorithm.zscore.history", DetectorAlgorithm),
    ("spec.detectors[].algorithm.zscore.warmup", DetectorBound),
    ("spec.detectors[].algorithm.ewma", DetectorAlgorithm),
    ("spec.detectors[].algorithm.ewma.sigmas", DetectorBound),
    ("spec.detectors[].algorithm.ewma.halfLife", DetectorAlgorithm),
    ("spec.detectors[].algorithm.ewma.warmup", DetectorBound),
    ("spec.detectors[].algorithm.mad", DetectorAlgorithm),
    ("spec.detectors[].algorithm.mad.deviations", DetectorBound),
    ("spec.detectors[].algorithm.mad.history", DetectorAlgorithm),
    ("spec.detectors[].algorithm.mad.warmup", DetectorBound),
    ("spec.detectors[].algorithm.poisson", DetectorAlgorithm),
    ("spec.detectors[].algorithm.poisson.probability", DetectorBound),
    ("spec.detectors[].algorithm.poisson.halfLife", DetectorAlgorithm),
    ("spec.detectors[].algorithm.poisson.warmup", DetectorBound),
    ("spec.detectors[].direction", DetectorBound),
    ("spec.detectors[].minCount", DetectorBound),
    ("spec.detectors[].cooldown", DetectorBound),
    ("spec.detectors[].severity", DetectorBound),
    ("spec.detection.*", Size),
    ("spec.sinks[].postgres", SinkKind),
    ("spec.sinks[].postgres.url.*", SinkPlace),
    ("spec.sinks[].postgres.schema", SinkPlace),
    ("spec.sinks[].postgres.batchRows", SinkDelivery),
    ("spec.sinks[].postgres.batchWait", SinkDelivery),
    ("spec.sinks[].sqlite", SinkKind),
    ("spec.sinks[].sqlite.path", SinkPlace),
    ("spec.sinks[].webhook", SinkKind),
    ("spec.sinks[].webhook.url", WebhookAddress),
    ("spec.sinks[].webhook.urlFrom.*", WebhookAddress),
    ("spec.sinks[].webhook.format", SinkDelivery),
    ("spec.sinks[].webhook.signingKey.*", SinkDelivery),
    ("spec.sinks[].webhook.minSeverity", SinkDelivery),
    ("spec.sinks[].webhook.timeout", SinkDelivery),
    ("spec.sinks[].webhook.attempts", SinkDelivery),
    ("spec.sinks[].druid.*", SinkKind),
    ("spec.sinks[].stage.*", Size),
    ("spec.api.token.*", Api),
    ("spec.api.store", Api),
    ("spec.api.simulate", Api),
    ("spec.api.ingress.*", Ingress),
    ("spec.api.stage.*", Size),
    ("spec.paused", Paused),
];

/// Lists whose items go by a name: what it means that one is added, and that one is removed.
pub(super) const LISTS: &[(&str, Effect, Effect)] = &[
    ("spec.collector.auth.keys", Collector, Collector),
    ("spec.metrics", MetricAdded, MetricRemoved),
    ("spec.detectors", DetectorAdded, DetectorRemoved),
    ("spec.sinks", SinkAdded, SinkRemoved),
];

/// The row for a field.
pub(super) fn row(field: &str) -> Option<&'static (&'static str, Effect)> {
    let fits = |row: &str| match row.strip_suffix(".*") {
        Some(whole) => {
            field.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        }
        None => field == row,
    };
    FIELDS.iter().filter(|(name, _)| fits(name)).max_by_key(|(name, _)| name.len())
}
