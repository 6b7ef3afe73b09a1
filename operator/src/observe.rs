//! How the stages are, by their Deployments and, where one is not ready, its pods.

use std::collections::{BTreeMap, HashMap};

use herd_spec::pipeline::{ScalingMode, StageStatus};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::apply::Live;
use crate::desired::{Surroundings, digest, of_pipeline};
use crate::error::Error;
use crate::kind::Kind;
use crate::reason::{Reason, Trouble};
use crate::stage::{Role, Stage};

/// The Deployments of a pipeline, by name.
pub type Deployments = BTreeMap<String, Rollout>;

/// What is looked at of a Deployment: a small part of it, for it is kept of each.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    replicas: Option<i32>,
    generation: Option<i64>,
    /// What stands for the template of its pods.
    template: String,
    /// Whether its controller has only replicas to change that it has not seen yet.
    only_scaled: bool,
    status: DeploymentStatus,
}

impl Rollout {
    /// Whether its controller has seen what is asked for.
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

/// The templates of pods that the controller of Deployments has seen, by the pipeline's uid and the Deployment's name: without them
/// one that was just scaled would look like one with a new version.
#[derive(Default)]
pub struct Templates(Mutex<HashMap<String, BTreeMap<String, String>>>);

impl Templates {
    /// Takes note of the Deployments of a pipeline as they are, and marks those that were only scaled.
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
    /// As many as there must be at least are ready, and scaling asks for more, or for fewer.
    Scaling(String),
    /// None are wanted.
    Stopped,
    /// Fewer than there must be at least are ready, or some are old.
    Rolling(String),
    /// Something is wrong with its pods, or with what they need.
    Failing(Trouble),
}

impl State {
    /// Whether the stage does its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready | Self::Scaling(_) | Self::Stopped)
    }
}

/// The Deployments among the objects of a pipeline.
#[must_use]
pub fn deployments(live: &Live) -> Deployments {
    let all = live.iter().filter(|((kind, _), _)| *kind == Kind::Deployment);
    let typed = |object| serde_json::to_value(object).and_then(serde_json::from_value::<Deployment>);
    all.filter_map(|((_, name), object)| Some((name.clone(), typed(object).ok()?.into()))).collect()
}

/// How each stage is, by the Deployments of the pipeline and what is wrong with its pods (`troubles`, by the stage's name).
#[must_use]
pub fn stages(
    around: &Surroundings,
    stages: &[Stage],
    deployments: &Deployments,
    troubles: &BTreeMap<String, Trouble>,
) -> Vec<StageSeen> {
    stages.iter().map(|stage| see(around, stage, deployments, troubles)).collect()
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

fn see(
    around: &Surroundings,
    stage: &Stage,
    deployments: &Deployments,
    troubles: &BTreeMap<String, Trouble>,
) -> StageSeen {
    let role = &stage.role;
    let rollout = deployments.get(&around.name_of(role)).cloned().unwrap_or_default();
    let observed = rollout.is_observed() || rollout.only_scaled;
    let Rollout { replicas, status, .. } = rollout;
    let desired = replicas.map_or(0, count);
    let ready = status.ready_replicas.map_or(0, count);
    let updated = status.updated_replicas.map_or(0, count);
    let all = status.replicas.map_or(0, count);
    let condition =
        |kind: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == kind).cloned();
    let trouble = troubles.get(&role.to_string());
    let failed = condition("ReplicaFailure").filter(|condition| condition.status == "True");
    let stuck = condition("Progressing").filter(|condition| condition.status == "False");
    // More are a matter of scaling: they come and go without anything being amiss.
    let scaling = stage.size.scaling.as_ref().filter(|scaling| scaling.mode == ScalingMode::Auto);
    let least = scaling.map_or(desired, |scaling| scaling.min.min(desired));
    let enough = ready >= least && (desired == 0 || ready > 0) && all == updated;
    let complete = ready >= desired && updated >= desired && all == desired;
    let state = if observed && desired == 0 && all == 0 {
        State::Stopped
    } else if let Some(trouble) = trouble.filter(|trouble| is_failing(trouble, enough)) {
        State::Failing(trouble.clone())
    } else if observed && complete {
        State::Ready
    } else if observed && enough {
        let why = trouble.map_or_else(String::new, |trouble| format!("; {}", trouble.message));
        State::Scaling(format!("{ready} of {desired} replicas are ready, at least {least} must be{why}"))
    } else if let Some(why) = failed.or(stuck).and_then(|condition| condition.message) {
        State::Failing(Trouble::new(Reason::PodRefused, why))
    } else {
        State::Rolling(format!("{ready} of {desired} replicas are ready, {updated} of them new"))
    };
    StageSeen {
        role: role.clone(),
        status: StageStatus { name: role.to_string(), desired, ready, ..StageStatus::default() },
        state,
    }
}

/// A pod for which there is no room yet is no failure while enough others are ready: a cluster may have to grow first.
fn is_failing(trouble: &Trouble, enough: bool) -> bool {
    !(enough && trouble.reason == Reason::Unschedulable)
}

fn count(replicas: i32) -> u32 {
    u32::try_from(replicas).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Surroundings;
    use crate::plan;
    use crate::stage::stages as stages_of;
    use rstest::rstest;
    use serde_json::json;

    /// How a detector is that runs `replicas` (desired, there, new, ready), whose `detection` is this.
    fn seen(detection: &str, replicas: [i32; 4], trouble: Option<Trouble>) -> State {
        let yaml = format!(
            "{{apiVersion: herd.dev/v1alpha1, kind: HerdPipeline, metadata: {{name: shop, namespace: demo}}, spec: {{
                kafka: {{bootstrapServers: ['k:1'], partitions: 4}}, detection: {detection}}}}}"
        );
        let plan = plan::of(&serde_yaml::from_str(&yaml).unwrap()).unwrap();
        let all = stages_of(&plan.plan);
        let detector = all.iter().find(|stage| stage.role == Role::Detector).unwrap();
        let around = Surroundings {
            pipeline: "shop".into(),
            namespace: "demo".into(),
            owner: Default::default(),
            image: String::new(),
            pull_secrets: Vec::new(),
            doors: plan.doors.clone(),
            pod_monitors: false,
        };
        let [desired, there, new, ready] = replicas;
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "shop-detector", "generation": 2},
            "spec": {"replicas": desired, "selector": {}, "template": {}},
            "status": {"observedGeneration": 2, "replicas": there, "updatedReplicas": new, "readyReplicas": ready},
        }))
        .unwrap();
        let deployments = Deployments::from([("shop-detector".to_owned(), deployment.into())]);
        let troubles = trouble.map(|trouble| ("detector".to_owned(), trouble)).into_iter().collect();
        see(&around, detector, &deployments, &troubles).state
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
    fn the_minimum_that_is_asked_for_decides_whether_a_stage_is_ready(
        #[case] detection: &str,
        #[case] replicas: [i32; 4],
        #[case] ready: bool,
    ) {
        let state = seen(detection, replicas, None);
        assert_eq!(state.is_ready(), ready, "{state:?}");
    }

    #[test]
    fn a_deployment_that_was_only_scaled_is_told_from_one_with_a_new_version() {
        let deployment = |generation: i64, replicas: i32, image: &str| {
            let deployment: Deployment = serde_json::from_value(json!({
                "metadata": {"name": "d", "generation": generation},
                "spec": {"replicas": replicas, "selector": {}, "template": {"spec": {"containers": [{"name": "worker", "image": image}]}}},
                "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1},
            }))
            .unwrap();
            Deployments::from([("d".to_owned(), deployment.into())])
        };
        let templates = Templates::default();
        let only_scaled = |mut deployments: Deployments| {
            templates.mark("u", &mut deployments);
            deployments["d"].only_scaled
        };
        assert!(!only_scaled(deployment(2, 4, "herd/worker:1")), "nobody knows the template before");
        assert!(!only_scaled(deployment(1, 1, "herd/worker:1")));
        assert!(only_scaled(deployment(2, 4, "herd/worker:1")));
        assert!(!only_scaled(deployment(3, 4, "herd/worker:2")));
    }

    #[rstest]
    #[case::what_its_pods_report(Reason::DatabaseUnreachable, [2, 2, 2, 2], false)]
    #[case::a_pod_that_fails(Reason::OomKilled, [4, 4, 4, 2], false)]
    #[case::no_room_yet_for_more(Reason::Unschedulable, [4, 4, 4, 2], true)]
    #[case::no_room_for_the_first(Reason::Unschedulable, [1, 1, 1, 0], false)]
    fn a_stage_with_a_trouble_is_not_ready(
        #[case] reason: Reason,
        #[case] replicas: [i32; 4],
        #[case] ready: bool,
    ) {
        let state = seen(SCALED, replicas, Some(Trouble::new(reason, "why")));
        assert_eq!(state.is_ready(), ready, "{state:?}");
        assert!(format!("{state:?}").contains("why"), "{state:?}");
    }
}
