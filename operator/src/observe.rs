//! How the stages are, by their Deployments and, where one is not ready, its pods.

use std::collections::BTreeMap;

use herd_spec::pipeline::StageStatus;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::apply::Live;
use crate::desired::{Surroundings, of_pipeline};
use crate::error::Error;
use crate::kind::Kind;
use crate::stage::{Role, Stage};

/// The Deployments of a pipeline, by name.
pub type Deployments = BTreeMap<String, Rollout>;

/// What is looked at of a Deployment: a small part of it, for it is kept of each.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    replicas: Option<i32>,
    generation: Option<i64>,
    status: DeploymentStatus,
}

impl From<Deployment> for Rollout {
    fn from(deployment: Deployment) -> Self {
        Self {
            replicas: deployment.spec.and_then(|spec| spec.replicas),
            generation: deployment.metadata.generation,
            status: deployment.status.unwrap_or_default(),
        }
    }
}

/// A stage as it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct StageSeen {
    /// Which.
    pub role: Role,
    /// Its numbers.
    pub status: StageStatus,
    /// How it is.
    pub state: State,
}

/// How a stage is.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// All pods that are wanted are there, new and ready.
    Ready,
    /// None are wanted.
    Stopped,
    /// Pods are on their way.
    Rolling(String),
    /// Pods do not get ready.
    Failing(String),
}

/// The Deployments among the objects of a pipeline.
#[must_use]
pub fn deployments(live: &Live) -> Deployments {
    let all = live.iter().filter(|((kind, _), _)| *kind == Kind::Deployment);
    let typed = |object| serde_json::to_value(object).and_then(serde_json::from_value::<Deployment>);
    all.filter_map(|((_, name), object)| Some((name.clone(), typed(object).ok()?.into()))).collect()
}

/// How each stage is, by the Deployments of the pipeline and its pods.
#[must_use]
pub fn stages(
    around: &Surroundings,
    stages: &[Stage],
    deployments: &Deployments,
    pods: &[Pod],
) -> Vec<StageSeen> {
    stages.iter().map(|stage| see(around, &stage.role, deployments, pods)).collect()
}

/// The replicas that are asked of a stage's Deployment now.
#[must_use]
pub fn replicas(around: &Surroundings, role: &Role, deployments: &Deployments) -> Option<u32> {
    deployments.get(&around.name_of(role))?.replicas.map(count)
}

/// The pods of a pipeline, as the API server knows them without asking its store: what is a moment old will do.
///
/// # Errors
/// [`Error::Api`].
pub async fn pods(client: &Client, namespace: &str, pipeline: &str) -> Result<Vec<Pod>, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let wanted = ListParams::default().labels(&of_pipeline(pipeline)).match_any();
    let pods = api.list(&wanted).await.map_err(Error::api(format!("listing the pods of {pipeline}")))?;
    Ok(pods.items)
}

fn see(around: &Surroundings, role: &Role, deployments: &Deployments, pods: &[Pod]) -> StageSeen {
    let Rollout { replicas, generation, status } =
        deployments.get(&around.name_of(role)).cloned().unwrap_or_default();
    let desired = replicas.map_or(0, count);
    let ready = status.ready_replicas.map_or(0, count);
    let updated = status.updated_replicas.map_or(0, count);
    let all = status.replicas.map_or(0, count);
    let condition =
        |kind: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == kind).cloned();
    let observed = status.observed_generation >= generation;
    let complaint = || {
        pods.iter()
            .filter(|pod| pod.labels().get("app.kubernetes.io/component") == Some(&role.to_string()))
            .find_map(complaint)
    };
    let failed = condition("ReplicaFailure").filter(|condition| condition.status == "True");
    let stuck = condition("Progressing").filter(|condition| condition.status == "False");
    let state = if observed && desired == 0 && all == 0 {
        State::Stopped
    } else if observed && ready >= desired && updated >= desired && all == desired {
        State::Ready
    } else if let Some(why) = failed.or(stuck).and_then(|condition| condition.message) {
        State::Failing(complaint().unwrap_or(why))
    } else {
        match complaint() {
            Some(why) => State::Failing(why),
            None => State::Rolling(format!("{ready} of {desired} replicas are ready, {updated} of them new")),
        }
    };
    StageSeen {
        role: role.clone(),
        status: StageStatus { name: role.to_string(), desired, ready, ..StageStatus::default() },
        state,
    }
}

/// What keeps a pod from getting ready, if it says so. In words that stay the same while it does: no counts, no pauses.
fn complaint(pod: &Pod) -> Option<String> {
    let (name, status) = (pod.name_any(), pod.status.as_ref()?);
    // Who leaves, or was evicted, is replaced.
    let over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    if over || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        return Some(format!("pod {name}: {}", condition.message.clone().unwrap_or_default()));
    }
    let container = status.container_statuses.iter().flatten().find(|container| !container.ready)?;
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let why = match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName") => {
            Some(format!("the image {} cannot be pulled", container.image))
        }
        None | Some("ContainerCreating" | "PodInitializing" | "CrashLoopBackOff") => {
            ended(container).map(|code| {
                format!("its container ended with exit code {code}: see `kubectl logs --previous {name}`")
            })
        }
        Some(reason) => {
            let message = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
            Some(format!("{reason}: {message}"))
        }
    };
    why.map(|why| format!("pod {name}: {why}"))
}

/// With which code a container ended last.
fn ended(container: &ContainerStatus) -> Option<i32> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    states.into_iter().flatten().find_map(|state| state.terminated.as_ref()).map(|ended| ended.exit_code)
}

fn count(replicas: i32) -> u32 {
    u32::try_from(replicas).unwrap_or(0)
}
