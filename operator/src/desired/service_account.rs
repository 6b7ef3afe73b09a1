//! The ServiceAccount of a stage's pods, without any permission at the API server.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::PipelineContext;
use crate::stage::StageId;

pub(super) fn build(pipeline: &PipelineContext, stage: &StageId) -> ServiceAccount {
    ServiceAccount {
        metadata: pipeline.metadata(stage),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
