//! The plan, as the stage reads it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::Surroundings;
use crate::stage::Stage;

/// The key of the plan, and the name of its file.
pub(super) const PLAN: &str = "plan.json";

pub(super) fn build(around: &Surroundings, stage: &Stage) -> Result<ConfigMap, serde_json::Error> {
    Ok(ConfigMap {
        metadata: around.metadata(&stage.role),
        data: Some(BTreeMap::from([(PLAN.into(), serde_json::to_string_pretty(&stage.plan)?)])),
        ..ConfigMap::default()
    })
}
