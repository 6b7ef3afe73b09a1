//! What brings a pipeline back to mind: itself, the objects made for it, the Secrets it refers to.

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

/// What happens to a pipeline within this time is seen to at once: most of it is the echo of what we wrote.
const TOGETHER: Duration = Duration::from_millis(200);
/// Pipelines put right at the same time. Each may wait for a Kafka that does not answer.
const AT_ONCE: u16 = 16;

/// Watches one namespace, or all, and puts pipelines right until `stop`; those that are under way are finished.
pub async fn run(namespace: Option<String>, context: Arc<Context>, stop: CancellationToken) {
    let client = context.client.clone();
    let all = watcher::Config::default();
    let namespace = namespace.as_deref();
    let (pipelines, writer) = reflector::store();
    let note = noting(&context, namespace, pipelines.clone());
    // Who set which field takes more room than the pipeline, and is never looked at.
    let pipelines_as_they_change = watcher(api::<HerdPipeline>(&client, namespace), all.clone())
        .modify(|pipeline| pipeline.managed_fields_mut().clear())
        .reflect(writer)
        .inspect_ok(note)
        .applied_objects();
    // Of Secrets only who they are and that they changed: values are read where they are needed.
    let secrets = api::<PartialObjectMeta<Secret>>(&client, namespace);
    Controller::for_stream(pipelines_as_they_change, pipelines.clone())
        .with_config(Config::default().concurrency(AT_ONCE).debounce(TOGETHER))
        .watches(secrets, all, move |secret| referring_to(&pipelines, &secret))
        .reconcile_on(triggers(&context, namespace))
        .reconcile_on(owners(&context, namespace))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, after_failure, context)
        .for_each(|outcome| async move {
            match outcome {
                // Told where it happened.
                Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                Err(error @ ControllerError::ObjectNotFound(_)) => debug!(%error, "gone meanwhile"),
                Err(error) => warn!(%error, "a watch was interrupted and goes on"),
            }
        })
        .await;
}

/// Takes note of pipelines that come and go. Those without a finalizer go without a reconcile, and what goes while nobody watches
/// is missing afterwards.
fn noting(
    context: &Arc<Context>,
    namespace: Option<&str>,
    pipelines: Store<HerdPipeline>,
) -> impl Fn(&Event<HerdPipeline>) + Send + use<> {
    let (context, namespace) = (Arc::clone(context), namespace.map(str::to_owned));
    move |event| match event {
        Event::Init => {}
        Event::InitApply(pipeline) | Event::Apply(pipeline) => context.see(pipeline),
        Event::InitDone => {
            let there = pipelines.state().iter().filter_map(|pipeline| pipeline.uid()).collect();
            context.forget_all_but(namespace.as_deref(), &there);
        }
        Event::Delete(gone) => context.gone(&gone.uid().unwrap_or_default()),
    }
}

/// Pipelines of this namespace (none: of all) whose objects change. Of these only who they are is asked for, and of Deployments
/// how they fare.
fn owners(
    context: &Arc<Context>,
    namespace: Option<&str>,
) -> impl Stream<Item = ObjectRef<HerdPipeline>> + Send + use<> {
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let others = Kind::BUILT_IN.into_iter().filter(|kind| *kind != Kind::Deployment).map(|kind| {
        let resource = kind.resource();
        let api: Api<PartialObjectMeta<DynamicObject>> = match namespace {
            Some(namespace) => Api::namespaced_with(context.client.clone(), namespace, &resource),
            None => Api::all_with(context.client.clone(), &resource),
        };
        told(watcher(api, ours.clone()), kind, context, namespace, |_| None).boxed()
    });
    let deployments = watcher(api::<Deployment>(&context.client, namespace), ours.clone());
    let deployments = told(deployments, Kind::Deployment, context, namespace, |found| Some(found.into()));
    select(select_all(others), deployments)
}

/// Takes note of what a watch says, and passes on whom it concerns.
fn told<K, N, D>(
    news: N,
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
    let concerned = move |news: watcher::Result<Event<K>>| {
        let objects = &context.objects;
        match news {
            Ok(Event::Init) => objects.lose(kind, namespace.as_deref()),
            Ok(Event::InitApply(found) | Event::Apply(found)) => {
                let metadata = found.meta().clone();
                objects.see(kind, &metadata, rollout(found))
            }
            Ok(Event::InitDone) => Vec::new(),
            Ok(Event::Delete(gone)) => objects.miss(kind, gone.meta()).into_iter().collect(),
            Err(error) => {
                warn!(%error, kind = kind.name(), "a watch was interrupted and goes on");
                Vec::new()
            }
        }
    };
    news.default_backoff().flat_map(move |news| stream::iter(concerned(news)))
}

/// Pipelines of this namespace (none: of all) that scaling brings back to mind.
fn triggers(
    context: &Context,
    namespace: Option<&str>,
) -> impl Stream<Item = ObjectRef<HerdPipeline>> + use<> {
    let namespace = namespace.map(str::to_owned);
    stream::unfold(context.scaler.triggers(), |mut triggers| async move {
        loop {
            match triggers.recv().await {
                Ok(pipeline) => return Some((pipeline, triggers)),
                // What was missed comes again.
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

/// The pipelines that refer to a Secret.
fn referring_to(pipelines: &Store<HerdPipeline>, secret: &impl ResourceExt) -> Vec<ObjectRef<HerdPipeline>> {
    let refers = |pipeline: &HerdPipeline| {
        pipeline.namespace() == secret.namespace()
            && Plan::parse(pipeline).is_ok_and(|plan| {
                plan.secrets().into_iter().any(|reference| reference.name == secret.name_any())
            })
    };
    let state = pipelines.state();
    state
        .iter()
        .filter(|pipeline| refers(pipeline))
        .map(|pipeline| ObjectRef::from_obj(&**pipeline))
        .collect()
}
