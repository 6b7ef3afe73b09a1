//! Who the pods are: nobody to the API server.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::Surroundings;
use crate::stage::Role;

pub(super) fn build(around: &Surroundings, role: &Role) -> ServiceAccount {
    ServiceAccount {
        metadata: around.metadata(role),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
