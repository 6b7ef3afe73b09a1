//! What is known of the objects of all pipelines without asking, so that a pipeline that is as it is to be costs the API server
//! nothing: the watches tell which versions there are, and a reconcile remembers in which versions it left everything. While these
//! agree, nothing is read. Objects are not kept, only what stands for them, and what a Deployment says of its pods.

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

/// How long the memory of a reconcile counts. What no watch tells of is found after that.
const CONFIDENCE: Duration = Duration::from_secs(30 * 60);

/// Kind, namespace and name.
type Key = (Kind, String, String);

/// What is known of the objects of all pipelines.
#[derive(Default)]
pub struct Objects {
    there: Mutex<HashMap<Key, There>>,
    left: Mutex<HashMap<String, Left>>,
}

/// An object as the watches know it.
struct There {
    version: String,
    of: Option<Box<ObjectRef<HerdPipeline>>>,
    rollout: Option<Box<Rollout>>,
}

/// How a reconcile left the objects of a pipeline.
struct Left {
    at: Instant,
    made_from: String,
    versions: Vec<(Key, String)>,
}

impl Objects {
    /// A watch saw an object: the pipelines whose it is and was.
    pub fn see(
        &self,
        kind: Kind,
        metadata: &ObjectMeta,
        rollout: Option<Rollout>,
    ) -> Vec<ObjectRef<HerdPipeline>> {
        let namespace = metadata.namespace.as_deref();
        let mut owners = metadata.owner_references.iter().flatten();
        let of = owners.find_map(|owner| ObjectRef::from_owner_ref(namespace, owner, ()));
        let now = There {
            version: version(metadata),
            of: of.clone().map(Box::new),
            rollout: rollout.map(Box::new),
        };
        let before = self.there.lock().insert(key(kind, metadata), now).and_then(|before| before.of);
        let before = before.map(|before| *before).filter(|before| Some(before) != of.as_ref());
        of.into_iter().chain(before).collect()
    }

    /// A watch saw that an object is gone, or no longer one of ours: the pipeline whose it was.
    pub fn miss(&self, kind: Kind, metadata: &ObjectMeta) -> Option<ObjectRef<HerdPipeline>> {
        self.there.lock().remove(&key(kind, metadata))?.of.map(|of| *of)
    }

    /// A watch begins again, and says of each object of a namespace (none: of all) that it is there: the pipelines that have some.
    pub fn lose(&self, kind: Kind, namespace: Option<&str>) -> Vec<ObjectRef<HerdPipeline>> {
        let lost = |key: &Key| key.0 == kind && namespace.is_none_or(|namespace| key.1 == namespace);
        self.there
            .lock()
            .extract_if(|key, _| lost(key))
            .filter_map(|(_, there)| there.of.map(|of| *of))
            .collect()
    }

    /// The Deployments of the pipeline with this uid, and what stands for all that was wanted when it was put right; none if
    /// anything has changed since, or that is too long ago.
    #[must_use]
    pub fn as_left(&self, uid: &str) -> Option<(Deployments, String)> {
        let left = self.left.lock();
        let left = left.get(uid).filter(|left| left.at.elapsed() < CONFIDENCE)?;
        let there = self.there.lock();
        let mut deployments = Deployments::new();
        for (key, version) in &left.versions {
            let there = there.get(key).filter(|there| there.version == *version)?;
            if let Some(rollout) = &there.rollout {
                deployments.insert(key.2.clone(), Rollout::clone(rollout));
            }
        }
        Some((deployments, left.made_from.clone()))
    }

    /// A reconcile leaves these objects, made from what `made_from` stands for. Those of kinds that are not watched stay out of it.
    pub fn leave(&self, uid: &str, made_from: String, live: &Live) {
        if live.values().any(|object| object.metadata.deletion_timestamp.is_some()) {
            // Its successor is still to come.
            self.left.lock().remove(uid);
            return;
        }
        let watched = live.iter().filter(|((kind, _), _)| Kind::BUILT_IN.contains(kind));
        let versions =
            watched.map(|((kind, _), object)| (key(*kind, &object.metadata), version(&object.metadata)));
        let left = Left { at: Instant::now(), made_from, versions: versions.collect() };
        self.left.lock().insert(uid.into(), left);
    }

    /// Forgets how a pipeline that is gone was left.
    pub fn forget(&self, uid: &str) {
        self.left.lock().remove(uid);
    }
}

/// What stands for all these objects as they are wanted.
#[must_use]
pub fn made_from(wanted: &[Object]) -> String {
    let all: BTreeMap<_, _> =
        wanted.iter().map(|object| ((object.kind, &object.name), object.fingerprint())).collect();
    digest(format!("{all:?}").as_bytes())
}

fn key(kind: Kind, metadata: &ObjectMeta) -> Key {
    (kind, metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// What stands for an object as people and we write it. Where it has a generation, what controllers say of it makes no difference.
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

    /// Two objects that were left and seen as they are.
    fn left() -> Objects {
        let objects = Objects::default();
        let (account, deployment) = (object("a", &json!({})), object("d", &json!({"generation": 3})));
        objects.see(Kind::ServiceAccount, &account.metadata, None);
        objects.see(Kind::Deployment, &deployment.metadata, Some(Rollout::default()));
        let live = Live::from([
            ((Kind::ServiceAccount, "a".into()), account),
            ((Kind::Deployment, "d".into()), deployment),
        ]);
        objects.leave(UID, "from".into(), &live);
        objects
    }

    fn is_as_left(objects: &Objects) -> bool {
        objects.as_left(UID).is_some()
    }

    #[test]
    fn what_is_as_it_was_left_needs_no_reading() {
        let (deployments, made_from) = left().as_left(UID).unwrap();
        assert_eq!((deployments.len(), &*made_from), (1, "from"));
    }

    #[rstest]
    #[case::its_status(Kind::Deployment, "d", json!({"generation": 3, "resourceVersion": "2"}), true)]
    #[case::its_spec(Kind::Deployment, "d", json!({"generation": 4}), false)]
    #[case::a_label(Kind::Deployment, "d", json!({"generation": 3, "labels": {}}), false)]
    #[case::its_owner(Kind::Deployment, "d", json!({"generation": 3, "ownerReferences": []}), false)]
    #[case::one_without_generations(Kind::ServiceAccount, "a", json!({"resourceVersion": "2"}), false)]
    #[case::one_that_goes(Kind::ServiceAccount, "a", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), false)]
    #[case::another(Kind::Service, "a", json!({}), true)]
    fn what_changed_since_is_noticed(
        #[case] kind: Kind,
        #[case] name: &str,
        #[case] change: Value,
        #[case] same: bool,
    ) {
        let objects = left();
        let told = objects.see(kind, &object(name, &change).metadata, Some(Rollout::default()));
        assert_eq!(is_as_left(&objects), same);
        assert_eq!(told, [ObjectRef::new("shop").within("demo")]);
    }

    #[test]
    fn what_is_gone_is_noticed() {
        let objects = left();
        let told = objects.miss(Kind::ServiceAccount, &object("a", &json!({})).metadata);
        assert_eq!(told, Some(ObjectRef::new("shop").within("demo")));
        assert!(!is_as_left(&objects));
    }

    #[rstest]
    #[case::everywhere(None, false)]
    #[case::there(Some("demo"), false)]
    #[case::elsewhere(Some("other"), true)]
    fn a_watch_that_begins_again_knows_nothing_at_first(#[case] namespace: Option<&str>, #[case] same: bool) {
        let objects = left();
        assert_eq!(objects.lose(Kind::Deployment, namespace).is_empty(), same);
        assert_eq!(is_as_left(&objects), same);
        objects.see(Kind::Deployment, &object("d", &json!({"generation": 3})).metadata, None);
        assert!(is_as_left(&objects));
    }

    #[test]
    fn what_is_to_go_and_come_again_is_not_left() {
        let objects = left();
        let going = object("a", &json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}));
        objects.see(Kind::ServiceAccount, &going.metadata, None);
        objects.leave(UID, "from".into(), &Live::from([((Kind::ServiceAccount, "a".into()), going)]));
        assert!(!is_as_left(&objects));
    }
}
