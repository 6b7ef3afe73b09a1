//! The part of the plan that a stage reads, as a file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::PipelineContext;
use crate::stage::Stage;

/// The key of the plan, and the name of its file.
pub(super) const PLAN: &str = "plan.json";

pub(super) fn build(pipeline: &PipelineContext, stage: &Stage) -> Result<ConfigMap, serde_json::Error> {
    Ok(ConfigMap {
        metadata: pipeline.metadata(&stage.id),
        data: Some(BTreeMap::from([(PLAN.into(), serde_json::to_string_pretty(&stage.plan)?)])),
        ..ConfigMap::default()
    })
}
