//! The end of a pipeline whose topics and consumer groups are to be deleted with it. Objects go by themselves, through their ownerReferences; topics
//! need a finalizer. It never holds a namespace for long: after a minute the topics stay, and an Event says so.

use std::collections::BTreeSet;
use std::time::Duration;

use herd_spec::pipeline::{DeletionPolicy, HerdPipeline};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use serde_json::json;
use tracing::{info, warn};

use crate::context::Context;
use crate::error::Error;
use crate::kind::Kind;
use crate::{dereference, desired, events, groups, observe, plan};

/// The finalizer's name.
pub const FINALIZER: &str = "herd.dev/topics";
/// How long Kafka is asked to delete topics before they are left.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long pods may take to go before the topics go under them.
const PODS: Duration = Duration::from_secs(30);

/// Adds or removes the finalizer, as the deletion policy asks.
///
/// # Errors
/// [`Error::Api`].
pub async fn prepare(pipeline: &HerdPipeline, context: &Context) -> Result<(), Error> {
    let policy = pipeline.spec.kafka.as_ref().map(|kafka| kafka.deletion_policy).unwrap_or_default();
    let has = pipeline.finalizers().iter().any(|name| name == FINALIZER);
    match (policy, has) {
        (DeletionPolicy::Delete, false) => {
            let mut finalizers = pipeline.finalizers().to_vec();
            finalizers.push(FINALIZER.into());
            set(pipeline, finalizers, context).await
        }
        (DeletionPolicy::Retain, true) => release(pipeline, context).await,
        _ => Ok(()),
    }
}

/// Does what is left to do for a pipeline that is being deleted. `age` is how long it has been so.
///
/// # Errors
/// [`Error::Api`].
pub async fn finish(pipeline: &HerdPipeline, context: &Context, age: Duration) -> Result<Action, Error> {
    if !pipeline.finalizers().iter().any(|name| name == FINALIZER) {
        return Ok(Action::await_change());
    }
    let (namespace, name) = (pipeline.namespace().unwrap_or_default(), pipeline.name_any());
    remove_deployments(&namespace, &name, context).await?;
    let pods = observe::pods(&context.client, &namespace, &name).await?;
    if !pods.is_empty() && age < PODS {
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    match delete_topics(pipeline, &namespace, context).await {
        Ok(deleted) => info!(?deleted, "topics deleted"),
        Err(why) if age < PATIENCE => {
            warn!(why, "topics cannot be deleted yet");
            return Ok(Action::requeue(Duration::from_secs(5)));
        }
        Err(why) => tell_what_stays(pipeline, &namespace, &why, context).await,
    }
    release(pipeline, context).await?;
    Ok(Action::await_change())
}

/// Says that topics and groups stay where it can be read: at the pipeline; or, in a namespace that is being deleted itself, at that
/// namespace. And in the log and the metrics in any case.
async fn tell_what_stays(pipeline: &HerdPipeline, namespace: &str, why: &str, context: &Context) {
    let (topics, groups) = ours(pipeline);
    let all: Vec<&str> = topics.iter().chain(&groups).map(String::as_str).collect();
    let servers = pipeline.spec.kafka.iter().flat_map(|kafka| &kafka.bootstrap_servers);
    let note = format!(
        "the topics stay in Kafka at {}, for they could not be deleted within {} s: {why}. Delete them by hand, with their consumer groups: {}",
        servers.map(String::as_str).collect::<Vec<_>>().join(", "),
        PATIENCE.as_secs(),
        all.join(", "),
    );
    warn!(topics = ?topics, groups = ?groups, "{note}");
    context.metrics.left(all.len());
    let event = events::event(EventType::Warning, "TopicsLeft", "Delete", note);
    if !context.tell(pipeline, &event).await {
        context.tell_of_namespace(namespace, &event).await;
    }
}

/// The topics of a pipeline that we created, and its consumer groups.
fn ours(pipeline: &HerdPipeline) -> (Vec<String>, BTreeSet<String>) {
    let topics = pipeline.status.iter().flat_map(|status| &status.topics);
    let topics: Vec<String> = topics.filter(|topic| topic.created).map(|topic| topic.name.clone()).collect();
    // Where no topic is known, Kafka has never been reached.
    let plan =
        plan::of(pipeline).ok().filter(|_| pipeline.status.iter().any(|status| !status.topics.is_empty()));
    let groups = plan.map(|plan| {
        let mut groups = groups::of_plan(&plan.plan);
        groups.extend(groups::of_removed_sinks(pipeline, &plan.plan));
        groups
    });
    (topics, groups.unwrap_or_default())
}

/// Pods that work on the topics go first.
async fn remove_deployments(namespace: &str, name: &str, context: &Context) -> Result<(), Error> {
    let resource = Kind::Deployment.resource();
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    let ours = ListParams::default().labels(&desired::of_pipeline(name));
    let there = api.list(&ours).await.map_err(Error::api(format!("listing Deployments of {name}")))?;
    for deployment in there.iter().filter(|there| there.metadata.deletion_timestamp.is_none()) {
        let name = deployment.name_any();
        context.metrics.write(Kind::Deployment.name(), "delete");
        match api.delete(&name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(Error::api(format!("removing Deployment {name}"))(error)),
        }
    }
    Ok(())
}

/// Deletes the topics that we created, and no others, and the pipeline's consumer groups. An error is told in words: it decides
/// nothing.
async fn delete_topics(
    pipeline: &HerdPipeline,
    namespace: &str,
    context: &Context,
) -> Result<Vec<String>, String> {
    let (topics, groups) = ours(pipeline);
    if topics.is_empty() && groups.is_empty() {
        return Ok(topics);
    }
    let plan = plan::of(pipeline).map_err(|error| error.to_string())?;
    // Others may be gone already: a folder is deleted as a whole.
    let secrets = dereference::read(&context.client, namespace, &plan.kafka.secrets()).await;
    let secrets = secrets.map_err(|error| error.to_string())?;
    let (bus, _) = context.clusters.connect(&plan.kafka, &secrets).map_err(|error| error.to_string())?;
    let names = topics.clone();
    let deletion = tokio::task::spawn_blocking(move || {
        herd_bus::Bus::ping(&bus, Duration::from_secs(5))?;
        bus.delete_topics(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        groups::delete(&bus, &groups)
    });
    match deletion.await {
        Ok(Ok(left)) if left.is_empty() => Ok(topics),
        Ok(Ok(left)) => {
            let left = left.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(format!("the consumer groups {left} still have members"))
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn release(pipeline: &HerdPipeline, context: &Context) -> Result<(), Error> {
    let others = pipeline.finalizers().iter().filter(|name| *name != FINALIZER).cloned().collect();
    set(pipeline, others, context).await
}

async fn set(pipeline: &HerdPipeline, finalizers: Vec<String>, context: &Context) -> Result<(), Error> {
    let namespace = pipeline.namespace().unwrap_or_default();
    let api: Api<HerdPipeline> = Api::namespaced(context.client.clone(), &namespace);
    // With the version that we saw: another's finalizer is not lost.
    let patch = json!({"metadata": {
        "finalizers": finalizers,
        "resourceVersion": pipeline.resource_version(),
    }});
    context.metrics.write("HerdPipeline", "finalizers");
    match api.patch(&pipeline.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Error::api("setting the finalizers")(error)),
    }
}
