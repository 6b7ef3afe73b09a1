//! Lets Prometheus scrape a stage's pods. A PodMonitor rather than a ServiceMonitor: detectors and sinks have no Service.

use serde_json::{Value, json};

use super::PipelineContext;
use super::deployment::OPS;
use super::labels::{COMPONENT, PIPELINE};
use crate::stage::StageId;

pub(super) fn build(pipeline: &PipelineContext, stage: &StageId) -> Value {
    json!({
        "metadata": pipeline.metadata(stage),
        "spec": {
            "selector": {"matchLabels": pipeline.selector(stage)},
            "podMetricsEndpoints": [{
                "port": OPS,
                "path": "/metrics",
                // So that rules and dashboards can group by pipeline and stage, as the operator's own metrics do.
                "relabelings": [
                    {"sourceLabels": [meta_label(PIPELINE)], "targetLabel": "pipeline"},
                    {"sourceLabels": [meta_label(COMPONENT)], "targetLabel": "stage"},
                ],
            }],
        },
    })
}

/// The label by which Prometheus' service discovery gives a label of a pod.
fn meta_label(name: &str) -> String {
    let name = name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
    format!("__meta_kubernetes_pod_label_{name}")
}
