//! Labels: those of the Kubernetes convention, and those that select the objects of a pipeline.

use std::collections::BTreeMap;

use crate::stage::StageId;

/// The label whose value is the pipeline's name.
pub const PIPELINE: &str = "herd.dev/pipeline";
/// The label that names the manager of an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The name of this operator: as manager of objects, and as field manager of server-side apply.
pub const MANAGER: &str = "herd-operator";
/// The label whose value is the stage.
pub(super) const COMPONENT: &str = "app.kubernetes.io/component";

/// The labels of every object of a stage.
pub(super) fn all(pipeline: &str, stage: &StageId) -> BTreeMap<String, String> {
    let mut labels = selector(pipeline, stage);
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

/// The labels that select a stage's pods. A Deployment's selector is immutable.
pub(super) fn selector(pipeline: &str, stage: &StageId) -> BTreeMap<String, String> {
    BTreeMap::from([(PIPELINE.into(), pipeline.into()), (COMPONENT.into(), stage.to_string())])
}

/// The stage that an object belongs to, by its labels.
#[must_use]
pub fn stage_of(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(COMPONENT).map(String::as_str)
}

/// The label selector of all objects of a pipeline.
#[must_use]
pub fn of_pipeline(pipeline: &str) -> String {
    format!("{PIPELINE}={pipeline},{MANAGED_BY}={MANAGER}")
}
