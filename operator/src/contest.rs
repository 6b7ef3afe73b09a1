//! Who else sets fields of the objects that we keep: an HPA, a VPA, a hand. What they set is put right, so that without a word of it
//! two controllers would fight in silence.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::Value;

use crate::desired::MANAGER;

/// For how long a contest is told of after it was seen last: a little longer than a steady pipeline is left alone.
const TOLD: Duration = Duration::from_secs(15 * 60);
/// Contests remembered of one pipeline; of more, the first ones.
const MOST: usize = 16;
/// The annotation by which a VerticalPodAutoscaler marks pods that it has changed.
const VPA: &str = "vpaUpdates";

/// Somebody else sets a field that is ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contest {
    /// The object, `Deployment shop-detector`.
    pub object: String,
    /// Who, as the API server knows them.
    pub manager: String,
    /// Which field, `spec.replicas`.
    pub field: String,
}

impl fmt::Display for Contest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, manager, field } = self;
        if field == RESOURCES_OF_PODS {
            return write!(
                f,
                "{manager} changed the resources of {object}: set `resources` of the stage instead, and remove the autoscaler"
            );
        }
        let (who, instead) = match (manager.as_str(), field.as_str()) {
            // The autoscaler's controller runs in it.
            ("kube-controller-manager", "spec.replicas") => {
                (" (a HorizontalPodAutoscaler)", ": remove it, and set `scaling` of the stage instead")
            }
            (_, "spec.replicas") => {
                ("", ": set `replicas` or `scaling` of the stage in the HerdPipeline instead")
            }
            _ => ("", ": set it in the HerdPipeline instead, where it can be"),
        };
        write!(f, "`{manager}`{who} set {field} of {object}, which was set back{instead}")
    }
}

const RESOURCES_OF_PODS: &str = "resources of pods";

/// The fields of `wanted` that somebody else has set in the object as it is.
#[must_use]
pub fn of_object(kind: &str, there: &DynamicObject, wanted: &Value) -> Vec<Contest> {
    let mut found = Vec::new();
    for entry in there.managed_fields() {
        let manager = entry.manager.clone().unwrap_or_else(|| "somebody".into());
        let status = entry.subresource.as_deref() == Some("status");
        let (Some(fields), false, false) = (&entry.fields_v1, status, manager == MANAGER) else { continue };
        let mut set = Vec::new();
        overlap(&fields.0, wanted, "", &mut set);
        found.extend(set.into_iter().map(|field| Contest {
            object: format!("{kind} {}", there.name_any()),
            manager: manager.clone(),
            field,
        }));
    }
    found
}

/// The paths that both `fields` (as the API server writes sets of fields) and `wanted` have.
fn overlap(fields: &Value, wanted: &Value, path: &str, found: &mut Vec<String>) {
    let Value::Object(fields) = fields else { return };
    let leaf = !fields.keys().any(|key| key != ".");
    if leaf && !path.is_empty() {
        found.push(path.to_owned());
        return;
    }
    for (key, inner) in fields {
        if let Some(name) = key.strip_prefix("f:")
            && let Some(wanted) = wanted.get(name)
        {
            let dot = if path.is_empty() { "" } else { "." };
            overlap(inner, wanted, &format!("{path}{dot}{name}"), found);
        } else if let Some(item) = key.strip_prefix("k:")
            && let Some((name, wanted)) = item_of(item, wanted)
        {
            overlap(inner, wanted, &format!("{path}[{name}]"), found);
        }
    }
}

/// The item of a list that a key such as `{"name":"worker"}` stands for, with its name.
fn item_of<'v>(key: &str, list: &'v Value) -> Option<(String, &'v Value)> {
    let key: Value = serde_json::from_str(key).ok()?;
    let key = key.as_object()?;
    let item =
        list.as_array()?.iter().find(|item| key.iter().all(|(name, value)| item.get(name) == Some(value)))?;
    let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
    Some((name.to_owned(), item))
}

/// The stages whose pods' resources a VerticalPodAutoscaler has changed.
#[must_use]
pub fn of_pods(pods: &[Pod]) -> Vec<Contest> {
    let changed = pods.iter().filter(|pod| pod.annotations().contains_key(VPA));
    let mut found: Vec<_> = changed
        .map(|pod| Contest {
            object: format!("pods of {}", crate::desired::role_of(pod.labels()).unwrap_or_default()),
            manager: "a VerticalPodAutoscaler".into(),
            field: RESOURCES_OF_PODS.into(),
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// What is remembered of each pipeline's contests, by uid.
#[derive(Default)]
pub struct Contests(Mutex<HashMap<String, Vec<(Contest, Instant)>>>);

impl Contests {
    /// These were seen. True: some of them for the first time.
    pub fn see(&self, uid: &str, seen: Vec<Contest>) -> bool {
        if seen.is_empty() {
            return false;
        }
        let (now, mut new) = (Instant::now(), false);
        let mut all = self.0.lock();
        let known = all.entry(uid.to_owned()).or_default();
        for contest in seen {
            if let Some((_, at)) = known.iter_mut().find(|(other, _)| *other == contest) {
                *at = now;
            } else if known.len() < MOST {
                known.push((contest, now));
                new = true;
            }
        }
        new
    }

    /// Those of the last minutes.
    #[must_use]
    pub fn of(&self, uid: &str) -> Vec<Contest> {
        let mut all = self.0.lock();
        let Some(known) = all.get_mut(uid) else { return Vec::new() };
        known.retain(|(_, at)| at.elapsed() < TOLD);
        let mut told: Vec<_> = known.iter().map(|(contest, _)| contest.clone()).collect();
        told.sort();
        told
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

    fn wanted() -> Value {
        let container = json!({"name": "worker", "resources": {"limits": {"memory": "1Gi"}}});
        json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [container]}}}})
    }

    #[rstest]
    #[case::an_autoscaler("kube-controller-manager", Some("scale"), json!({"f:spec": {"f:replicas": {}}}),
        "`kube-controller-manager` (a HorizontalPodAutoscaler) set spec.replicas of Deployment shop-detector, which was set back: remove it")]
    #[case::a_hand("kubectl", Some("scale"), json!({"f:spec": {"f:replicas": {}}}), "`kubectl` set spec.replicas of Deployment shop-detector")]
    #[case::resources("kubectl-edit", None,
        json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"worker\"}": {"f:resources": {"f:limits": {"f:memory": {}}}}}}}}}),
        "set spec.template.spec.containers[worker].resources.limits.memory of")]
    fn who_sets_a_field_of_ours_is_named(
        #[case] manager: &str,
        #[case] subresource: Option<&str>,
        #[case] fields: Value,
        #[case] words: &str,
    ) {
        let found = of_object("Deployment", &deployment(manager, subresource, &fields), &wanted());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].to_string().contains(words), "{}", found[0]);
    }

    #[rstest]
    #[case::ourselves(MANAGER, None, json!({"f:spec": {"f:replicas": {}}}))]
    #[case::a_status("kube-controller-manager", Some("status"), json!({"f:status": {"f:replicas": {}}}))]
    #[case::what_is_not_ours("kube-controller-manager", None, json!({"f:metadata": {"f:annotations": {".": {}, "f:deployment.kubernetes.io/revision": {}}}}))]
    #[case::a_sidecar("injector", None, json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"proxy\"}": {".": {}, "f:image": {}}}}}}}))]
    fn what_others_may_set_is_no_contest(
        #[case] manager: &str,
        #[case] subresource: Option<&str>,
        #[case] fields: Value,
    ) {
        assert_eq!(of_object("Deployment", &deployment(manager, subresource, &fields), &wanted()), []);
    }

    #[test]
    fn a_vertical_autoscaler_is_known_by_its_mark() {
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
