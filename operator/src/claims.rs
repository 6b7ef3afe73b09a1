//! Whose topics are whose. Two pipelines with the same topics would share their consumer groups too: each would see a part of the
//! events, and one that is deleted would take the other's data along. So the pipeline that was there first has them.

use std::collections::{BTreeSet, HashMap};

use herd_spec::pipeline::HerdPipeline;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use crate::error::Error;

/// What all pipelines claim: one entry a pipeline, removed with it.
#[derive(Default)]
pub struct Claims {
    claims: Mutex<HashMap<String, Claim>>,
}

struct Claim {
    place: Place,
    /// Who was first; where that says nothing, the smaller uid.
    since: (Option<Timestamp>, String),
    pipeline: ObjectRef<HerdPipeline>,
}

/// Topics of one Kafka, as it is addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    servers: BTreeSet<String>,
    prefix: String,
}

impl Place {
    fn of(pipeline: &HerdPipeline) -> Option<Self> {
        let kafka = pipeline.spec.kafka.as_ref()?;
        let servers = kafka.bootstrap_servers.iter().cloned().collect();
        Some(Self { servers, prefix: pipeline.topic_prefix().to_owned() })
    }
}

impl Claims {
    /// Takes note of a pipeline. The others that may have the topics now that it had before.
    pub fn see(&self, pipeline: &HerdPipeline) -> Vec<ObjectRef<HerdPipeline>> {
        let Some(uid) = pipeline.uid() else { return Vec::new() };
        let Some(place) = Place::of(pipeline) else { return self.forget(&uid) };
        let since = (pipeline.creation_timestamp().map(|time| time.0), uid.clone());
        let claim = Claim { place: place.clone(), since, pipeline: ObjectRef::from_obj(pipeline) };
        let mut claims = self.claims.lock();
        let before = claims.insert(uid, claim).map(|claim| claim.place).filter(|before| *before != place);
        before.map(|before| of(&claims, &before)).unwrap_or_default()
    }

    /// A pipeline is gone. The others that may have its topics now.
    pub fn forget(&self, uid: &str) -> Vec<ObjectRef<HerdPipeline>> {
        let mut claims = self.claims.lock();
        let gone = claims.remove(uid);
        gone.map(|gone| of(&claims, &gone.place)).unwrap_or_default()
    }

    /// The uids of the pipelines of a namespace (none: of all).
    #[must_use]
    pub fn known_in(&self, namespace: Option<&str>) -> Vec<String> {
        let claims = self.claims.lock();
        let within = |claim: &Claim| namespace.is_none() || claim.pipeline.namespace.as_deref() == namespace;
        claims.iter().filter(|(_, claim)| within(claim)).map(|(uid, _)| uid.clone()).collect()
    }

    /// Whether the pipeline may use its topics.
    ///
    /// # Errors
    /// [`Error::TopicsTaken`], if another was there first.
    pub fn check(&self, pipeline: &HerdPipeline) -> Result<(), Error> {
        let claims = self.claims.lock();
        let uid = pipeline.uid().unwrap_or_default();
        let Some(own) = claims.get(&uid) else { return Ok(()) };
        let mut others = claims.values().filter(|other| other.place == own.place);
        match others.find(|other| other.since < own.since) {
            None => Ok(()),
            Some(first) => Err(Error::TopicsTaken {
                prefix: own.place.prefix.clone(),
                holder: format!(
                    "{}/{}",
                    first.pipeline.namespace.as_deref().unwrap_or_default(),
                    first.pipeline.name
                ),
            }),
        }
    }
}

fn of(claims: &HashMap<String, Claim>, place: &Place) -> Vec<ObjectRef<HerdPipeline>> {
    claims.values().filter(|claim| claim.place == *place).map(|claim| claim.pipeline.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pipeline(
        namespace: &str,
        uid: &str,
        created: &str,
        servers: &[&str],
        prefix: Option<&str>,
    ) -> HerdPipeline {
        let mut pipeline = json!({
            "apiVersion": "herd.dev/v1alpha1", "kind": "HerdPipeline",
            "metadata": {"name": "shop", "namespace": namespace, "uid": uid, "creationTimestamp": created},
            "spec": {"kafka": {"bootstrapServers": servers}},
        });
        if let Some(prefix) = prefix {
            pipeline["spec"]["kafka"]["topicPrefix"] = prefix.into();
        }
        serde_json::from_value(pipeline).unwrap()
    }

    #[test]
    fn who_was_there_first_has_the_topics_until_it_goes() {
        let claims = Claims::default();
        let young = pipeline("staging", "a", "2026-02-02T00:00:00Z", &["k1:1", "k2:1"], None);
        let old = pipeline("prod", "b", "2026-01-01T00:00:00Z", &["k2:1", "k1:1"], None);
        assert!(claims.see(&young).is_empty());
        claims.check(&young).unwrap();
        claims.see(&old);
        claims.check(&old).unwrap();
        let why = claims.check(&young).unwrap_err().to_string();
        assert!(why.contains("prod/shop") && why.contains("topicPrefix"), "{why}");
        assert_eq!(claims.forget("b"), [ObjectRef::from_obj(&young)]);
        claims.check(&young).unwrap();
    }

    #[test]
    fn another_prefix_or_kafka_is_another_place() {
        let claims = Claims::default();
        let first = pipeline("prod", "a", "2026-01-01T00:00:00Z", &["k:1"], None);
        claims.see(&first);
        for (uid, servers, prefix) in [("b", "k:2", None), ("c", "k:1", Some("staging"))] {
            let other = pipeline("staging", uid, "2026-01-02T00:00:00Z", &[servers], prefix);
            claims.see(&other);
            claims.check(&other).unwrap();
        }
        // Who moves to another Kafka leaves its topics to those who wait for them. (The prefix cannot be changed.)
        let waits = pipeline("staging", "d", "2026-01-03T00:00:00Z", &["k:1"], Some("shop"));
        claims.see(&waits);
        claims.check(&waits).unwrap_err();
        let moved = pipeline("prod", "a", "2026-01-01T00:00:00Z", &["k:3"], None);
        assert_eq!(claims.see(&moved), [ObjectRef::from_obj(&waits)]);
        claims.check(&waits).unwrap();
    }
}
