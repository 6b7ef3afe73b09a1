//! Detects other field managers that set fields of the operator's objects: an HPA, a VPA, a person. The operator sets such fields back;
//! without a condition, two controllers would overwrite each other unnoticed.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::Value;

use crate::desired::MANAGER;

/// How long a conflict is reported after it was found last: longer than the requeue interval of a pipeline that is Ready.
const REPORTED: Duration = Duration::from_secs(15 * 60);
/// Conflicts that are remembered of one pipeline; of more, the first ones.
const MAX_CONFLICTS: usize = 16;
/// The annotation that a VerticalPodAutoscaler sets on pods that it has changed.
const VPA_ANNOTATION: &str = "vpaUpdates";

/// A field of the operator that another field manager set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldConflict {
    /// The object, `Deployment shop-detector`.
    pub object: String,
    /// The field manager.
    pub manager: String,
    /// The field, `spec.replicas`.
    pub field: String,
}

impl fmt::Display for FieldConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, manager, field } = self;
        if field == RESOURCES_OF_PODS {
            return write!(
                f,
                "{manager} changed the resources of {object}: remove the autoscaler, and set `resources` of the stage instead"
            );
        }
        let (who, instead) = match (manager.as_str(), field.as_str()) {
            // The HorizontalPodAutoscaler controller runs in it.
            ("kube-controller-manager", "spec.replicas") => {
                (" (a HorizontalPodAutoscaler)", "remove it, and set `scaling` of the stage instead")
            }
            (_, "spec.replicas") => {
                ("", "set `replicas` or `scaling` of the stage in the HerdPipeline instead")
            }
            _ => ("", "if the HerdPipeline has this setting, change it there instead"),
        };
        write!(f, "`{manager}`{who} set {field} of {object}, and the operator reset it: {instead}")
    }
}

const RESOURCES_OF_PODS: &str = "resources of pods";

/// The fields of `desired` that other field managers set in the live object.
#[must_use]
pub fn of_object(kind: &str, live: &DynamicObject, desired: &Value) -> Vec<FieldConflict> {
    let mut found = Vec::new();
    for entry in live.managed_fields() {
        let manager = entry.manager.clone().unwrap_or_else(|| "unknown".into());
        let status = entry.subresource.as_deref() == Some("status");
        let (Some(fields), false, false) = (&entry.fields_v1, status, manager == MANAGER) else { continue };
        let mut set = Vec::new();
        overlap(&fields.0, desired, "", &mut set);
        found.extend(set.into_iter().map(|field| FieldConflict {
            object: format!("{kind} {}", live.name_any()),
            manager: manager.clone(),
            field,
        }));
    }
    found
}

/// The paths that both `fields` (in the FieldsV1 format) and `desired` have.
fn overlap(fields: &Value, desired: &Value, path: &str, found: &mut Vec<String>) {
    let Value::Object(fields) = fields else { return };
    let leaf = !fields.keys().any(|key| key != ".");
    if leaf && !path.is_empty() {
        found.push(path.to_owned());
        return;
    }
    for (key, inner) in fields {
        if let Some(name) = key.strip_prefix("f:")
            && let Some(desired) = desired.get(name)
        {
            let dot = if path.is_empty() { "" } else { "." };
            overlap(inner, desired, &format!("{path}{dot}{name}"), found);
        } else if let Some(item) = key.strip_prefix("k:")
            && let Some((name, desired)) = item_of(item, desired)
        {
            overlap(inner, desired, &format!("{path}[{name}]"), found);
        }
    }
}

/// The item of a list with a key such as `{"name":"worker"}`, and its name.
fn item_of<'v>(key: &str, list: &'v Value) -> Option<(String, &'v Value)> {
    let key: Value = serde_json::from_str(key).ok()?;
    let key = key.as_object()?;
    let item =
        list.as_array()?.iter().find(|item| key.iter().all(|(name, value)| item.get(name) == Some(value)))?;
    let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
    Some((name.to_owned(), item))
}

/// The stages whose pods were changed by a VerticalPodAutoscaler.
#[must_use]
pub fn of_pods(pods: &[Pod]) -> Vec<FieldConflict> {
    let changed = pods.iter().filter(|pod| pod.annotations().contains_key(VPA_ANNOTATION));
    let mut found: Vec<_> = changed
        .map(|pod| FieldConflict {
            object: format!("pods of {}", crate::desired::stage_of(pod.labels()).unwrap_or_default()),
            manager: "a VerticalPodAutoscaler".into(),
            field: RESOURCES_OF_PODS.into(),
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The recent conflicts of each pipeline, by uid.
#[derive(Default)]
pub struct FieldConflicts(Mutex<HashMap<String, Vec<(FieldConflict, Instant)>>>);

impl FieldConflicts {
    /// Records conflicts. True: some of them are new.
    pub fn record(&self, uid: &str, found: Vec<FieldConflict>) -> bool {
        if found.is_empty() {
            return false;
        }
        let (now, mut new) = (Instant::now(), false);
        let mut all = self.0.lock();
        let known = all.entry(uid.to_owned()).or_default();
        for conflict in found {
            if let Some((_, at)) = known.iter_mut().find(|(other, _)| *other == conflict) {
                *at = now;
            } else if known.len() < MAX_CONFLICTS {
                known.push((conflict, now));
                new = true;
            }
        }
        new
    }

    /// The conflicts of the last minutes.
    #[must_use]
    pub fn recent(&self, uid: &str) -> Vec<FieldConflict> {
        let mut all = self.0.lock();
        let Some(known) = all.get_mut(uid) else { return Vec::new() };
        known.retain(|(_, at)| at.elapsed() < REPORTED);
        let mut recent: Vec<_> = known.iter().map(|(conflict, _)| conflict.clone()).collect();
        recent.sort();
        recent
    }

    /// Forgets a pipeline.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn deployment(manager: &str, subresource: Option<&str>, fields: &Value) -> DynamicObject {
        let entry = json!({"manager": manager, "operation": "Update", "subresource": subresource, "fieldsType": "FieldsV1", "fieldsV1": fields});
        serde_json::from_value(json!({"metadata": {"name": "shop-detector", "managedFields": [entry]}}))
            .unwrap()
    }

    fn desired() -> Value {
        let container = json!({"name": "worker", "resources": {"limits": {"memory": "1Gi"}}});
        json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [container]}}}})
    }

    #[rstest]
    #[case::an_autoscaler("kube-controller-manager", Some("scale"), json!({"f:spec": {"f:replicas": {}}}),
        "`kube-controller-manager` (a HorizontalPodAutoscaler) set spec.replicas of Deployment shop-detector, and the operator reset it: remove it")]
    #[case::a_person("kubectl", Some("scale"), json!({"f:spec": {"f:replicas": {}}}), "`kubectl` set spec.replicas of Deployment shop-detector")]
    #[case::resources("kubectl-edit", None,
        json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"worker\"}": {"f:resources": {"f:limits": {"f:memory": {}}}}}}}}}),
        "set spec.template.spec.containers[worker].resources.limits.memory of")]
    fn names_the_manager_of_a_conflicting_field(
        #[case] manager: &str,
        #[case] subresource: Option<&str>,
        #[case] fields: Value,
        #[case] message: &str,
    ) {
        let found = of_object("Deployment", &deployment(manager, subresource, &fields), &desired());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].to_string().contains(message), "{}", found[0]);
    }

    #[rstest]
    #[case::the_operator(MANAGER, None, json!({"f:spec": {"f:replicas": {}}}))]
    #[case::a_status("kube-controller-manager", Some("status"), json!({"f:status": {"f:replicas": {}}}))]
    #[case::a_field_not_desired("kube-controller-manager", None, json!({"f:metadata": {"f:annotations": {".": {}, "f:deployment.kubernetes.io/revision": {}}}}))]
    #[case::a_sidecar("injector", None, json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"proxy\"}": {".": {}, "f:image": {}}}}}}}))]
    fn ignores_fields_that_do_not_conflict(
        #[case] manager: &str,
        #[case] subresource: Option<&str>,
        #[case] fields: Value,
    ) {
        assert_eq!(of_object("Deployment", &deployment(manager, subresource, &fields), &desired()), []);
    }

    #[test]
    fn recognises_a_vertical_pod_autoscaler_by_its_annotation() {
        let pod = json!({"metadata": {"name": "a", "labels": {"app.kubernetes.io/component": "detector"}, "annotations": {"vpaUpdates": "Pod resources updated by x"}}});
        let pods: Vec<Pod> =
            vec![serde_json::from_value(pod.clone()).unwrap(), serde_json::from_value(pod).unwrap()];
        let found = of_pods(&pods);
        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .to_string()
                .contains("a VerticalPodAutoscaler changed the resources of pods of detector"),
            "{}",
            found[0]
        );
    }
}
