//! The Service of a stage that serves requests.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::PipelineContext;
use super::deployment::HTTP;
use crate::stage::StageId;

const PORT: i32 = 80;

pub(super) fn build(pipeline: &PipelineContext, stage: &StageId) -> Service {
    Service {
        metadata: pipeline.metadata(stage),
        spec: Some(ServiceSpec {
            selector: Some(pipeline.selector(stage)),
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
