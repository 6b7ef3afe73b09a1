//! Labels by the Kubernetes convention, and those that find the objects of a pipeline again.

use std::collections::BTreeMap;

use crate::stage::Role;

/// The label whose value is the pipeline's name.
pub const PIPELINE: &str = "herd.dev/pipeline";
/// The label that says who keeps an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Who we are: as keeper of objects, and as the owner of the fields we set.
pub const MANAGER: &str = "herd-operator";
const COMPONENT: &str = "app.kubernetes.io/component";

/// Of every object.
pub(super) fn all(pipeline: &str, role: &Role) -> BTreeMap<String, String> {
    let mut labels = selector(pipeline, role);
    for (name, value) in [
        ("app.kubernetes.io/name", "herd"),
        ("app.kubernetes.io/instance", pipeline),
        ("app.kubernetes.io/part-of", "herd"),
        (MANAGED_BY, MANAGER),
    ] {
        labels.insert(name.into(), value.into());
    }
    labels
}

/// What tells a stage's pods from others. A Deployment's never changes.
pub(super) fn selector(pipeline: &str, role: &Role) -> BTreeMap<String, String> {
    BTreeMap::from([(PIPELINE.into(), pipeline.into()), (COMPONENT.into(), role.to_string())])
}

/// The stage that an object belongs to, by its labels.
#[must_use]
pub fn role_of(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(COMPONENT).map(String::as_str)
}

/// Finds all objects of a pipeline.
#[must_use]
pub fn of_pipeline(pipeline: &str) -> String {
    format!("{PIPELINE}={pipeline},{MANAGED_BY}={MANAGER}")
}
