//! Who may reach a stage's pods: anybody, but at their ports only: clients at `http`, probes, Prometheus and the operator at `ops`.
//! Where they may go is left open, for Kafka and stores are wherever their addresses say.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Surroundings;
use super::deployment::{HTTP, OPS};
use crate::stage::Role;

pub(super) fn build(around: &Surroundings, role: &Role) -> NetworkPolicy {
    let port = |name: &str| NetworkPolicyPort {
        port: Some(IntOrString::String(name.into())),
        protocol: Some("TCP".into()),
        ..NetworkPolicyPort::default()
    };
    let http = role.serves().then(|| port(HTTP));
    let ports = http.into_iter().chain([port(OPS)]).collect();
    NetworkPolicy {
        metadata: around.metadata(role),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(around.selector(role)),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![NetworkPolicyIngressRule { ports: Some(ports), from: None }]),
            ..NetworkPolicySpec::default()
        }),
    }
}
