//! The stages of a plan as the operator runs them: each becomes a Deployment with its accompanying objects.

use std::collections::BTreeMap;
use std::fmt;

use herd_spec::pipeline::{DeletionPolicy, ResourcesSpec, SecretRef};
use herd_spec::plan::{Plan, StagePlan};

/// Identifies a stage of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StageId {
    /// Receives events over HTTP.
    Collector,
    /// Counts events and detects anomalies.
    Detector,
    /// Writes to the store or receiver of this name.
    Sink(String),
    /// Serves REST, WebSocket and the dashboard.
    Api,
}

impl StageId {
    /// Whether it serves clients: such a stage has a Service.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self, Self::Collector | Self::Api)
    }

    /// Whether `spec.paused` stops it.
    #[must_use]
    pub fn pauses(&self) -> bool {
        matches!(self, Self::Detector | Self::Sink(_))
    }
}

/// The component's name: `collector`, `detector`, `sink-<name>`, `api`.
impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collector => f.write_str("collector"),
            Self::Detector => f.write_str("detector"),
            Self::Sink(name) => write!(f, "sink-{name}"),
            Self::Api => f.write_str("api"),
        }
    }
}

/// One stage of a plan.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Which stage.
    pub id: StageId,
    /// Its replicas, scaling and resources.
    pub size: StagePlan,
    /// The Secrets it reads.
    pub secrets: Vec<SecretRef>,
    /// The part of the plan that it reads. A change of any other part must not restart it.
    pub plan: Plan,
}

/// All stages of a plan, in the order of the data flow.
#[must_use]
pub fn stages(plan: &Plan) -> Vec<Stage> {
    let kafka = || plan.kafka.iter().flat_map(|kafka| kafka.secrets()).cloned();
    let mut stages = vec![
        Stage {
            id: StageId::Collector,
            size: plan.collector.stage.clone(),
            secrets: kafka().chain(plan.collector.keys.iter().map(|key| key.secret.clone())).collect(),
            plan: for_collector(plan),
        },
        Stage {
            id: StageId::Detector,
            size: plan.detection.clone(),
            secrets: kafka().collect(),
            plan: for_detector(plan),
        },
    ];
    stages.extend(plan.sinks.iter().map(|sink| Stage {
        id: StageId::Sink(sink.name.clone()),
        size: sink.stage.clone(),
        secrets: kafka().chain(sink.secrets().into_iter().cloned()).collect(),
        plan: for_sink(plan, &sink.name),
    }));
    let store = plan.sinks.iter().filter(|sink| Some(&sink.name) == plan.api.store.as_ref());
    // Simulated bursts go through the collector, which requires a key.
    let key = plan.collector.keys.first().filter(|_| plan.api.simulate).map(|key| key.secret.clone());
    stages.push(Stage {
        id: StageId::Api,
        size: plan.api.stage.clone(),
        secrets: kafka()
            .chain(store.flat_map(|sink| sink.secrets().into_iter().cloned()))
            .chain(key)
            .chain(plan.api.token.clone())
            .collect(),
        plan: for_api(plan),
    });
    for stage in &mut stages {
        stage.secrets.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
        stage.secrets.dedup();
    }
    stages
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

/// Without the parts that only the operator reads: partition_counts of stages, settings of topics.
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
