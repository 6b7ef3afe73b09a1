//! From a spec to its plan.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    AggregatePlan, ApiPlan, CollectorPlan, Condition, DetectorPlan, EventsPlan, Groups, KafkaPlan,
    MappingPlan, MetricPlan, Plan, SinkKind, SinkPlan, StagePlan, Test, TopicPlan, Topics, WebhookUrl,
    WriteKeyPlan, sink_group,
};
use crate::pipeline::{
    AggregateFunction, ConditionSpec, HerdPipeline, HerdPipelineSpec, MetricSpec, SinkSpec, StageSpec,
};
use crate::units::millis;
use crate::validate::{self, Problem};
use crate::wire::FieldPath;

/// Partitions of a topic on the embedded bus: enough for its members to share, few enough to be light.
const EMBEDDED_PARTITIONS: u32 = 4;
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

impl Plan {
    /// The plan of a pipeline: defaults filled in, names resolved.
    ///
    /// # Errors
    /// Everything that must be changed in the spec.
    pub fn of(pipeline: &HerdPipeline) -> Result<Self, Vec<Problem>> {
        validate::check(pipeline)?;
        let spec = &pipeline.spec;
        let Some(name) = pipeline.metadata.name.clone() else {
            let message = "missing: give the pipeline a name".to_owned();
            return Err(vec![Problem { path: "metadata.name".into(), message }]);
        };
        let prefix = pipeline.topic_prefix();
        Ok(Self {
            kafka: spec.kafka.as_ref().map(|kafka| KafkaPlan {
                bootstrap_servers: kafka.bootstrap_servers.clone(),
                tls: kafka.tls.clone(),
                sasl: kafka.sasl.clone(),
                deletion_policy: kafka.deletion_policy,
            }),
            topics: topics(spec, prefix),
            groups: Groups { fold: format!("{prefix}.fold"), judge: format!("{prefix}.judge") },
            events: events(spec),
            collector: collector(spec),
            metrics: spec.metrics.iter().filter_map(metric).collect(),
            detectors: spec
                .detectors
                .iter()
                .map(|detector| DetectorPlan {
                    name: detector.name.clone(),
                    metric: detector.metric.clone(),
                    algorithm: detector.algorithm.clone(),
                    direction: detector.direction,
                    min_count: detector.min_count,
                    cooldown: detector.cooldown.0,
                    severity: detector.severity,
                })
                .collect(),
            detection: stage(&spec.detection),
            sinks: spec.sinks.iter().filter_map(|spec| sink(spec, &name, prefix)).collect(),
            api: ApiPlan {
                token: spec.api.token.clone(),
                store: spec.api.store.clone().or_else(|| {
                    let stores =
                        spec.sinks.iter().find(|sink| sink.postgres.is_some() || sink.sqlite.is_some());
                    stores.map(|sink| sink.name.clone())
                }),
                simulate: spec.api.simulate,
                stage: stage(&spec.api.stage),
            },
            paused: spec.paused,
            pipeline: name,
        })
    }
}

fn topics(spec: &HerdPipelineSpec, prefix: &str) -> Topics {
    let kafka = spec.kafka.as_ref();
    let partitions = kafka.map_or(EMBEDDED_PARTITIONS, |kafka| kafka.partitions);
    let judges = kafka.and_then(|kafka| kafka.detector_partitions).unwrap_or(partitions);
    let replication = kafka.map_or(1, |kafka| kafka.replication);
    let retention = kafka.map_or(WEEK, |kafka| kafka.retention.0);
    let topic = |name: &str, partitions: u32, own: &[(&str, String)]| {
        let mut config: BTreeMap<String, String> =
            own.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        if replication >= 3 {
            config.insert("min.insync.replicas".into(), "2".into());
        }
        config.extend(kafka.map(|kafka| kafka.config.clone()).unwrap_or_default());
        TopicPlan { name: format!("{prefix}.{name}"), partitions, replication, config }
    };
    let expiring = |retention: Duration| {
        [("cleanup.policy", "delete".to_owned()), ("retention.ms", millis(retention).to_string())]
    };
    // What judge may still have to read again is younger than the longest window and its lateness; a day lets a stage be
    // down over night.
    let parts = expiring(retention.min(Duration::from_secs(24 * 3600)));
    let compacted = [
        ("cleanup.policy", "compact".to_owned()),
        // A predecessor that was taken for dead may write after its successor: readers take the newest of both, so both
        // must still be there.
        ("min.compaction.lag.ms", "600000".to_owned()),
        ("segment.ms", "3600000".to_owned()),
        ("min.cleanable.dirty.ratio", "0.2".to_owned()),
    ];
    Topics {
        events: topic("events", partitions, &expiring(retention)),
        parts: topic("parts", judges, &parts),
        windows: topic("windows", judges, &expiring(retention)),
        alerts: topic("alerts", judges, &expiring(retention)),
        dead_letter: topic("dead-letter", 1, &expiring(retention)),
        baselines: topic("baselines", judges, &compacted),
    }
}

fn events(spec: &HerdPipelineSpec) -> EventsPlan {
    let split = |paths: &[String]| -> Vec<Vec<String>> {
        paths.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect()
    };
    let mapping = &spec.events.mapping;
    EventsPlan {
        mapping: MappingPlan {
            id: split(&mapping.id),
            event_type: split(&mapping.event_type),
            user: split(&mapping.user),
            item: split(&mapping.item),
            time: split(&mapping.time),
        },
        types: spec.events.types.clone(),
        schema: spec.events.schema.clone(),
        key: field(&spec.events.key),
        max_lateness: spec.events.max_lateness.0,
        max_clock_skew: spec.events.max_clock_skew.0,
        max_age: Some(spec.events.max_age.0).filter(|age| !age.is_zero()),
    }
}

fn collector(spec: &HerdPipelineSpec) -> CollectorPlan {
    let collector = &spec.collector;
    let keys = collector.auth.iter().flat_map(|auth| &auth.keys);
    CollectorPlan {
        keys: keys
            .map(|key| WriteKeyPlan {
                name: key.name.clone(),
                secret: key.secret_ref.clone(),
                events_per_second: key.events_per_second.or(collector.limits.events_per_second_per_key),
            })
            .collect(),
        origins: collector.cors.origins.clone(),
        // Validation has refused what is none.
        trusted_proxies: collector.trusted_proxies.iter().filter_map(|range| range.parse().ok()).collect(),
        limits: collector.limits.clone(),
        stage: stage(&collector.stage),
    }
}

/// A metric whose aggregate lacks its field is none; validation has refused it before.
fn metric(spec: &MetricSpec) -> Option<MetricPlan> {
    let of = || spec.aggregate.field.as_deref().map(field);
    let aggregate = match spec.aggregate.function {
        AggregateFunction::Count => AggregatePlan::Count,
        AggregateFunction::Sum => AggregatePlan::Sum(of()?),
        AggregateFunction::Mean => AggregatePlan::Mean(of()?),
        AggregateFunction::Unique => AggregatePlan::Unique(of()?),
    };
    Some(MetricPlan {
        name: spec.name.clone(),
        types: spec.events.types.clone(),
        conditions: spec.events.conditions.iter().filter_map(condition).collect(),
        key: spec.key.iter().map(|path| field(path)).collect(),
        aggregate,
        window: spec.window.0,
        emit: spec.emit.0,
        max_keys: spec.max_keys,
    })
}

fn condition(spec: &ConditionSpec) -> Option<Condition> {
    let test = (spec.one_of.clone().map(Test::In))
        .or_else(|| spec.not_in.clone().map(Test::NotIn))
        .or_else(|| spec.at_least.map(Test::AtLeast))
        .or_else(|| spec.at_most.map(Test::AtMost))
        .or_else(|| spec.exists.map(Test::Exists))?;
    Some(Condition { field: field(&spec.field), test })
}

fn sink(spec: &SinkSpec, pipeline: &str, prefix: &str) -> Option<SinkPlan> {
    let kind = if let Some(postgres) = &spec.postgres {
        SinkKind::Postgres {
            url: postgres.url.clone(),
            schema: postgres.schema.clone().unwrap_or_else(|| format!("herd_{}", pipeline.replace('-', "_"))),
            batch_rows: postgres.batch_rows,
            batch_wait: postgres.batch_wait.0,
        }
    } else if let Some(sqlite) = &spec.sqlite {
        SinkKind::Sqlite { path: sqlite.path.clone().unwrap_or_else(|| format!("{pipeline}.db")) }
    } else {
        let webhook = spec.webhook.as_ref()?;
        let secret = || webhook.url_from.clone().map(WebhookUrl::Secret);
        SinkKind::Webhook {
            url: webhook.url.clone().map(WebhookUrl::Plain).or_else(secret)?,
            format: webhook.format,
            signing_key: webhook.signing_key.clone(),
            min_severity: webhook.min_severity,
            timeout: webhook.timeout.0,
            attempts: webhook.attempts,
        }
    };
    let group = sink_group(prefix, &spec.name);
    Some(SinkPlan { name: spec.name.clone(), group, kind, stage: stage(&spec.stage) })
}

fn stage(spec: &StageSpec) -> StagePlan {
    StagePlan {
        replicas: spec.replicas.unwrap_or(1),
        scaling: spec.scaling.clone(),
        resources: spec.resources.clone().unwrap_or_default(),
    }
}

/// A path that validation has accepted; one it has not is read as a property of that name.
fn field(written: &str) -> FieldPath {
    FieldPath::parse(written).unwrap_or_else(|| FieldPath::Property(vec![written.to_owned()]))
}
