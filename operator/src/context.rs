//! What reconciles share.

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

use crate::backoff::Failures;
use crate::claims::Claims;
use crate::contest::Contests;
use crate::groups::Groups;
use crate::kind::Kind;
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::observe::Templates;
use crate::scaling::Scaler;
use crate::tell::Teller;
use crate::topics::{Clusters, Keeper};

/// How often it is looked for kinds that may be added to the cluster.
const LOOK: Duration = Duration::from_secs(300);

/// What reconciles share.
pub struct Context {
    /// The way to the API server.
    pub client: Client,
    /// The image of the workers.
    pub image: String,
    /// Names of Secrets in a pipeline's namespace for pulling it.
    pub pull_secrets: Vec<String>,
    /// Decides about replicas.
    pub scaler: Arc<Scaler>,
    /// Connections to Kafka.
    pub clusters: Clusters,
    /// What is known of objects.
    pub objects: Objects,
    /// What is known of topics.
    pub topics: Keeper,
    /// Whose topics are whose.
    pub claims: Claims,
    /// Who else sets fields of our objects.
    pub contests: Arc<Contests>,
    /// Which pods Deployments make.
    pub templates: Templates,
    /// Consumer groups that are to be deleted.
    pub groups: Groups,
    /// Failures in a row.
    pub failures: Failures,
    /// Counts.
    pub metrics: Metrics,
    teller: Teller,
    /// The version of each pipeline, by uid, as we wrote it last.
    written: Mutex<HashMap<String, String>>,
    pod_monitors: Mutex<Option<(bool, Instant)>>,
}

impl Context {
    /// A context without memories.
    #[must_use]
    pub fn new(client: Client, image: String, scaler: Arc<Scaler>, teller: Teller, metrics: Metrics) -> Self {
        Self {
            client,
            image,
            pull_secrets: Vec::new(),
            scaler,
            teller,
            metrics,
            written: Mutex::default(),
            clusters: Clusters::default(),
            objects: Objects::default(),
            topics: Keeper::default(),
            claims: Claims::default(),
            contests: Arc::default(),
            templates: Templates::default(),
            groups: Groups::default(),
            failures: Failures::default(),
            pod_monitors: Mutex::default(),
        }
    }

    /// The kinds of objects that this cluster has, of those that a pipeline is made of.
    pub async fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Kind::BUILT_IN.to_vec();
        if self.knows_pod_monitors().await {
            kinds.push(Kind::PodMonitor);
        }
        kinds
    }

    async fn knows_pod_monitors(&self) -> bool {
        let known = *self.pod_monitors.lock();
        if let Some((known, at)) = known
            && at.elapsed() < LOOK
        {
            return known;
        }
        let group = Kind::PodMonitor.resource().api_version;
        // A group that is not there is an error to the client, and an answer to us.
        let known = self.client.list_api_group_resources(&group).await.is_ok_and(|list| {
            list.resources.iter().any(|resource| resource.name == Kind::PodMonitor.resource().plural)
        });
        *self.pod_monitors.lock() = Some((known, Instant::now()));
        known
    }

    /// Tells an Event of a pipeline. That it could not be told stops nothing. True: it is told.
    pub async fn tell(&self, pipeline: &HerdPipeline, event: &Event) -> bool {
        self.tell_of(&pipeline.object_ref(&()), event).await
    }

    /// Tells an Event of a pipeline's namespace, which is written in `default`: in a namespace that is being deleted nothing can be
    /// written any more.
    pub async fn tell_of_namespace(&self, namespace: &str, event: &Event) -> bool {
        let regarding = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Namespace".into()),
            name: Some(namespace.into()),
            ..ObjectReference::default()
        };
        self.tell_of(&regarding, event).await
    }

    async fn tell_of(&self, regarding: &ObjectReference, event: &Event) -> bool {
        match self.teller.tell(regarding, event).await {
            Ok(true) => self.metrics.write("Event", "create"),
            Ok(false) => {}
            Err(error) => {
                warn!(%error, reason = event.reason, "an Event could not be written");
                return false;
            }
        }
        true
    }

    /// Takes note of the version that a pipeline has by our own writing.
    pub fn wrote(&self, pipeline: &HerdPipeline) {
        if let (Some(uid), Some(version)) = (pipeline.uid(), pipeline.resource_version()) {
            self.written.lock().insert(uid, version);
        }
    }

    /// Whether this pipeline is just as we wrote it last.
    #[must_use]
    pub fn is_as_written(&self, pipeline: &HerdPipeline) -> bool {
        pipeline
            .uid()
            .is_some_and(|uid| self.written.lock().get(&uid) == pipeline.resource_version().as_ref())
    }

    /// Takes note of a pipeline as a watch brings it.
    pub fn see(&self, pipeline: &HerdPipeline) {
        self.remind(self.claims.see(pipeline));
    }

    fn remind(&self, waiting: Vec<ObjectRef<HerdPipeline>>) {
        waiting.into_iter().for_each(|pipeline| self.scaler.remind(pipeline));
    }

    /// Forgets pipelines of this namespace (none: of all) that are not among these any more.
    pub fn forget_all_but(&self, namespace: Option<&str>, there: &BTreeSet<String>) {
        let known = self.scaler.known_in(namespace).into_iter().chain(self.claims.known_in(namespace));
        let known: BTreeSet<String> = known.collect();
        for gone in known.difference(there) {
            self.gone(gone);
        }
    }

    /// A pipeline is gone.
    pub fn gone(&self, uid: &str) {
        self.forget(uid);
        self.remind(self.claims.forget(uid));
    }

    /// Forgets a pipeline that is gone or going.
    pub fn forget(&self, uid: &str) {
        self.objects.forget(uid);
        self.written.lock().remove(uid);
        self.scaler.forget(uid);
        self.topics.forget(uid);
        self.contests.forget(uid);
        self.groups.forget(uid);
        self.templates.forget(uid);
        self.failures.forget(uid);
    }
}
