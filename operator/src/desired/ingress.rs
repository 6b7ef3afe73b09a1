//! Exposes a stage through an Ingress, where the spec requests one.

use herd_spec::pipeline::IngressSpec;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec as KubeIngressSpec, IngressTLS, ServiceBackendPort,
};

use super::PipelineContext;
use super::deployment::HTTP;
use crate::stage::StageId;

pub(super) fn build(pipeline: &PipelineContext, stage: &StageId, spec: &IngressSpec) -> Ingress {
    let service = IngressServiceBackend {
        name: pipeline.name_of(stage),
        port: Some(ServiceBackendPort { name: Some(HTTP.into()), number: None }),
    };
    let path = HTTPIngressPath {
        path: Some(spec.path.clone()),
        path_type: "Prefix".into(),
        backend: IngressBackend { service: Some(service), resource: None },
    };
    let tls = spec
        .tls_secret
        .iter()
        .map(|secret| IngressTLS { hosts: Some(vec![spec.host.clone()]), secret_name: Some(secret.clone()) });
    let tls: Vec<_> = tls.collect();
    let mut metadata = pipeline.metadata(stage);
    metadata.annotations = Some(spec.annotations.clone()).filter(|annotations| !annotations.is_empty());
    Ingress {
        metadata,
        spec: Some(KubeIngressSpec {
            ingress_class_name: spec.class_name.clone(),
            rules: Some(vec![IngressRule {
                host: Some(spec.host.clone()),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            tls: Some(tls).filter(|tls| !tls.is_empty()),
            ..KubeIngressSpec::default()
        }),
        status: None,
    }
}
