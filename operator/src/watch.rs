//! What brings a pipeline back to mind: itself, the objects made for it, the Secrets it refers to.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::ready;
use futures_util::stream::{self, Stream, StreamExt as _};
use herd_spec::pipeline::HerdPipeline;
use herd_spec::plan::Plan;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Config, Controller, Error as ControllerError};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::context::Context;
use crate::desired::{MANAGED_BY, MANAGER};
use crate::reconcile::{after_failure, reconcile};

/// What happens to a pipeline within this time is seen to at once: most of it is the echo of what we wrote.
const TOGETHER: Duration = Duration::from_millis(200);
/// Pipelines put right at the same time. Each may wait for a Kafka that does not answer.
const AT_ONCE: u16 = 32;

/// Watches one namespace, or all, and puts pipelines right until `stop`; those that are under way are finished.
pub async fn run(namespace: Option<String>, context: Arc<Context>, stop: CancellationToken) {
    let client = context.client.clone();
    let all = watcher::Config::default();
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let namespace = namespace.as_deref();
    let controller = Controller::new(api::<HerdPipeline>(&client, namespace), all.clone());
    let pipelines = controller.store();
    // Of Secrets only who they are and that they changed: values are read where they are needed.
    let secrets = api::<PartialObjectMeta<Secret>>(&client, namespace);
    controller
        .with_config(Config::default().concurrency(AT_ONCE).debounce(TOGETHER))
        .owns(api::<Deployment>(&client, namespace), ours.clone())
        .owns(api::<Service>(&client, namespace), ours.clone())
        .owns(api::<ServiceAccount>(&client, namespace), ours.clone())
        .owns(api::<ConfigMap>(&client, namespace), ours.clone())
        .owns(api::<PodDisruptionBudget>(&client, namespace), ours.clone())
        .owns(api::<Ingress>(&client, namespace), ours.clone())
        .owns(api::<NetworkPolicy>(&client, namespace), ours)
        .watches(secrets, all, move |secret| referring_to(&pipelines, &secret))
        .reconcile_on(triggers(&context, namespace))
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
            && Plan::of(pipeline).is_ok_and(|plan| {
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
