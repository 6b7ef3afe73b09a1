//! The state of each stage, by its Deployment and, where it is not ready, its pods.

use std::collections::{BTreeMap, HashMap};

use herd_spec::pipeline::{ScalingMode, StageStatus};
use herd_spec::plan::ScalingPlan;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::apply::Live;
use crate::desired::{PipelineContext, digest, of_pipeline};
use crate::error::Error;
use crate::identity::PipelineIdentity;
use crate::kind::Kind;
use crate::reason::{Failure, Reason};
use crate::stage::{Stage, StageId};

/// The Deployments of a pipeline, by name.
pub type Deployments = BTreeMap<String, Rollout>;

/// The part of a Deployment that its stage's state depends on: small, because the cache keeps it of every Deployment.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    replicas: Option<i32>,
    generation: Option<i64>,
    /// Fingerprint of its pod template.
    template: String,
    /// Whether the change that its controller has not observed yet is of the replicas only.
    only_scaled: bool,
    status: DeploymentStatus,
}

impl Rollout {
    /// Whether its controller has observed its spec.
    fn is_observed(&self) -> bool {
        self.status.observed_generation >= self.generation
    }
}

impl From<Deployment> for Rollout {
    fn from(deployment: Deployment) -> Self {
        let template = deployment.spec.as_ref().and_then(|spec| serde_json::to_vec(&spec.template).ok());
        Self {
            replicas: deployment.spec.and_then(|spec| spec.replicas),
            generation: deployment.metadata.generation,
            template: digest(&template.unwrap_or_default()),
            only_scaled: false,
            status: deployment.status.unwrap_or_default(),
        }
    }
}

/// The pod templates that the Deployment controller has observed, by the pipeline's uid and the Deployment's name. They distinguish a
/// Deployment that was just scaled from one with a new version.
#[derive(Default)]
pub struct PodTemplates(Mutex<HashMap<String, BTreeMap<String, String>>>);

impl PodTemplates {
    /// Records the Deployments of a pipeline, and marks those that were only scaled.
    pub fn mark(&self, uid: &str, deployments: &mut Deployments) {
        let mut all = self.0.lock();
        let known = all.entry(uid.to_owned()).or_default();
        known.retain(|name, _| deployments.contains_key(name));
        for (name, rollout) in deployments {
            if rollout.is_observed() {
                known.insert(name.clone(), rollout.template.clone());
            } else {
                rollout.only_scaled = known.get(name) == Some(&rollout.template);
            }
        }
    }

    /// Forgets a pipeline.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// The observed state of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedStage {
    /// Which stage.
    pub id: StageId,
    /// Its numbers for the status.
    pub status: StageStatus,
    /// Its state.
    pub state: StageState,
}

/// The state of a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum StageState {
    /// All replicas are ready and of the newest version.
    Ready,
    /// At least the minimum is ready, and scaling is adding or removing replicas.
    Scaling(String),
    /// It has no replicas.
    Stopped,
    /// Fewer than the minimum are ready, or some are of an old version.
    Rolling(String),
    /// Its pods, or a service that they need, fail.
    Failing(Failure),
}

impl StageState {
    /// Whether the stage works.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready | Self::Scaling(_) | Self::Stopped)
    }
}

/// The Deployments among the live objects of a pipeline.
#[must_use]
pub fn deployments(live: &Live) -> Deployments {
    let all = live.iter().filter(|((kind, _), _)| *kind == Kind::Deployment);
    let typed = |object| serde_json::to_value(object).and_then(serde_json::from_value::<Deployment>);
    all.filter_map(|((_, name), object)| Some((name.clone(), typed(object).ok()?.into()))).collect()
}

/// The state of each stage, by the Deployments of the pipeline and the failures of its pods, by stage name.
#[must_use]
pub fn stages(
    pipeline: &PipelineContext,
    stages: &[Stage],
    deployments: &Deployments,
    failures: &BTreeMap<String, Failure>,
) -> Vec<ObservedStage> {
    stages.iter().map(|stage| observe(pipeline, stage, deployments, failures)).collect()
}

/// `spec.replicas` of a stage's Deployment; none if it does not exist.
#[must_use]
pub fn replicas(pipeline: &PipelineContext, stage: &StageId, deployments: &Deployments) -> Option<u32> {
    deployments.get(&pipeline.name_of(stage))?.replicas.map(count)
}

/// The pods of a pipeline, from the API server's cache, which may be a moment old.
///
/// # Errors
/// [`Error::Api`].
pub async fn pods(client: &Client, pipeline: &PipelineIdentity) -> Result<Vec<Pod>, Error> {
    let PipelineIdentity { namespace, name, .. } = pipeline;
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = ListParams::default().labels(&of_pipeline(name)).match_any();
    let pods = api.list(&params).await.map_err(Error::api(format!("listing pods of {name}")))?;
    Ok(pods.items)
}

fn observe(
    pipeline: &PipelineContext,
    stage: &Stage,
    deployments: &Deployments,
    failures: &BTreeMap<String, Failure>,
) -> ObservedStage {
    let id = &stage.id;
    let rollout = deployments.get(&pipeline.name_of(id)).cloned().unwrap_or_default();
    let observed = rollout.is_observed() || rollout.only_scaled;
    let Rollout { replicas, status, .. } = rollout;
    let desired = replicas.map_or(0, count);
    let ready = status.ready_replicas.map_or(0, count);
    let updated = status.updated_replicas.map_or(0, count);
    let all = status.replicas.map_or(0, count);
    let condition =
        |kind: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == kind).cloned();
    let failure = failures.get(&id.to_string());
    let failed = condition("ReplicaFailure").filter(|condition| condition.status == "True");
    let stuck = condition("Progressing").filter(|condition| condition.status == "False");
    // Replicas above the minimum are added and removed by scaling: their state does not make the stage fail.
    let scaling = stage.size.scaling.as_ref().map(ScalingPlan::spec);
    let scaling = scaling.filter(|scaling| scaling.mode == ScalingMode::Auto);
    let minimum = scaling.map_or(desired, |scaling| scaling.min.min(desired));
    let enough = ready >= minimum && (desired == 0 || ready > 0) && all == updated;
    let complete = ready >= desired && updated >= desired && all == desired;
    let state = if observed && desired == 0 && all == 0 {
        StageState::Stopped
    } else if let Some(failure) = failure.filter(|failure| is_failing(failure, enough)) {
        StageState::Failing(failure.clone())
    } else if observed && complete {
        StageState::Ready
    } else if observed && enough {
        let cause = failure.map_or_else(String::new, |failure| format!("; {}", failure.message));
        StageState::Scaling(format!("{ready} of {desired} replicas are ready, minimum {minimum}{cause}"))
    } else if let Some(message) = failed.or(stuck).and_then(|condition| condition.message) {
        StageState::Failing(Failure::new(Reason::PodRefused, message))
    } else {
        StageState::Rolling(format!("{ready} of {desired} replicas are ready, {updated} of the new version"))
    };
    ObservedStage {
        id: id.clone(),
        status: StageStatus { name: id.to_string(), desired, ready, ..StageStatus::default() },
        state,
    }
}

/// An unschedulable pod is no failure while enough others are ready: the cluster may have to add a node first.
fn is_failing(failure: &Failure, enough: bool) -> bool {
    !(enough && failure.reason == Reason::Unschedulable)
}

fn count(replicas: i32) -> u32 {
    u32::try_from(replicas).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::PipelineContext;
    use crate::plan;
    use crate::stage::stages as stages_of;
    use herd_spec::health::Trouble;
    use rstest::rstest;
    use serde_json::json;

    /// The state of a detector with these `replicas` (desired, current, updated, ready) and this `detection` spec.
    fn state_of(detection: &str, replicas: [i32; 4], failure: Option<Failure>) -> StageState {
        let yaml = format!(
            "{{apiVersion: herd.dev/v1alpha1, kind: HerdPipeline, metadata: {{name: shop, namespace: demo, uid: u-1}}, spec: {{
                kafka: {{bootstrapServers: ['k:1'], partitions: 4}}, detection: {detection}}}}}"
        );
        let object = serde_yaml::from_str(&yaml).unwrap();
        let plan = plan::of(&object).unwrap();
        let all = stages_of(&plan.plan);
        let detector = all.iter().find(|stage| stage.id == StageId::Detector).unwrap();
        let pipeline = PipelineContext {
            identity: PipelineIdentity::of(&object).unwrap(),
            image: String::new(),
            pull_secrets: Vec::new(),
            ingresses: plan.ingresses.clone(),
            pod_monitors: false,
        };
        let [desired, current, updated, ready] = replicas;
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "shop-detector", "generation": 2},
            "spec": {"replicas": desired, "selector": {}, "template": {}},
            "status": {"observedGeneration": 2, "replicas": current, "updatedReplicas": updated, "readyReplicas": ready},
        }))
        .unwrap();
        let deployments = Deployments::from([("shop-detector".to_owned(), deployment.into())]);
        let failures = failure.map(|failure| ("detector".to_owned(), failure)).into_iter().collect();
        observe(&pipeline, detector, &deployments, &failures).state
    }

    const SCALED: &str = "{scaling: {mode: Auto, min: 1, max: 4}}";

    #[rstest]
    #[case::steady(SCALED, [2, 2, 2, 2], true)]
    #[case::scale_out_begins(SCALED, [4, 1, 1, 1], true)]
    #[case::scale_out(SCALED, [4, 4, 4, 1], true)]
    #[case::scale_in(SCALED, [1, 4, 4, 4], true)]
    #[case::first_pods(SCALED, [1, 1, 1, 0], false)]
    #[case::below_the_minimum("{scaling: {mode: Auto, min: 2, max: 4}}", [4, 4, 4, 1], false)]
    #[case::no_minimum("{scaling: {mode: Auto, min: 0, max: 4}}", [2, 2, 2, 0], false)]
    #[case::a_new_version(SCALED, [2, 3, 1, 2], false)]
    #[case::fixed("{replicas: 3}", [3, 3, 3, 2], false)]
    #[case::only_advised("{replicas: 3, scaling: {mode: Recommend, min: 1, max: 4}}", [3, 3, 3, 2], false)]
    fn stage_is_ready_when_its_minimum_of_replicas_is(
        #[case] detection: &str,
        #[case] replicas: [i32; 4],
        #[case] ready: bool,
    ) {
        let state = state_of(detection, replicas, None);
        assert_eq!(state.is_ready(), ready, "{state:?}");
    }

    #[test]
    fn scaled_deployment_is_distinguished_from_one_with_a_new_version() {
        let deployment = |generation: i64, replicas: i32, image: &str| {
            let deployment: Deployment = serde_json::from_value(json!({
                "metadata": {"name": "d", "generation": generation},
                "spec": {"replicas": replicas, "selector": {}, "template": {"spec": {"containers": [{"name": "worker", "image": image}]}}},
                "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1},
            }))
            .unwrap();
            Deployments::from([("d".to_owned(), deployment.into())])
        };
        let templates = PodTemplates::default();
        let only_scaled = |mut deployments: Deployments| {
            templates.mark("u", &mut deployments);
            deployments["d"].only_scaled
        };
        assert!(!only_scaled(deployment(2, 4, "herd/worker:1")), "the observed template is unknown");
        assert!(!only_scaled(deployment(1, 1, "herd/worker:1")));
        assert!(only_scaled(deployment(2, 4, "herd/worker:1")));
        assert!(!only_scaled(deployment(3, 4, "herd/worker:2")));
    }

    #[rstest]
    #[case::reported_by_its_pods(Reason::Trouble(Trouble::DatabaseUnreachable), [2, 2, 2, 2], false)]
    #[case::a_pod_that_fails(Reason::OomKilled, [4, 4, 4, 2], false)]
    #[case::unschedulable_above_the_minimum(Reason::Unschedulable, [4, 4, 4, 2], true)]
    #[case::unschedulable_below_the_minimum(Reason::Unschedulable, [1, 1, 1, 0], false)]
    fn stage_with_a_failure_is_not_ready(
        #[case] reason: Reason,
        #[case] replicas: [i32; 4],
        #[case] ready: bool,
    ) {
        let state = state_of(SCALED, replicas, Some(Failure::new(reason, "why")));
        assert_eq!(state.is_ready(), ready, "{state:?}");
        assert!(format!("{state:?}").contains("why"), "{state:?}");
    }
}
