//! The status of each pipeline as metrics, so that alerts can be written on it: what kube-state-metrics is for built-in objects.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use herd_spec::pipeline::HerdPipelineStatus;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::identity::PipelineIdentity;

/// The newest status of each pipeline, by the pipeline's uid. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PipelineMetrics(Arc<Mutex<BTreeMap<String, Pipeline>>>);

#[derive(Debug)]
struct Pipeline {
    namespace: String,
    name: String,
    conditions: Vec<Condition>,
    stages: Vec<Stage>,
}

#[derive(Debug)]
struct Condition {
    kind: String,
    status: String,
    reason: String,
}

#[derive(Debug)]
struct Stage {
    name: String,
    desired: u32,
    ready: u32,
    lag: Option<u64>,
    lag_seconds: Option<u64>,
}

impl PipelineMetrics {
    /// Takes over the status of a pipeline.
    pub fn set(&self, identity: &PipelineIdentity, status: &HerdPipelineStatus) {
        let conditions = status.conditions.iter().map(|condition| Condition {
            kind: condition.kind.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
        });
        let stages = status.stages.iter().map(|stage| Stage {
            name: stage.name.clone(),
            desired: stage.desired,
            ready: stage.ready,
            lag: stage.lag,
            lag_seconds: stage.lag_seconds,
        });
        let pipeline = Pipeline {
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            conditions: conditions.collect(),
            stages: stages.collect(),
        };
        self.0.lock().insert(identity.uid.clone(), pipeline);
    }

    /// Forgets a pipeline that is deleted.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

impl Collector for PipelineMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let pipelines = self.0.lock();
        if pipelines.is_empty() {
            return Ok(());
        }
        let mut conditions = encoder.encode_descriptor(
            "pipeline_status_condition",
            "1 for the present status of each condition of a HerdPipeline",
            None,
            MetricType::Gauge,
        )?;
        for pipeline in pipelines.values() {
            for Condition { kind, status, reason } in &pipeline.conditions {
                let labels = [
                    ("namespace", &pipeline.namespace),
                    ("pipeline", &pipeline.name),
                    ("condition", kind),
                    ("status", status),
                    ("reason", reason),
                ];
                ConstGauge::new(1_i64).encode(conditions.encode_family(&labels)?)?;
            }
        }
        for (name, help, value) in STAGE_METRICS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for pipeline in pipelines.values() {
                for stage in &pipeline.stages {
                    let Some(value) = value(stage) else { continue };
                    let labels = [
                        ("namespace", &pipeline.namespace),
                        ("pipeline", &pipeline.name),
                        ("stage", &stage.name),
                    ];
                    let value = i64::try_from(value).unwrap_or(i64::MAX);
                    ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

type StageMetric = (&'static str, &'static str, fn(&Stage) -> Option<u64>);

/// Name, help and value of the metrics of a stage. A value that is not known has no sample.
const STAGE_METRICS: [StageMetric; 4] = [
    ("pipeline_stage_replicas_desired", "Desired replicas of a stage", |stage| Some(stage.desired.into())),
    ("pipeline_stage_replicas_ready", "Ready replicas of a stage", |stage| Some(stage.ready.into())),
    ("pipeline_stage_lag_records", "Consumer lag of a stage, in records", |stage| stage.lag),
    (
        "pipeline_stage_lag_seconds",
        "Estimated time until a record that arrives now is processed by a stage",
        |stage| stage.lag_seconds,
    ),
];

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn text(metrics: &PipelineMetrics) -> String {
        let mut registry = Registry::with_prefix("herd");
        registry.register_collector(Box::new(metrics.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    fn identity() -> PipelineIdentity {
        PipelineIdentity {
            namespace: "demo".into(),
            name: "shop".into(),
            uid: "u".into(),
            owner_reference: Default::default(),
        }
    }

    #[test]
    fn exposes_conditions_replicas_and_the_lag_that_is_known() {
        let metrics = PipelineMetrics::default();
        let status: HerdPipelineStatus = serde_json::from_value(serde_json::json!({
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "KafkaUnreachable", "message": "m",
                "lastTransitionTime": "2026-11-28T00:00:00Z",
            }],
            "stages": [
                {"name": "detector", "desired": 3, "ready": 2, "lag": 17},
                {"name": "api", "desired": 1, "ready": 1},
            ],
        }))
        .unwrap();
        metrics.set(&identity(), &status);
        insta::assert_snapshot!(text(&metrics));
        metrics.forget("u");
        assert_eq!(text(&metrics), "# EOF\n");
    }
}
