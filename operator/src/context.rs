//! The state that all reconciles share.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use herd_spec::pipeline::HerdPipeline;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::Event;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;
use tracing::warn;

use crate::backoff::Backoff;
use crate::event_publisher::EventPublisher;
use crate::field_conflicts::FieldConflicts;
use crate::groups::Groups;
use crate::kind::Kind;
use crate::metrics::Metrics;
use crate::object_cache::ObjectCache;
use crate::observe::PodTemplates;
use crate::scaling::Scaler;
use crate::topic_ownership::TopicOwnership;
use crate::topics::{KafkaClients, TopicReconciler};

/// How long the result of API discovery is valid.
const DISCOVERY_VALID: Duration = Duration::from_secs(300);

/// The state that all reconciles share.
pub struct Context {
    /// The client of the API server.
    pub client: Client,
    /// The image of the workers.
    pub image: String,
    /// Names of Secrets in a pipeline's namespace for pulling it.
    pub pull_secrets: Vec<String>,
    /// Decides numbers of replicas.
    pub scaler: Arc<Scaler>,
    /// Connections to Kafka.
    pub kafka_clients: KafkaClients,
    /// The last applied and the watched versions of objects.
    pub object_cache: ObjectCache,
    /// Ensures the topics of all pipelines.
    pub topics: TopicReconciler,
    /// Which pipeline owns which topics.
    pub topic_ownership: TopicOwnership,
    /// Fields of the operator's objects that other field managers set.
    pub field_conflicts: Arc<FieldConflicts>,
    /// The pod templates of Deployments that their controller has observed.
    pub pod_templates: PodTemplates,
    /// Consumer groups that remain to be deleted.
    pub groups: Groups,
    /// Consecutive failures of each pipeline.
    pub backoff: Backoff,
    /// The operator's metrics.
    pub metrics: Metrics,
    event_publisher: EventPublisher,
    /// The resource version of each pipeline, by uid, after the operator's last write.
    written: Mutex<HashMap<String, String>>,
    pod_monitors: Mutex<Option<(bool, Instant)>>,
}

impl Context {
    /// A context that knows no pipeline yet.
    #[must_use]
    pub fn new(
        client: Client,
        image: String,
        scaler: Arc<Scaler>,
        event_publisher: EventPublisher,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            image,
            pull_secrets: Vec::new(),
            scaler,
            event_publisher,
            metrics,
            written: Mutex::default(),
            kafka_clients: KafkaClients::default(),
            object_cache: ObjectCache::default(),
            topics: TopicReconciler::default(),
            topic_ownership: TopicOwnership::default(),
            field_conflicts: Arc::default(),
            pod_templates: PodTemplates::default(),
            groups: Groups::default(),
            backoff: Backoff::default(),
            pod_monitors: Mutex::default(),
        }
    }

    /// The kinds of objects of a pipeline that this cluster has.
    pub async fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Kind::BUILT_IN.to_vec();
        if self.has_pod_monitors().await {
            kinds.push(Kind::PodMonitor);
        }
        kinds
    }

    async fn has_pod_monitors(&self) -> bool {
        let known = *self.pod_monitors.lock();
        if let Some((known, at)) = known
            && at.elapsed() < DISCOVERY_VALID
        {
            return known;
        }
        let group = Kind::PodMonitor.resource().api_version;
        // An error means that the cluster does not have the group.
        let known = self.client.list_api_group_resources(&group).await.is_ok_and(|list| {
            list.resources.iter().any(|resource| resource.name == Kind::PodMonitor.resource().plural)
        });
        *self.pod_monitors.lock() = Some((known, Instant::now()));
        known
    }

    /// Publishes an Event of a pipeline. Failing to is not an error of the reconcile. True: it is published.
    pub async fn publish(&self, pipeline: &HerdPipeline, event: &Event) -> bool {
        self.publish_regarding(&pipeline.object_ref(&()), event).await
    }

    /// Publishes an Event of a pipeline's namespace, in the namespace `default`: in a namespace that is being deleted, nothing can be
    /// created.
    pub async fn publish_of_namespace(&self, namespace: &str, event: &Event) -> bool {
        let regarding = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Namespace".into()),
            name: Some(namespace.into()),
            ..ObjectReference::default()
        };
        self.publish_regarding(&regarding, event).await
    }

    async fn publish_regarding(&self, regarding: &ObjectReference, event: &Event) -> bool {
        match self.event_publisher.publish(regarding, event).await {
            Ok(true) => self.metrics.write("Event", "create"),
            Ok(false) => {}
            Err(error) => {
                warn!(%error, reason = event.reason, "publishing an Event failed");
                return false;
            }
        }
        true
    }

    /// Records the resource version of a pipeline after a write of the operator.
    pub fn record_written(&self, pipeline: &HerdPipeline) {
        if let (Some(uid), Some(version)) = (pipeline.uid(), pipeline.resource_version()) {
            self.written.lock().insert(uid, version);
        }
    }

    /// Whether this pipeline has the resource version of the operator's last write.
    #[must_use]
    pub fn is_last_written(&self, pipeline: &HerdPipeline) -> bool {
        pipeline
            .uid()
            .is_some_and(|uid| self.written.lock().get(&uid) == pipeline.resource_version().as_ref())
    }

    /// Records a pipeline that the watch reported.
    pub fn record_pipeline(&self, pipeline: &HerdPipeline) {
        self.requeue(self.topic_ownership.record(pipeline));
    }

    fn requeue(&self, waiting: Vec<ObjectRef<HerdPipeline>>) {
        waiting.into_iter().for_each(|pipeline| self.scaler.requeue(pipeline));
    }

    /// Removes the pipelines of this namespace (none: of all) whose uids are not among these.
    pub fn retain_pipelines(&self, namespace: Option<&str>, existing: &BTreeSet<String>) {
        let known =
            self.scaler.known_in(namespace).into_iter().chain(self.topic_ownership.known_in(namespace));
        let known: BTreeSet<String> = known.collect();
        for deleted in known.difference(existing) {
            self.remove_pipeline(deleted);
        }
    }

    /// Removes a pipeline that is deleted, and requeues those that may own its topics now.
    pub fn remove_pipeline(&self, uid: &str) {
        self.forget(uid);
        self.requeue(self.topic_ownership.forget(uid));
    }

    /// Forgets the state of a pipeline that is deleted or being deleted.
    pub fn forget(&self, uid: &str) {
        self.object_cache.forget(uid);
        self.written.lock().remove(uid);
        self.scaler.forget(uid);
        self.topics.forget(uid);
        self.field_conflicts.forget(uid);
        self.groups.forget(uid);
        self.pod_templates.forget(uid);
        self.backoff.reset(uid);
        self.metrics.pipelines.forget(uid);
    }
}
