//! Which pipeline owns which topics. Two pipelines with the same topics would share their consumer groups too: each would see a part
//! of the events, and deleting one would delete the other's data. So the pipeline that was created first owns them.

use std::collections::{BTreeSet, HashMap};

use herd_spec::pipeline::HerdPipeline;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use crate::error::Error;
use crate::identity::PipelineIdentity;

/// The topics that each pipeline claims: one entry a pipeline, removed with it.
#[derive(Default)]
pub struct TopicOwnership {
    claims: Mutex<HashMap<String, Claim>>,
}

struct Claim {
    topics: TopicSet,
    /// The earliest claim wins; of two with the same time, the one with the smaller uid.
    created: (Option<Timestamp>, String),
    pipeline: PipelineIdentity,
}

/// The topics of one pipeline: the Kafka cluster, by its addresses, and the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TopicSet {
    bootstrap_servers: BTreeSet<String>,
    prefix: String,
}

impl TopicSet {
    fn of(pipeline: &HerdPipeline) -> Option<Self> {
        let kafka = pipeline.spec.kafka.as_ref()?;
        let bootstrap_servers = kafka.bootstrap_servers.iter().cloned().collect();
        Some(Self { bootstrap_servers, prefix: pipeline.topic_prefix().to_owned() })
    }
}

impl TopicOwnership {
    /// Records the claim of a pipeline. Returns the other pipelines that may own the topics that it claimed before.
    pub fn record(&self, pipeline: &HerdPipeline) -> Vec<ObjectRef<HerdPipeline>> {
        // One without an identity is reported by its reconcile.
        let Ok(identity) = PipelineIdentity::of(pipeline) else { return Vec::new() };
        let uid = identity.uid.clone();
        let Some(topics) = TopicSet::of(pipeline) else { return self.forget(&uid) };
        let created = (pipeline.creation_timestamp().map(|time| time.0), uid.clone());
        let claim = Claim { topics: topics.clone(), created, pipeline: identity };
        let mut claims = self.claims.lock();
        let before = claims.insert(uid, claim).map(|claim| claim.topics).filter(|before| *before != topics);
        before.map(|before| claimants(&claims, &before)).unwrap_or_default()
    }

    /// Removes the claim of a deleted pipeline. Returns the other pipelines that may own its topics now.
    pub fn forget(&self, uid: &str) -> Vec<ObjectRef<HerdPipeline>> {
        let mut claims = self.claims.lock();
        let removed = claims.remove(uid);
        removed.map(|removed| claimants(&claims, &removed.topics)).unwrap_or_default()
    }

    /// The uids of the pipelines of a namespace (none: of all).
    #[must_use]
    pub fn known_in(&self, namespace: Option<&str>) -> Vec<String> {
        let claims = self.claims.lock();
        let within = |claim: &Claim| namespace.is_none_or(|namespace| claim.pipeline.namespace == namespace);
        claims.iter().filter(|(_, claim)| within(claim)).map(|(uid, _)| uid.clone()).collect()
    }

    /// Checks that the pipeline owns its topics.
    ///
    /// # Errors
    /// [`Error::TopicsTaken`] if a pipeline that was created earlier owns them.
    pub fn check(&self, pipeline: &PipelineIdentity) -> Result<(), Error> {
        let claims = self.claims.lock();
        let Some(own) = claims.get(&pipeline.uid) else { return Ok(()) };
        let mut others = claims.values().filter(|other| other.topics == own.topics);
        match others.find(|other| other.created < own.created) {
            None => Ok(()),
            Some(first) => Err(Error::TopicsTaken {
                prefix: own.topics.prefix.clone(),
                holder: first.pipeline.to_string(),
            }),
        }
    }
}

fn claimants(claims: &HashMap<String, Claim>, topics: &TopicSet) -> Vec<ObjectRef<HerdPipeline>> {
    claims.values().filter(|claim| claim.topics == *topics).map(|claim| claim.pipeline.object_ref()).collect()
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

    fn identity(pipeline: &HerdPipeline) -> PipelineIdentity {
        PipelineIdentity::of(pipeline).unwrap()
    }

    #[test]
    fn topics_belong_to_the_pipeline_created_first_until_it_is_deleted() {
        let ownership = TopicOwnership::default();
        let young = pipeline("staging", "a", "2026-02-02T00:00:00Z", &["k1:1", "k2:1"], None);
        let old = pipeline("prod", "b", "2026-01-01T00:00:00Z", &["k2:1", "k1:1"], None);
        assert!(ownership.record(&young).is_empty());
        ownership.check(&identity(&young)).unwrap();
        ownership.record(&old);
        ownership.check(&identity(&old)).unwrap();
        let why = ownership.check(&identity(&young)).unwrap_err().to_string();
        assert!(why.contains("prod/shop") && why.contains("topicPrefix"), "{why}");
        assert_eq!(ownership.forget("b"), [ObjectRef::from_obj(&young)]);
        ownership.check(&identity(&young)).unwrap();
    }

    #[test]
    fn pipelines_with_other_prefixes_or_clusters_do_not_conflict() {
        let ownership = TopicOwnership::default();
        let first = pipeline("prod", "a", "2026-01-01T00:00:00Z", &["k:1"], None);
        ownership.record(&first);
        for (uid, servers, prefix) in [("b", "k:2", None), ("c", "k:1", Some("staging"))] {
            let other = pipeline("staging", uid, "2026-01-02T00:00:00Z", &[servers], prefix);
            ownership.record(&other);
            ownership.check(&identity(&other)).unwrap();
        }
        // A pipeline that moves to another Kafka cluster leaves its topics to those that wait for them. (The prefix cannot be changed.)
        let waits = pipeline("staging", "d", "2026-01-03T00:00:00Z", &["k:1"], Some("shop"));
        ownership.record(&waits);
        ownership.check(&identity(&waits)).unwrap_err();
        let moved = pipeline("prod", "a", "2026-01-01T00:00:00Z", &["k:3"], None);
        assert_eq!(ownership.record(&moved), [ObjectRef::from_obj(&waits)]);
        ownership.check(&identity(&waits)).unwrap();
    }
}
