//! The stages of a plan as the operator runs them: each becomes a Deployment with what belongs to it.

use std::collections::BTreeMap;

use herd_spec::pipeline::{DeletionPolicy, ResourcesSpec, SecretRef};
pub use herd_spec::plan::StageId as Role;
use herd_spec::plan::{Plan, StagePlan};

/// One stage of a plan.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Which.
    pub role: Role,
    /// How many, how large.
    pub size: StagePlan,
    /// The Secrets it reads.
    pub secrets: Vec<SecretRef>,
    /// What of the plan it works by. A change of anything else must not restart it.
    pub plan: Plan,
}

/// All stages of a plan, in the way of the data.
#[must_use]
pub fn stages(plan: &Plan) -> Vec<Stage> {
    let mut stages = vec![
        Stage::of(Role::Collector, &plan.collector.stage, plan, for_collector(plan)),
        Stage::of(Role::Detector, &plan.detection, plan, for_detector(plan)),
    ];
    stages.extend(
        plan.sinks.iter().map(|sink| {
            Stage::of(Role::Sink(sink.name.clone()), &sink.stage, plan, for_sink(plan, &sink.name))
        }),
    );
    stages.push(Stage::of(Role::Api, &plan.api.stage, plan, for_api(plan)));
    stages
}

impl Stage {
    fn of(role: Role, size: &StagePlan, whole: &Plan, plan: Plan) -> Self {
        let mut secrets: Vec<SecretRef> = whole.stage_secrets(&role).into_iter().cloned().collect();
        secrets.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
        secrets.dedup();
        Self { role, size: size.clone(), secrets, plan }
    }
}

fn for_collector(plan: &Plan) -> Plan {
    let mut plan = bare(plan);
    plan.paused = false;
    plan.metrics.clear();
    plan.detectors.clear();
    plan.sinks.clear();
    plan
}

fn for_detector(plan: &Plan) -> Plan {
    let mut plan = bare(plan);
    plan.paused = false;
    plan.collector.keys.clear();
    plan.sinks.clear();
    plan
}

fn for_sink(plan: &Plan, name: &str) -> Plan {
    let mut plan = bare(plan);
    plan.paused = false;
    plan.collector.keys.clear();
    plan.metrics.clear();
    plan.detectors.clear();
    plan.sinks.retain(|sink| sink.name == name);
    plan
}

/// The api shows the whole pipeline, and whether it is paused.
fn for_api(plan: &Plan) -> Plan {
    bare(plan)
}

/// Without what only the operator reads: sizes of stages, settings of topics.
fn bare(plan: &Plan) -> Plan {
    let one = StagePlan { replicas: 1, scaling: None, resources: ResourcesSpec::default() };
    let mut plan = plan.clone();
    plan.collector.stage = one.clone();
    plan.detection = one.clone();
    plan.api.stage = one.clone();
    for sink in &mut plan.sinks {
        sink.stage = one.clone();
    }
    if let Some(kafka) = &mut plan.kafka {
        kafka.deletion_policy = DeletionPolicy::Retain;
    }
    let topics = &mut plan.topics;
    for topic in [
        &mut topics.events,
        &mut topics.parts,
        &mut topics.windows,
        &mut topics.alerts,
        &mut topics.dead_letter,
        &mut topics.baselines,
    ] {
        topic.partitions = 1;
        topic.replication = 1;
        topic.config = BTreeMap::new();
    }
    plan
}
