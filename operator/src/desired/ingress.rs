//! A door to a stage from outside the cluster, where one is asked for.

use herd_spec::pipeline::IngressSpec;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec as Door, IngressTLS, ServiceBackendPort,
};

use super::Surroundings;
use super::deployment::HTTP;
use crate::stage::Role;

pub(super) fn build(around: &Surroundings, role: &Role, asked: &IngressSpec) -> Ingress {
    let service = IngressServiceBackend {
        name: around.name_of(role),
        port: Some(ServiceBackendPort { name: Some(HTTP.into()), number: None }),
    };
    let path = HTTPIngressPath {
        path: Some(asked.path.clone()),
        path_type: "Prefix".into(),
        backend: IngressBackend { service: Some(service), resource: None },
    };
    let tls = asked.tls_secret.iter().map(|secret| IngressTLS {
        hosts: Some(vec![asked.host.clone()]),
        secret_name: Some(secret.clone()),
    });
    let tls: Vec<_> = tls.collect();
    let mut metadata = around.metadata(role);
    metadata.annotations = Some(asked.annotations.clone()).filter(|annotations| !annotations.is_empty());
    Ingress {
        metadata,
        spec: Some(Door {
            ingress_class_name: asked.class_name.clone(),
            rules: Some(vec![IngressRule {
                host: Some(asked.host.clone()),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            tls: Some(tls).filter(|tls| !tls.is_empty()),
            ..Door::default()
        }),
        status: None,
    }
}
