//! The identity of a HerdPipeline, parsed once at the start of a reconcile. Everything after it takes the parsed identity.

use std::fmt;

use herd_spec::pipeline::HerdPipeline;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;

use crate::error::Error;

/// Which HerdPipeline object: what the API server gives to every object that it stores.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineIdentity {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`: differs between two pipelines of the same name, one created after the other was deleted.
    pub uid: String,
    /// The pipeline as controlling owner of its objects.
    pub owner_reference: OwnerReference,
}

impl PipelineIdentity {
    /// The identity of a pipeline as the API server returned it.
    ///
    /// # Errors
    /// [`Error::IdentityMissing`] if the namespace, name or uid is missing or empty.
    pub fn of(pipeline: &HerdPipeline) -> Result<Self, Error> {
        let metadata = pipeline.meta();
        let required = |value: &Option<String>, field: &'static str| {
            value.clone().filter(|value| !value.is_empty()).ok_or(Error::IdentityMissing { field })
        };
        let namespace = required(&metadata.namespace, "namespace")?;
        let name = required(&metadata.name, "name")?;
        let uid = required(&metadata.uid, "uid")?;
        // Made from the name and uid that were just checked.
        let owner_reference =
            pipeline.controller_owner_ref(&()).ok_or(Error::IdentityMissing { field: "uid" })?;
        Ok(Self { namespace, name, uid, owner_reference })
    }

    /// The key of this pipeline in the controller's queue.
    #[must_use]
    pub fn object_ref(&self) -> ObjectRef<HerdPipeline> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

/// `namespace/name`.
impl fmt::Display for PipelineIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn identity(metadata: Value) -> Result<PipelineIdentity, Error> {
        let pipeline = json!({
            "apiVersion": "herd.dev/v1alpha1", "kind": "HerdPipeline", "metadata": metadata, "spec": {},
        });
        PipelineIdentity::of(&serde_json::from_value(pipeline).unwrap())
    }

    #[test]
    fn identity_has_an_owner_reference_to_the_pipeline() {
        let identity = identity(json!({"namespace": "demo", "name": "shop", "uid": "u-1"})).unwrap();
        assert_eq!(identity.to_string(), "demo/shop");
        let owner = &identity.owner_reference;
        assert_eq!((&*owner.name, &*owner.uid, owner.controller), ("shop", "u-1", Some(true)));
    }

    #[rstest]
    #[case::no_namespace(json!({"name": "shop", "uid": "u-1"}), "metadata.namespace")]
    #[case::no_name(json!({"namespace": "demo", "uid": "u-1"}), "metadata.name")]
    #[case::no_uid(json!({"namespace": "demo", "name": "shop"}), "metadata.uid")]
    #[case::empty_uid(json!({"namespace": "demo", "name": "shop", "uid": ""}), "metadata.uid")]
    fn identity_without_a_required_field_is_an_error(#[case] metadata: Value, #[case] field: &str) {
        let error = identity(metadata).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}
