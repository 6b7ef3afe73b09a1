//! How many pods of a stage a drain may take away at once.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Surroundings;
use crate::stage::Role;

pub(super) fn build(around: &Surroundings, role: &Role) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: around.metadata(role),
        spec: Some(PodDisruptionBudgetSpec {
            // Not `minAvailable`: with one replica that would forbid every drain.
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(around.selector(role)),
                ..LabelSelector::default()
            }),
            // A pod that does not work protects nothing.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
