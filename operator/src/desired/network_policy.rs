//! Restricts traffic to a stage's pods to their ports: clients at `http`; probes, Prometheus and the operator at `ops`. Egress is not
//! restricted, because Kafka and stores can have any address.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::PipelineContext;
use super::deployment::{HTTP, OPS};
use crate::stage::StageId;

pub(super) fn build(pipeline: &PipelineContext, stage: &StageId) -> NetworkPolicy {
    let port = |name: &str| NetworkPolicyPort {
        port: Some(IntOrString::String(name.into())),
        protocol: Some("TCP".into()),
        ..NetworkPolicyPort::default()
    };
    let http = stage.serves().then(|| port(HTTP));
    let ports = http.into_iter().chain([port(OPS)]).collect();
    NetworkPolicy {
        metadata: pipeline.metadata(stage),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(pipeline.selector(stage)),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![NetworkPolicyIngressRule { ports: Some(ports), from: None }]),
            ..NetworkPolicySpec::default()
        }),
    }
}
