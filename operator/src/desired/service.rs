//! Where a stage that listens is reached.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Surroundings;
use super::deployment::HTTP;
use crate::stage::Role;

const PORT: i32 = 80;

pub(super) fn build(around: &Surroundings, role: &Role) -> Service {
    Service {
        metadata: around.metadata(role),
        spec: Some(ServiceSpec {
            selector: Some(around.selector(role)),
            ports: Some(vec![ServicePort {
                name: Some(HTTP.into()),
                port: PORT,
                target_port: Some(IntOrString::String(HTTP.into())),
                protocol: Some("TCP".into()),
                app_protocol: Some("http".into()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
