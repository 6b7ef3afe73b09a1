//! Avoids reading the objects of a pipeline that has not changed: the watches report the current version of each object, and a reconcile
//! records the versions that it applied. While these agree, nothing is read. The cache keeps fingerprints and the rollout state of
//! Deployments, not objects.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use herd_spec::pipeline::HerdPipeline;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use crate::apply::Live;
use crate::desired::{Object, digest};
use crate::kind::Kind;
use crate::observe::{Deployments, Rollout};

/// How long applied versions are valid. A change that no watch reports is found after that.
const VALID: Duration = Duration::from_secs(30 * 60);

/// Kind, namespace and name.
type Key = (Kind, String, String);

/// The versions of the objects of all pipelines.
#[derive(Default)]
pub struct ObjectCache {
    watched: Mutex<HashMap<Key, WatchedObject>>,
    applied: Mutex<HashMap<String, AppliedObjects>>,
}

/// An object as the watches reported it.
struct WatchedObject {
    version: String,
    owner: Option<Box<ObjectRef<HerdPipeline>>>,
    rollout: Option<Box<Rollout>>,
}

/// The objects of a pipeline as a reconcile applied them.
struct AppliedObjects {
    at: Instant,
    /// Of the desired objects.
    fingerprint: String,
    versions: Vec<(Key, String)>,
}

impl ObjectCache {
    /// Records an object that a watch reported. Returns the pipelines that own it now and that owned it before.
    pub fn record(
        &self,
        kind: Kind,
        metadata: &ObjectMeta,
        rollout: Option<Rollout>,
    ) -> Vec<ObjectRef<HerdPipeline>> {
        let Some(key) = key(kind, metadata) else { return Vec::new() };
        let namespace = metadata.namespace.as_deref();
        let mut owners = metadata.owner_references.iter().flatten();
        let owner = owners.find_map(|owner| ObjectRef::from_owner_ref(namespace, owner, ()));
        let now = WatchedObject {
            version: version(metadata),
            owner: owner.clone().map(Box::new),
            rollout: rollout.map(Box::new),
        };
        let before = self.watched.lock().insert(key, now).and_then(|before| before.owner);
        let before = before.map(|before| *before).filter(|before| Some(before) != owner.as_ref());
        owner.into_iter().chain(before).collect()
    }

    /// Removes an object that was deleted, or lost the operator's labels. Returns the pipeline that owned it.
    pub fn remove(&self, kind: Kind, metadata: &ObjectMeta) -> Option<ObjectRef<HerdPipeline>> {
        self.watched.lock().remove(&key(kind, metadata)?)?.owner.map(|owner| *owner)
    }

    /// A watch starts over and will report each object of a namespace (none: of all) again. Returns the owners of the objects.
    pub fn restart_watch(&self, kind: Kind, namespace: Option<&str>) -> Vec<ObjectRef<HerdPipeline>> {
        let of_watch = |key: &Key| key.0 == kind && namespace.is_none_or(|namespace| key.1 == namespace);
        self.watched
            .lock()
            .extract_if(|key, _| of_watch(key))
            .filter_map(|(_, object)| object.owner.map(|owner| *owner))
            .collect()
    }

    /// The Deployments of the pipeline with this uid and the fingerprint of its desired objects at the last reconcile; none if an object
    /// has changed since, or the reconcile is too long ago.
    #[must_use]
    pub fn unchanged(&self, uid: &str) -> Option<(Deployments, String)> {
        let applied = self.applied.lock();
        let applied = applied.get(uid).filter(|applied| applied.at.elapsed() < VALID)?;
        let watched = self.watched.lock();
        let mut deployments = Deployments::new();
        for (key, version) in &applied.versions {
            let object = watched.get(key).filter(|object| object.version == *version)?;
            if let Some(rollout) = &object.rollout {
                deployments.insert(key.2.clone(), Rollout::clone(rollout));
            }
        }
        Some((deployments, applied.fingerprint.clone()))
    }

    /// Records the objects that a reconcile applied. Kinds that are not watched are ignored.
    pub fn record_applied(&self, uid: &str, fingerprint: String, live: &Live) {
        if live.values().any(|object| object.metadata.deletion_timestamp.is_some()) {
            // The next reconcile must create its successor.
            self.applied.lock().remove(uid);
            return;
        }
        let watched = live.iter().filter(|((kind, _), _)| Kind::BUILT_IN.contains(kind));
        let versions = watched.filter_map(|((kind, _), object)| {
            Some((key(*kind, &object.metadata)?, version(&object.metadata)))
        });
        let applied = AppliedObjects { at: Instant::now(), fingerprint, versions: versions.collect() };
        self.applied.lock().insert(uid.into(), applied);
    }

    /// Forgets a deleted pipeline.
    pub fn forget(&self, uid: &str) {
        self.applied.lock().remove(uid);
    }
}

/// The fingerprint of all these objects.
#[must_use]
pub fn fingerprint(desired: &[Object]) -> String {
    let all: BTreeMap<_, _> =
        desired.iter().map(|object| ((object.kind, &object.name), object.fingerprint())).collect();
    digest(format!("{all:?}").as_bytes())
}

/// None for an object without namespace or name, which the API server does not return.
fn key(kind: Kind, metadata: &ObjectMeta) -> Option<Key> {
    Some((kind, metadata.namespace.clone()?, metadata.name.clone()?))
}

/// The fingerprint of the parts of an object that its controller does not write. Where the object has a generation, its status is not
/// included.
fn version(metadata: &ObjectMeta) -> String {
    let body = match metadata.generation {
        Some(generation) => generation.to_string(),
        None => metadata.resource_version.clone().unwrap_or_default(),
    };
    let ObjectMeta { uid, labels, annotations, owner_references, deletion_timestamp, .. } = metadata;
    let all = (body, uid, labels, annotations, owner_references, deletion_timestamp);
    digest(format!("{all:?}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::DynamicObject;
    use rstest::rstest;
    use serde_json::{Value, json};

    const UID: &str = "u1";

    fn object(name: &str, change: &Value) -> DynamicObject {
        let mut object = json!({"metadata": {
            "name": name, "namespace": "demo", "uid": name, "resourceVersion": "1", "labels": {"a": "b"},
            "ownerReferences": [{"apiVersion": "herd.dev/v1alpha1", "kind": "HerdPipeline", "name": "shop", "uid": UID}],
        }});
        for (field, value) in change.as_object().unwrap() {
            object["metadata"][field] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    /// Two objects that were applied, and reported by the watches since.
    fn applied() -> ObjectCache {
        let cache = ObjectCache::default();
        let (account, deployment) = (object("a", &json!({})), object("d", &json!({"generation": 3})));
        cache.record(Kind::ServiceAccount, &account.metadata, None);
        cache.record(Kind::Deployment, &deployment.metadata, Some(Rollout::default()));
        let live = Live::from([
            ((Kind::ServiceAccount, "a".into()), account),
            ((Kind::Deployment, "d".into()), deployment),
        ]);
        cache.record_applied(UID, "fingerprint".into(), &live);
        cache
    }

    fn is_unchanged(cache: &ObjectCache) -> bool {
        cache.unchanged(UID).is_some()
    }

    #[test]
    fn returns_deployments_when_nothing_changed() {
        let (deployments, fingerprint) = applied().unchanged(UID).unwrap();
        assert_eq!((deployments.len(), &*fingerprint), (1, "fingerprint"));
    }

    #[rstest]
    #[case::its_status(Kind::Deployment, "d", json!({"generation": 3, "resourceVersion": "2"}), true)]
    #[case::its_spec(Kind::Deployment, "d", json!({"generation": 4}), false)]
    #[case::a_label(Kind::Deployment, "d", json!({"generation": 3, "labels": {}}), false)]
    #[case::its_owner(Kind::Deployment, "d", json!({"generation": 3, "ownerReferences": []}), false)]
    #[case::without_generation(Kind::ServiceAccount, "a", json!({"resourceVersion": "2"}), false)]
    #[case::being_deleted(Kind::ServiceAccount, "a", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), false)]
    #[case::another_object(Kind::Service, "a", json!({}), true)]
    fn detects_a_change_of_an_object(
        #[case] kind: Kind,
        #[case] name: &str,
        #[case] change: Value,
        #[case] same: bool,
    ) {
        let cache = applied();
        let owners = cache.record(kind, &object(name, &change).metadata, Some(Rollout::default()));
        assert_eq!(is_unchanged(&cache), same);
        assert_eq!(owners, [ObjectRef::new("shop").within("demo")]);
    }

    #[test]
    fn detects_a_deleted_object() {
        let cache = applied();
        let owners = cache.remove(Kind::ServiceAccount, &object("a", &json!({})).metadata);
        assert_eq!(owners, Some(ObjectRef::new("shop").within("demo")));
        assert!(!is_unchanged(&cache));
    }

    #[rstest]
    #[case::everywhere(None, false)]
    #[case::same_namespace(Some("demo"), false)]
    #[case::other_namespace(Some("other"), true)]
    fn restarted_watch_invalidates_until_it_reports_again(
        #[case] namespace: Option<&str>,
        #[case] same: bool,
    ) {
        let cache = applied();
        assert_eq!(cache.restart_watch(Kind::Deployment, namespace).is_empty(), same);
        assert_eq!(is_unchanged(&cache), same);
        cache.record(Kind::Deployment, &object("d", &json!({"generation": 3})).metadata, None);
        assert!(is_unchanged(&cache));
    }

    #[test]
    fn object_being_deleted_is_not_recorded_as_applied() {
        let cache = applied();
        let going = object("a", &json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}));
        cache.record(Kind::ServiceAccount, &going.metadata, None);
        cache.record_applied(
            UID,
            "fingerprint".into(),
            &Live::from([((Kind::ServiceAccount, "a".into()), going)]),
        );
        assert!(!is_unchanged(&cache));
    }
}
