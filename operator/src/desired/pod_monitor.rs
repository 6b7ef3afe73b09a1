//! Lets Prometheus scrape a stage's pods. A PodMonitor rather than a ServiceMonitor: detectors and sinks have no Service.

use serde_json::{Value, json};

use super::PipelineContext;
use super::deployment::OPS;
use crate::stage::StageId;

pub(super) fn build(pipeline: &PipelineContext, stage: &StageId) -> Value {
    json!({
        "metadata": pipeline.metadata(stage),
        "spec": {
            "selector": {"matchLabels": pipeline.selector(stage)},
            "podMetricsEndpoints": [{"port": OPS, "path": "/metrics"}],
        },
    })
}
