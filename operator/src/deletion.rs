//! Deletes a pipeline's topics and consumer groups with it, if the deletion policy is `Delete`. Kubernetes deletes the objects through
//! their ownerReferences; topics need a finalizer. It never delays the deletion of a namespace for long: after a minute the topics remain,
//! and an Event names them.

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
use crate::events::EventAction;
use crate::identity::PipelineIdentity;
use crate::kind::Kind;
use crate::reason::Reason;
use crate::{dereference, desired, events, groups, observe, plan};

/// The finalizer's name.
pub const FINALIZER: &str = "herd.dev/topics";
/// How long deleting topics is retried.
const TOPICS_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait for pods to terminate before their topics are deleted.
const PODS_TIMEOUT: Duration = Duration::from_secs(30);

/// Adds or removes the finalizer according to the deletion policy.
///
/// # Errors
/// [`Error::Api`].
pub async fn ensure_finalizer(
    pipeline: &HerdPipeline,
    identity: &PipelineIdentity,
    context: &Context,
) -> Result<(), Error> {
    let policy = pipeline.spec.kafka.as_ref().map(|kafka| kafka.deletion_policy).unwrap_or_default();
    let has = pipeline.finalizers().iter().any(|name| name == FINALIZER);
    match (policy, has) {
        (DeletionPolicy::Delete, false) => {
            let mut finalizers = pipeline.finalizers().to_vec();
            finalizers.push(FINALIZER.into());
            set_finalizers(pipeline, identity, finalizers, context).await
        }
        (DeletionPolicy::Retain, true) => remove_finalizer(pipeline, identity, context).await,
        _ => Ok(()),
    }
}

/// Deletes what belongs to a pipeline that is being deleted since `age`.
///
/// # Errors
/// [`Error::Api`].
pub async fn finish(
    pipeline: &HerdPipeline,
    identity: &PipelineIdentity,
    context: &Context,
    age: Duration,
) -> Result<Action, Error> {
    if !pipeline.finalizers().iter().any(|name| name == FINALIZER) {
        return Ok(Action::await_change());
    }
    delete_deployments(identity, context).await?;
    let pods = observe::pods(&context.client, identity).await?;
    if !pods.is_empty() && age < PODS_TIMEOUT {
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    match delete_topics(pipeline, identity, context).await {
        Ok(deleted) => info!(?deleted, "topics deleted"),
        Err(why) if age < TOPICS_TIMEOUT => {
            warn!(error = why, "deleting topics failed, retrying");
            return Ok(Action::requeue(Duration::from_secs(5)));
        }
        Err(why) => report_remaining(pipeline, identity, &why, context).await,
    }
    remove_finalizer(pipeline, identity, context).await?;
    Ok(Action::await_change())
}

/// Reports topics and groups that remain in Kafka: in an Event of the pipeline, or of its namespace if that is being deleted too; and in
/// the log and the metrics in any case.
async fn report_remaining(
    pipeline: &HerdPipeline,
    identity: &PipelineIdentity,
    why: &str,
    context: &Context,
) {
    let (topics, groups) = created_in_kafka(pipeline);
    let all: Vec<&str> = topics.iter().chain(&groups).map(String::as_str).collect();
    let servers = pipeline.spec.kafka.iter().flat_map(|kafka| &kafka.bootstrap_servers);
    let note = format!(
        "topics and consumer groups remain in Kafka at {}, because deleting them failed for {} s: {why}. Delete them manually: {}",
        servers.map(String::as_str).collect::<Vec<_>>().join(", "),
        TOPICS_TIMEOUT.as_secs(),
        all.join(", "),
    );
    warn!(topics = ?topics, groups = ?groups, "{note}");
    context.metrics.remaining(all.len());
    let event = events::event(EventType::Warning, Reason::TopicsLeft.name(), EventAction::Delete, note);
    if !context.publish(pipeline, &event).await {
        context.publish_of_namespace(&identity.namespace, &event).await;
    }
}

/// The topics of a pipeline that the operator created, and its consumer groups.
fn created_in_kafka(pipeline: &HerdPipeline) -> (Vec<String>, BTreeSet<String>) {
    let topics = pipeline.status.iter().flat_map(|status| &status.topics);
    let topics: Vec<String> = topics.filter(|topic| topic.created).map(|topic| topic.name.clone()).collect();
    // If the status has no topic, Kafka was never reached.
    let plan =
        plan::of(pipeline).ok().filter(|_| pipeline.status.iter().any(|status| !status.topics.is_empty()));
    let groups = plan.map(|plan| {
        let mut groups = groups::of_plan(&plan.plan);
        groups.extend(groups::of_removed_sinks(pipeline, &plan.plan));
        groups
    });
    (topics, groups.unwrap_or_default())
}

/// Deletes the pods that use the topics.
async fn delete_deployments(identity: &PipelineIdentity, context: &Context) -> Result<(), Error> {
    let resource = Kind::Deployment.resource();
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &identity.namespace, &resource);
    let params = ListParams::default().labels(&desired::of_pipeline(&identity.name));
    let doing = format!("listing Deployments of {}", identity.name);
    let live = api.list(&params).await.map_err(Error::api(doing))?;
    for deployment in live.iter().filter(|live| live.metadata.deletion_timestamp.is_none()) {
        let name = deployment.name_any();
        context.metrics.write(Kind::Deployment.name(), "delete");
        match api.delete(&name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(Error::api(format!("deleting Deployment {name}"))(error)),
        }
    }
    Ok(())
}

/// Deletes the topics that the operator created, no others, and the pipeline's consumer groups. The error is a message, because nothing
/// depends on its kind.
async fn delete_topics(
    pipeline: &HerdPipeline,
    identity: &PipelineIdentity,
    context: &Context,
) -> Result<Vec<String>, String> {
    let (topics, groups) = created_in_kafka(pipeline);
    if topics.is_empty() && groups.is_empty() {
        return Ok(topics);
    }
    let plan = plan::of(pipeline).map_err(|error| error.to_string())?;
    // Only those for Kafka: others may be deleted already, together with the pipeline.
    let secrets = dereference::read(&context.client, &identity.namespace, &plan.kafka.secrets()).await;
    let secrets = secrets.map_err(|error| error.to_string())?;
    let connection =
        context.kafka_clients.connect(&plan.kafka, &secrets).map_err(|error| error.to_string())?;
    let bus = connection.bus;
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

async fn remove_finalizer(
    pipeline: &HerdPipeline,
    identity: &PipelineIdentity,
    context: &Context,
) -> Result<(), Error> {
    let others = pipeline.finalizers().iter().filter(|name| *name != FINALIZER).cloned().collect();
    set_finalizers(pipeline, identity, others, context).await
}

async fn set_finalizers(
    pipeline: &HerdPipeline,
    identity: &PipelineIdentity,
    finalizers: Vec<String>,
    context: &Context,
) -> Result<(), Error> {
    let api: Api<HerdPipeline> = Api::namespaced(context.client.clone(), &identity.namespace);
    // With the resource version of the list that was read, so that the finalizer of another controller is not lost.
    let patch = json!({"metadata": {
        "finalizers": finalizers,
        "resourceVersion": pipeline.resource_version(),
    }});
    context.metrics.write("HerdPipeline", "finalizers");
    match api.patch(&identity.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Error::api("setting the finalizers")(error)),
    }
}
