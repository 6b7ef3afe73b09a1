//! Compares desired with live objects, and applies the differences. When nothing changes, nothing is written.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use herd_spec::quantity::read as quantity;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tracing::info;

use crate::desired::{self, FINGERPRINT, MANAGER, Object};
use crate::error::Error;
use crate::identity::PipelineIdentity;
use crate::kind::Kind;
use crate::metrics::Metrics;

/// The live objects of a pipeline, by kind and name.
pub type Live = BTreeMap<(Kind, String), DynamicObject>;

/// A write to the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Apply an object that is missing or differs.
    Apply(Object),
    /// Delete an object that is no longer desired.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Its uid, as a precondition: a newer object of the same name is not deleted.
        uid: String,
    },
}

/// Lists all objects of a pipeline from the API server's cache. The cache includes everything that a watch has reported. An object that
/// is older than the operator's last write is at worst applied once more, which changes nothing.
///
/// # Errors
/// [`Error::Api`].
pub async fn live(client: &Client, pipeline: &PipelineIdentity, kinds: &[Kind]) -> Result<Live, Error> {
    let params = ListParams::default().labels(&desired::of_pipeline(&pipeline.name)).match_any();
    let lists = kinds.iter().map(async |&kind| {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &pipeline.namespace, &kind.resource());
        let doing = format!("listing {} of {}", kind.resource().plural, pipeline.name);
        Ok::<_, Error>((kind, api.list(&params).await.map_err(Error::api(doing))?))
    });
    let lists = try_join_all(lists).await?;
    let named = |kind, object: DynamicObject| ((kind, object.name_any()), object);
    Ok(lists.into_iter().flat_map(|(kind, list)| list.into_iter().map(move |one| named(kind, one))).collect())
}

/// The changes from the live to the desired objects. `owner` is the pipeline's uid.
///
/// # Errors
/// [`Error::Taken`] if an object of the same name has another owner.
pub fn changes(owner: &str, desired: Vec<Object>, live: &Live) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    let mut kept = std::collections::BTreeSet::new();
    for object in desired {
        let key = (object.kind, object.name.clone());
        match live.get(&key) {
            Some(live_object) if !is_of(owner, live_object) => {
                return Err(Error::Taken {
                    kind: object.kind.name(),
                    name: object.name,
                    owner: owner_of(live_object),
                });
            }
            // It is being deleted; the new one is applied once it is gone.
            Some(live_object) if live_object.metadata.deletion_timestamp.is_some() => {}
            Some(live_object) if matches(&object, live_object) => {}
            _ => changes.push(Change::Apply(object)),
        }
        kept.insert(key);
    }
    for ((kind, name), live_object) in live {
        let terminating = live_object.metadata.deletion_timestamp.is_some();
        if !kept.contains(&(*kind, name.clone()))
            && is_of(owner, live_object)
            && !terminating
            && let Some(uid) = live_object.uid()
        {
            changes.push(Change::Delete { kind: *kind, name: name.clone(), uid });
        }
    }
    Ok(changes)
}

fn is_of(owner: &str, live: &DynamicObject) -> bool {
    live.owner_references().iter().any(|reference| reference.uid == owner)
}

fn owner_of(live: &DynamicObject) -> String {
    match live.owner_references().first() {
        Some(owner) => format!("belongs to the {} {} ({})", owner.kind, owner.name, owner.uid),
        None => "has no owner".into(),
    }
}

/// Whether a live object was applied from the same desired object and not changed since.
fn matches(desired: &Object, live: &DynamicObject) -> bool {
    let fingerprint = live.annotations().get(FINGERPRINT).map(String::as_str);
    if fingerprint != desired.fingerprint() {
        return false;
    }
    let (Ok(live), Value::Object(fields)) = (serde_json::to_value(live), &desired.body) else {
        return false;
    };
    // Items of a list have no `apiVersion` and `kind`.
    let mut fields = fields.iter().filter(|(name, _)| !["apiVersion", "kind"].contains(&name.as_str()));
    fields.all(|(name, value)| live.get(name).is_some_and(|live| contains(live, value)))
}

/// Whether `live` contains all fields of `desired`. It may have more: defaults, and fields of other managers. Items with names are
/// compared by name, as the API server merges them.
fn contains(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            desired.iter().all(|(name, value)| match live.get(name) {
                Some(live) => contains(live, value),
                // The API server omits empty maps.
                None => matches!(value, Value::Object(map) if map.is_empty()),
            })
        }
        (Value::Array(live), Value::Array(desired)) => {
            let named = |item: &Value| item.get("name").cloned();
            if !desired.is_empty() && desired.iter().all(|item| named(item).is_some()) {
                desired
                    .iter()
                    .all(|item| live.iter().any(|other| named(other) == named(item) && contains(other, item)))
            } else {
                live.len() == desired.len()
                    && live.iter().zip(desired).all(|(live, item)| contains(live, item))
            }
        }
        (Value::String(live), Value::String(desired)) => live == desired || same_quantity(live, desired),
        _ => live == desired,
    }
}

/// The API server normalises quantities: `1000m` to `1`.
fn same_quantity(a: &str, b: &str) -> bool {
    matches!((quantity(a), quantity(b)), (Some(a), Some(b)) if (a - b).abs() <= a.abs() * 1e-9)
}

/// Executes the changes, and updates `live` with the objects that the API server returned.
///
/// # Errors
/// [`Error::Api`] at the first change that fails; those before it are done.
pub async fn execute(
    client: &Client,
    pipeline: &PipelineIdentity,
    changes: Vec<Change>,
    live: &mut Live,
    metrics: &Metrics,
) -> Result<(), Error> {
    let PipelineIdentity { namespace, uid: owner, .. } = pipeline;
    // Forced: values that other managers set in the operator's fields are drift.
    let params = PatchParams::apply(MANAGER).force();
    for change in changes {
        match change {
            Change::Apply(object) => {
                let Object { kind, name, body } = object;
                let api: Api<DynamicObject> =
                    Api::namespaced_with(client.clone(), namespace, &kind.resource());
                if !live.contains_key(&(kind, name.clone())) {
                    check_owner(&api, owner, kind, &name).await?;
                }
                metrics.write(kind.name(), "apply");
                let doing = format!("applying {} {name}", kind.name());
                let applied =
                    api.patch(&name, &params, &Patch::Apply(&body)).await.map_err(Error::api(doing))?;
                info!(kind = kind.name(), object = name, "applied");
                live.insert((kind, name), applied);
            }
            Change::Delete { kind, name, uid } => {
                let api: Api<DynamicObject> =
                    Api::namespaced_with(client.clone(), namespace, &kind.resource());
                let this = Preconditions { uid: Some(uid), resource_version: None };
                metrics.write(kind.name(), "delete");
                match api.delete(&name, &DeleteParams::background().preconditions(this)).await {
                    Ok(_) => info!(
                        kind = kind.name(),
                        object = name,
                        "deleted, because the spec no longer requests it"
                    ),
                    Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                    Err(error) => {
                        return Err(Error::api(format!("deleting {} {name}", kind.name()))(error));
                    }
                }
                live.remove(&(kind, name));
            }
        }
    }
    Ok(())
}

/// An object that the list by labels did not contain belongs to another owner, or to the pipeline but lost its labels: then applying it
/// restores them.
async fn check_owner(api: &Api<DynamicObject>, owner: &str, kind: Kind, name: &str) -> Result<(), Error> {
    let doing = format!("reading {} {name}", kind.name());
    match api.get_opt(name).await.map_err(Error::api(doing))? {
        Some(live_object) if !is_of(owner, &live_object) => {
            Err(Error::Taken { kind: kind.name(), name: name.into(), owner: owner_of(&live_object) })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::defaults_are_added(json!({"a": {"b": 1, "c": 2}, "d": 3}), json!({"a": {"b": 1}}), true)]
    #[case::a_value_differs(json!({"a": 2}), json!({"a": 1}), false)]
    #[case::a_field_is_missing(json!({}), json!({"a": 1}), false)]
    #[case::other_named_items_are_ignored(json!([{"name": "x", "v": 1}, {"name": "side"}]), json!([{"name": "x"}]), true)]
    #[case::a_named_item_is_missing(json!([{"name": "side"}]), json!([{"name": "x"}]), false)]
    #[case::unnamed_lists_must_be_equal(json!(["a", "b"]), json!(["a"]), false)]
    #[case::quantities_are_numbers(json!({"cpu": "1"}), json!({"cpu": "1000m"}), true)]
    #[case::quantities_differ(json!({"cpu": "2"}), json!({"cpu": "1000m"}), false)]
    #[case::empty_maps_are_omitted(json!({}), json!({"emptyDir": {}}), true)]
    fn live_object_is_compared_by_the_desired_fields(
        #[case] live: Value,
        #[case] desired: Value,
        #[case] same: bool,
    ) {
        assert_eq!(contains(&live, &desired), same);
    }

    fn desired_object(name: &str) -> Object {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "annotations": {FINGERPRINT: "f"}}, "data": {"k": "v"}});
        Object { kind: Kind::ConfigMap, name: name.into(), body }
    }

    fn live_object(
        name: &str,
        owner: &str,
        fingerprint: &str,
        value: &str,
    ) -> ((Kind, String), DynamicObject) {
        // As the API server lists it.
        let object = serde_json::from_value(json!({
            "metadata": {
                "name": name, "uid": "u", "annotations": {FINGERPRINT: fingerprint},
                "ownerReferences": [{"apiVersion": "herd.dev/v1alpha1", "kind": "HerdPipeline", "name": "p", "uid": owner}],
            },
            "data": {"k": value},
        }));
        ((Kind::ConfigMap, name.into()), object.unwrap())
    }

    #[test]
    fn changes_nothing_when_the_object_matches() {
        let live = Live::from([live_object("a", "me", "f", "v")]);
        assert_eq!(changes("me", vec![desired_object("a")], &live).unwrap(), []);
    }

    #[rstest]
    #[case::other_fingerprint("old", "v")]
    #[case::changed_since("f", "w")]
    fn applies_an_object_that_differs(#[case] fingerprint: &str, #[case] value: &str) {
        let live = Live::from([live_object("a", "me", fingerprint, value)]);
        assert_eq!(
            changes("me", vec![desired_object("a")], &live).unwrap(),
            [Change::Apply(desired_object("a"))]
        );
    }

    #[test]
    fn deletes_undesired_objects_of_this_owner_only() {
        let live =
            Live::from([live_object("ours", "me", "f", "v"), live_object("theirs", "other", "f", "v")]);
        let deleted = Change::Delete { kind: Kind::ConfigMap, name: "ours".into(), uid: "u".into() };
        assert_eq!(changes("me", vec![], &live).unwrap(), [deleted]);
    }

    #[test]
    fn rejects_an_object_of_another_owner() {
        let live = Live::from([live_object("a", "other", "f", "v")]);
        let error = changes("me", vec![desired_object("a")], &live).unwrap_err();
        assert!(error.to_string().contains("belongs to the HerdPipeline p (other)"), "{error}");
    }
}
