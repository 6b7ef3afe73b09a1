//! The triggers of a reconcile: changes of a pipeline, of its objects and of the Secrets that it references; and scaling decisions.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::ready;
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _, select, select_all};
use herd_spec::pipeline::HerdPipeline;
use herd_spec::plan::Plan;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::controller::{Config, Controller, Error as ControllerError};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::context::Context;
use crate::desired::{MANAGED_BY, MANAGER};
use crate::kind::Kind;
use crate::observe::Rollout;
use crate::reconcile::{after_failure, reconcile};

/// Triggers of a pipeline within this time cause one reconcile: most of them are results of the operator's own writes.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Concurrent reconciles. Each may wait for a Kafka cluster that does not answer.
const CONCURRENCY: u16 = 16;

/// Watches one namespace, or all, and reconciles its pipelines until `stop`; then finishes reconciles in progress.
pub async fn run(namespace: Option<String>, context: Arc<Context>, stop: CancellationToken) {
    let client = context.client.clone();
    let all = watcher::Config::default();
    let namespace = namespace.as_deref();
    let (pipelines, writer) = reflector::store();
    let record = record_pipelines(&context, namespace, pipelines.clone());
    // Managed fields take more memory than the rest of the pipeline, and are not used.
    let pipelines_as_they_change = watcher(api::<HerdPipeline>(&client, namespace), all.clone())
        .modify(|pipeline| pipeline.managed_fields_mut().clear())
        .reflect(writer)
        .inspect_ok(record)
        .applied_objects();
    // Only the metadata of Secrets is watched: a reconcile reads the values that it needs.
    let secrets = api::<PartialObjectMeta<Secret>>(&client, namespace);
    Controller::for_stream(pipelines_as_they_change, pipelines.clone())
        .with_config(Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .watches(secrets, all, move |secret| referencing(&pipelines, &secret))
        .reconcile_on(requeued(&context, namespace))
        .reconcile_on(owners_of_changed_objects(&context, namespace))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, after_failure, context)
        .for_each(|result| async move {
            match result {
                // `after_failure` has logged it.
                Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                Err(error @ ControllerError::ObjectNotFound(_)) => {
                    debug!(%error, "pipeline was deleted meanwhile")
                }
                Err(error) => warn!(%error, "watch interrupted, restarting"),
            }
        })
        .await;
}

/// Records pipelines that are created and deleted. Those without a finalizer are deleted without a reconcile; those that are deleted while
/// the watch is interrupted are missing from its next list.
fn record_pipelines(
    context: &Arc<Context>,
    namespace: Option<&str>,
    pipelines: Store<HerdPipeline>,
) -> impl Fn(&Event<HerdPipeline>) + Send + use<> {
    let (context, namespace) = (Arc::clone(context), namespace.map(str::to_owned));
    move |event| match event {
        Event::Init => {}
        Event::InitApply(pipeline) | Event::Apply(pipeline) => context.record_pipeline(pipeline),
        Event::InitDone => {
            let existing = pipelines.state().iter().filter_map(|pipeline| pipeline.uid()).collect();
            context.retain_pipelines(namespace.as_deref(), &existing);
        }
        Event::Delete(deleted) => {
            if let Some(uid) = deleted.uid() {
                context.remove_pipeline(&uid);
            }
        }
    }
}

/// The pipelines of this namespace (none: of all) whose objects change. Only metadata is watched, except for Deployments, whose status is
/// needed.
fn owners_of_changed_objects(
    context: &Arc<Context>,
    namespace: Option<&str>,
) -> impl Stream<Item = ObjectRef<HerdPipeline>> + Send + use<> {
    let managed = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let others = Kind::BUILT_IN.into_iter().filter(|kind| *kind != Kind::Deployment).map(|kind| {
        let resource = kind.resource();
        let api: Api<PartialObjectMeta<DynamicObject>> = match namespace {
            Some(namespace) => Api::namespaced_with(context.client.clone(), namespace, &resource),
            None => Api::all_with(context.client.clone(), &resource),
        };
        record_change(watcher(api, managed.clone()), kind, context, namespace, |_| None).boxed()
    });
    let deployments = watcher(api::<Deployment>(&context.client, namespace), managed.clone());
    let deployments =
        record_change(deployments, Kind::Deployment, context, namespace, |found| Some(found.into()));
    select(select_all(others), deployments)
}

/// Records the changes that a watch reports, and returns the pipelines that own the objects.
fn record_change<K, N, D>(
    changes: N,
    kind: Kind,
    context: &Arc<Context>,
    namespace: Option<&str>,
    rollout: D,
) -> impl Stream<Item = ObjectRef<HerdPipeline>> + Send + use<K, N, D>
where
    K: ResourceExt + Send + 'static,
    N: Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    D: Fn(K) -> Option<Rollout> + Send + 'static,
{
    let (context, namespace) = (Arc::clone(context), namespace.map(str::to_owned));
    let owners = move |change: watcher::Result<Event<K>>| {
        let cache = &context.object_cache;
        match change {
            Ok(Event::Init) => cache.restart_watch(kind, namespace.as_deref()),
            Ok(Event::InitApply(found) | Event::Apply(found)) => {
                let metadata = found.meta().clone();
                cache.record(kind, &metadata, rollout(found))
            }
            Ok(Event::InitDone) => Vec::new(),
            Ok(Event::Delete(deleted)) => cache.remove(kind, deleted.meta()).into_iter().collect(),
            Err(error) => {
                warn!(%error, kind = kind.name(), "watch interrupted, restarting");
                Vec::new()
            }
        }
    };
    changes.default_backoff().flat_map(move |change| stream::iter(owners(change)))
}

/// The pipelines of this namespace (none: of all) that the scaler requeues.
fn requeued(
    context: &Context,
    namespace: Option<&str>,
) -> impl Stream<Item = ObjectRef<HerdPipeline>> + use<> {
    let namespace = namespace.map(str::to_owned);
    stream::unfold(context.scaler.requeued(), |mut requeued| async move {
        loop {
            match requeued.recv().await {
                Ok(pipeline) => return Some((pipeline, requeued)),
                // The scaler requeues them again after the next poll.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    })
    .filter(move |pipeline| ready(namespace.is_none() || pipeline.namespace == namespace))
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// The pipelines that reference a Secret.
fn referencing(pipelines: &Store<HerdPipeline>, secret: &impl ResourceExt) -> Vec<ObjectRef<HerdPipeline>> {
    let references = |pipeline: &HerdPipeline| {
        pipeline.namespace() == secret.namespace()
            && Plan::parse(pipeline).is_ok_and(|plan| {
                plan.secrets().into_iter().any(|reference| reference.name == secret.name_any())
            })
    };
    let state = pipelines.state();
    state
        .iter()
        .filter(|pipeline| references(pipeline))
        .map(|pipeline| ObjectRef::from_obj(&**pipeline))
        .collect()
}
