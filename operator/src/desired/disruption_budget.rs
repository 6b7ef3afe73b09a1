//! Limits how many pods of a stage a node drain may evict at once.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::PipelineContext;
use crate::stage::StageId;

pub(super) fn build(pipeline: &PipelineContext, stage: &StageId) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: pipeline.metadata(stage),
        spec: Some(PodDisruptionBudgetSpec {
            // Not `minAvailable`: with one replica that would forbid every drain.
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(pipeline.selector(stage)),
                ..LabelSelector::default()
            }),
            // Keeping an unhealthy pod protects nothing.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
