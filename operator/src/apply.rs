//! From what is wanted and what is there to what must be written, and writing it. In a steady cluster that is nothing.

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
use crate::kind::Kind;
use crate::metrics::Metrics;

/// The objects of a pipeline as they are.
pub type Live = BTreeMap<(Kind, String), DynamicObject>;

/// Something to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// This object is missing or differs.
    Apply(Object),
    /// This one is no longer wanted.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Its identity, so that a later one of the same name is spared.
        uid: String,
    },
}

/// Reads all objects of a pipeline, as the API server's cache has them: whatever a watch has told of is in it, and what is older
/// than a write of ours is at worst written once more, which changes nothing.
///
/// # Errors
/// [`Error::Api`].
pub async fn live(client: &Client, namespace: &str, pipeline: &str, kinds: &[Kind]) -> Result<Live, Error> {
    let wanted = ListParams::default().labels(&desired::of_pipeline(pipeline)).match_any();
    let lists = kinds.iter().map(async |&kind| {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind.resource());
        let doing = format!("listing {} of {pipeline}", kind.resource().plural);
        Ok::<_, Error>((kind, api.list(&wanted).await.map_err(Error::api(doing))?))
    });
    let lists = try_join_all(lists).await?;
    let named = |kind, object: DynamicObject| ((kind, object.name_any()), object);
    Ok(lists.into_iter().flat_map(|(kind, list)| list.into_iter().map(move |one| named(kind, one))).collect())
}

/// What must be written. `owner` is the pipeline's uid.
///
/// # Errors
/// [`Error::Taken`] if a name is taken by an object of another owner.
pub fn changes(owner: &str, wanted: Vec<Object>, live: &Live) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    let mut kept = std::collections::BTreeSet::new();
    for object in wanted {
        let key = (object.kind, object.name.clone());
        match live.get(&key) {
            Some(there) if !is_of(owner, there) => {
                return Err(Error::Taken {
                    kind: object.kind.name(),
                    name: object.name,
                    owner: owner_of(there),
                });
            }
            // It goes anyway; its successor is applied when it is gone.
            Some(there) if there.metadata.deletion_timestamp.is_some() => {}
            Some(there) if is_as_wanted(&object, there) => {}
            _ => changes.push(Change::Apply(object)),
        }
        kept.insert(key);
    }
    for ((kind, name), there) in live {
        let going = there.metadata.deletion_timestamp.is_some();
        if !kept.contains(&(*kind, name.clone())) && is_of(owner, there) && !going {
            let uid = there.uid().unwrap_or_default();
            changes.push(Change::Delete { kind: *kind, name: name.clone(), uid });
        }
    }
    Ok(changes)
}

fn is_of(owner: &str, there: &DynamicObject) -> bool {
    there.owner_references().iter().any(|reference| reference.uid == owner)
}

fn owner_of(there: &DynamicObject) -> String {
    match there.owner_references().first() {
        Some(owner) => format!("the {} {} ({})", owner.kind, owner.name, owner.uid),
        None => "nobody".into(),
    }
}

/// Whether it was made from the same, and nobody has changed it since.
fn is_as_wanted(wanted: &Object, there: &DynamicObject) -> bool {
    let made_from = there.annotations().get(FINGERPRINT).map(String::as_str);
    if made_from != wanted.fingerprint() {
        return false;
    }
    let (Ok(there), Value::Object(fields)) = (serde_json::to_value(there), &wanted.body) else {
        return false;
    };
    // Items of a list come without their kind: it is known from what was asked.
    let mut fields = fields.iter().filter(|(name, _)| !["apiVersion", "kind"].contains(&name.as_str()));
    fields.all(|(name, value)| there.get(name).is_some_and(|there| holds(there, value)))
}

/// Whether everything of `wanted` is in `there`, which may hold more: defaults, and what others have added. Items that have names
/// are compared by name, as the API server merges them.
fn holds(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| match there.get(name) {
                Some(there) => holds(there, value),
                // The API server leaves out what is empty.
                None => matches!(value, Value::Object(map) if map.is_empty()),
            })
        }
        (Value::Array(there), Value::Array(wanted)) => {
            let named = |item: &Value| item.get("name").cloned();
            if !wanted.is_empty() && wanted.iter().all(|item| named(item).is_some()) {
                wanted
                    .iter()
                    .all(|item| there.iter().any(|other| named(other) == named(item) && holds(other, item)))
            } else {
                there.len() == wanted.len()
                    && there.iter().zip(wanted).all(|(there, item)| holds(there, item))
            }
        }
        (Value::String(there), Value::String(wanted)) => there == wanted || same_quantity(there, wanted),
        _ => there == wanted,
    }
}

/// `1000m` is stored as `1`.
fn same_quantity(a: &str, b: &str) -> bool {
    matches!((quantity(a), quantity(b)), (Some(a), Some(b)) if (a - b).abs() <= a.abs() * 1e-9)
}

/// Writes the changes of the pipeline with the uid `owner`, and keeps `live` with what the API server made of them.
///
/// # Errors
/// [`Error::Api`] at the first that is refused; those before it are done.
pub async fn execute(
    client: &Client,
    namespace: &str,
    owner: &str,
    changes: Vec<Change>,
    live: &mut Live,
    metrics: &Metrics,
) -> Result<(), Error> {
    // Forced: what somebody else has set in our fields is drift.
    let ours = PatchParams::apply(MANAGER).force();
    for change in changes {
        match change {
            Change::Apply(object) => {
                let Object { kind, name, body } = object;
                let api: Api<DynamicObject> =
                    Api::namespaced_with(client.clone(), namespace, &kind.resource());
                if !live.contains_key(&(kind, name.clone())) {
                    refuse_to_take(&api, owner, kind, &name).await?;
                }
                metrics.write(kind.name(), "apply");
                let doing = format!("applying {} {name}", kind.name());
                let made = api.patch(&name, &ours, &Patch::Apply(&body)).await.map_err(Error::api(doing))?;
                info!(kind = kind.name(), object = name, "applied");
                live.insert((kind, name), made);
            }
            Change::Delete { kind, name, uid } => {
                let api: Api<DynamicObject> =
                    Api::namespaced_with(client.clone(), namespace, &kind.resource());
                let this = Preconditions { uid: Some(uid), resource_version: None };
                metrics.write(kind.name(), "delete");
                match api.delete(&name, &DeleteParams::background().preconditions(this)).await {
                    Ok(_) => info!(kind = kind.name(), object = name, "removed: no longer wanted"),
                    Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                    Err(error) => {
                        return Err(Error::api(format!("removing {} {name}", kind.name()))(error));
                    }
                }
                live.remove(&(kind, name));
            }
        }
    }
    Ok(())
}

/// An object that we did not find by our labels is another's, or ours with its labels lost: then they come back.
async fn refuse_to_take(api: &Api<DynamicObject>, owner: &str, kind: Kind, name: &str) -> Result<(), Error> {
    let doing = format!("looking for {} {name}", kind.name());
    match api.get_opt(name).await.map_err(Error::api(doing))? {
        Some(there) if !is_of(owner, &there) => {
            Err(Error::Taken { kind: kind.name(), name: name.into(), owner: owner_of(&there) })
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
    #[case::named_items_may_have_company(json!([{"name": "x", "v": 1}, {"name": "side"}]), json!([{"name": "x"}]), true)]
    #[case::a_named_item_is_gone(json!([{"name": "side"}]), json!([{"name": "x"}]), false)]
    #[case::other_lists_are_as_they_are(json!(["a", "b"]), json!(["a"]), false)]
    #[case::quantities_are_numbers(json!({"cpu": "1"}), json!({"cpu": "1000m"}), true)]
    #[case::quantities_differ(json!({"cpu": "2"}), json!({"cpu": "1000m"}), false)]
    #[case::what_is_empty_is_left_out(json!({}), json!({"emptyDir": {}}), true)]
    fn what_is_there_is_compared_by_what_is_wanted(
        #[case] there: Value,
        #[case] wanted: Value,
        #[case] same: bool,
    ) {
        assert_eq!(holds(&there, &wanted), same);
    }

    fn wanted(name: &str) -> Object {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "annotations": {FINGERPRINT: "f"}}, "data": {"k": "v"}});
        Object { kind: Kind::ConfigMap, name: name.into(), body }
    }

    fn there(name: &str, owner: &str, fingerprint: &str, value: &str) -> ((Kind, String), DynamicObject) {
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
    fn a_steady_object_is_left_alone() {
        let live = Live::from([there("a", "me", "f", "v")]);
        assert_eq!(changes("me", vec![wanted("a")], &live).unwrap(), []);
    }

    #[rstest]
    #[case::made_from_something_else("old", "v")]
    #[case::changed_by_hand("f", "w")]
    fn an_object_that_differs_is_applied(#[case] fingerprint: &str, #[case] value: &str) {
        let live = Live::from([there("a", "me", fingerprint, value)]);
        assert_eq!(changes("me", vec![wanted("a")], &live).unwrap(), [Change::Apply(wanted("a"))]);
    }

    #[test]
    fn what_is_no_longer_wanted_goes_if_it_is_ours() {
        let live = Live::from([there("ours", "me", "f", "v"), there("theirs", "other", "f", "v")]);
        let gone = Change::Delete { kind: Kind::ConfigMap, name: "ours".into(), uid: "u".into() };
        assert_eq!(changes("me", vec![], &live).unwrap(), [gone]);
    }

    #[test]
    fn an_object_of_another_owner_is_not_taken() {
        let live = Live::from([there("a", "other", "f", "v")]);
        let error = changes("me", vec![wanted("a")], &live).unwrap_err();
        assert!(error.to_string().contains("belongs to the HerdPipeline p (other)"), "{error}");
    }
}
