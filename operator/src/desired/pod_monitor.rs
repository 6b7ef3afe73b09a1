//! Where Prometheus finds a stage's metrics. PodMonitor rather than ServiceMonitor: detectors and sinks have no Service.

use serde_json::{Value, json};

use super::Surroundings;
use super::deployment::OPS;
use crate::stage::Role;

pub(super) fn build(around: &Surroundings, role: &Role) -> Value {
    json!({
        "metadata": around.metadata(role),
        "spec": {
            "selector": {"matchLabels": around.selector(role)},
            "podMetricsEndpoints": [{"port": OPS, "path": "/metrics"}],
        },
    })
}
