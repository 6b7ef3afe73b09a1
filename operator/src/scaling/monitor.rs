//! Monitors one stage: its subscription, its history and the decision about it. Pure: the time is passed in.

use std::collections::BTreeMap;

use herd_bus::kafka::Places;
use herd_spec::pipeline::{ScalingMode, StageStatus};
use herd_spec::plan::{Plan, StagePlan};
use herd_spec::scale::{
    Decision, History, Memory, Observation, POLL, PartitionName, PartitionProgress, Pods, Policy, Reset,
    Source, Work, decide,
};
use herd_spec::units::{Partition, Replicas, WallTime};

use super::is_scaled;
use super::pods::Utilisation;
use crate::observe::ObservedStage;
use crate::stage::{Stage, StageId};

/// The number of partitions of topics, by full name.
pub type PartitionCounts = BTreeMap<String, u32>;

/// What a stage reads from Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Its consumer group.
    pub(super) group: String,
    /// Its topics.
    pub(super) topics: Vec<String>,
}

/// The monitor of one stage.
pub(super) struct StageMonitor {
    requested: Requested,
    policy: Policy,
    /// None if it serves requests.
    pub(super) subscription: Option<Subscription>,
    history: History,
    pub(super) memory: Memory,
    pub(super) pods: Pods,
    /// See [`cores`].
    pub(super) cores: Option<f64>,
    /// The utilisation of its pods at their last poll, and when that was.
    busy: Option<(WallTime, f64)>,
    /// The decided number of replicas; none before the first decision.
    pub(super) target: Option<Replicas>,
    pub(super) decision: Option<Decision>,
    /// The end offsets of its topics when it had no lag, and the committed offsets then.
    idle: Option<(Places, Places)>,
}

/// The part of the spec that decisions depend on: when it changes, earlier decisions are void.
#[derive(Clone, Debug, PartialEq)]
struct Requested {
    size: StagePlan,
    paused: bool,
}

impl Requested {
    fn of(stage: &Stage, plan: &Plan) -> Self {
        let size = StagePlan { resources: Default::default(), ..stage.size.clone() };
        Self { size, paused: plan.paused && stage.id.pauses() }
    }
}

/// The subscription of a stage; none if it serves requests.
///
/// A detector is scaled by the lag of fold. The lag of judge would never be 0: fold writes a watermark to each partition every emit
/// interval, also when no event arrives.
pub(super) fn subscription(id: &StageId, plan: &Plan) -> Option<Subscription> {
    let subscription = plan.subscription(id)?;
    let topics = subscription.topics.into_iter().map(|topic| topic.name.clone()).collect();
    Some(Subscription { group: subscription.group.to_owned(), topics })
}

/// The scaling policy of a stage, with the number of partitions in Kafka, or of the plan if that is unknown.
pub(super) fn policy(stage: &Stage, plan: &Plan, partition_counts: &PartitionCounts) -> Policy {
    let partitions = |name: &String| {
        let planned =
            || plan.topics.all().into_iter().find(|topic| topic.name == *name).map(|t| t.partitions);
        partition_counts.get(name).copied().or_else(planned)
    };
    let source = match subscription(&stage.id, plan) {
        Some(subscription) => {
            Source::Topic { partitions: subscription.topics.iter().filter_map(partitions).max().unwrap_or(1) }
        }
        None => Source::Requests,
    };
    let Requested { mut size, paused } = Requested::of(stage, plan);
    // With `mode: Off`, the stage has `replicas`.
    size.scaling = size.scaling.filter(|_| is_scaled(stage));
    Policy::of(&size, source, paused)
}

/// The CPUs that a pod of the stage can use: its limit. A collector has no other measure of its utilisation; without a limit, its request
/// counts, at least one CPU.
fn cores(stage: &Stage) -> Option<f64> {
    let resources = &stage.size.resources;
    let cpu =
        |of: &BTreeMap<String, String>| of.get("cpu").and_then(|cores| herd_spec::quantity::read(cores));
    let without_limit =
        || (stage.id == StageId::Collector).then(|| cpu(&resources.requests).unwrap_or(0.0).max(1.0));
    cpu(&resources.limits).or_else(without_limit)
}

impl StageMonitor {
    /// Starts to monitor a stage.
    pub(super) fn of(
        stage: &Stage,
        plan: &Plan,
        partition_counts: &PartitionCounts,
        before: Option<&StageStatus>,
    ) -> Self {
        let memory = before.and_then(|before| before.memory.clone());
        Self {
            requested: Requested::of(stage, plan),
            policy: policy(stage, plan, partition_counts),
            subscription: subscription(&stage.id, plan),
            history: History::new(Reset::Earliest),
            memory: memory.and_then(|memory| serde_json::from_value(memory).ok()).unwrap_or_default(),
            pods: Pods { desired: Replicas(0), ready: Replicas(0) },
            cores: None,
            busy: None,
            target: None,
            decision: None,
            idle: None,
        }
    }

    /// Updates the monitor after a reconcile.
    pub(super) fn update(
        &mut self,
        stage: &Stage,
        plan: &Plan,
        partition_counts: &PartitionCounts,
        observed: &ObservedStage,
    ) {
        let requested = Requested::of(stage, plan);
        if requested != self.requested {
            (self.requested, self.target) = (requested, None);
        }
        let subscription = subscription(&stage.id, plan);
        if subscription != self.subscription {
            (self.subscription, self.history, self.idle) =
                (subscription, History::new(Reset::Earliest), None);
        }
        self.policy = policy(stage, plan, partition_counts);
        self.cores = cores(stage);
        self.pods =
            Pods { desired: Replicas(observed.status.desired), ready: Replicas(observed.status.ready) };
    }

    /// The decided number of replicas, if the spec has not changed since.
    pub(super) fn decided(&self, stage: &Stage, plan: &Plan) -> Option<Replicas> {
        self.target.filter(|_| Requested::of(stage, plan) == self.requested)
    }

    /// Whether the pipeline was paused at the last reconcile.
    pub(super) fn was_paused(&self) -> bool {
        self.requested.paused
    }

    /// The committed offsets, if the stage had no lag and no record was added since.
    pub(super) fn idle_commits(&self, ends: &Places) -> Option<Places> {
        let (idle_ends, committed) = self.idle.as_ref()?;
        self.subscription.as_ref()?;
        idle_ends.iter().all(|(partition, end)| ends.get(partition) == Some(end)).then(|| committed.clone())
    }

    /// Records the offsets of its topics and group at `at`.
    pub(super) fn record_offsets(
        &mut self,
        at: WallTime,
        partition_counts: &PartitionCounts,
        (starts, ends): &(Places, Places),
        committed: &Places,
        stable: bool,
    ) {
        let Some(subscription) = &self.subscription else { return };
        let mut partitions = Vec::new();
        let (mut idle_ends, mut is_idle) = (Places::new(), true);
        for topic in &subscription.topics {
            for number in 0..partition_counts.get(topic).copied().unwrap_or(0) {
                let key = (topic.clone(), Partition(number));
                let (Some(start), Some(end)) = (starts.get(&key), ends.get(&key)) else {
                    self.history
                        .fail(at, format!("the offsets of partition {number} of {topic} are unknown"));
                    return;
                };
                let committed = committed.get(&key).copied();
                is_idle &= committed.unwrap_or(*start) >= *end;
                idle_ends.insert(key, *end);
                let name = PartitionName { topic: topic.as_str().into(), partition: Partition(number) };
                partitions.push(PartitionProgress { name, start: *start, end: *end, committed });
            }
        }
        self.idle = is_idle.then(|| (idle_ends, committed.clone()));
        // The utilisation of the last poll is still valid, an older one is not.
        let busy = self.busy.filter(|(then, _)| at.since(*then) <= 2 * POLL).map(|(_, busy)| busy);
        self.history.push(at, Observation { work: Work::Records(partitions), stable, busy });
    }

    /// Records the utilisation of its pods; none if none of them answered.
    pub(super) fn record_utilisation(&mut self, at: WallTime, utilisation: Option<Utilisation>) {
        self.busy = utilisation.and_then(|utilisation| Some((at, utilisation.busy?)));
        match utilisation {
            _ if self.subscription.is_some() => {}
            Some(Utilisation { served, busy }) => {
                self.history.push(at, Observation { work: Work::Requests(served), stable: true, busy });
            }
            None => self.fail(at, "no pod returned its metrics"),
        }
    }

    /// Records that a poll failed.
    pub(super) fn fail(&mut self, at: WallTime, message: &str) {
        self.history.fail(at, message);
    }

    /// Decides, unless an earlier decision is still pending. True: a decision is pending.
    pub(super) fn decide(&mut self, now: WallTime) -> bool {
        if self.is_pending() {
            return true;
        }
        let decision = decide(&self.policy, &self.history, self.pods, &self.memory, now);
        self.memory = decision.memory.clone();
        self.target = Some(decision.replicas);
        self.decision = Some(decision);
        self.is_pending()
    }

    /// Whether a decision is not applied yet.
    pub(super) fn is_pending(&self) -> bool {
        self.target.is_some_and(|target| target != self.pods.desired)
    }

    /// Whether the next poll must confirm that replicas are added.
    pub(super) fn needs_confirmation(&self) -> bool {
        self.decision.as_ref().is_some_and(Decision::needs_confirmation)
    }

    /// Whether decisions are made about it: scaling is on and the pipeline is not paused.
    pub(super) fn is_scaled(&self) -> bool {
        let scaling = self.requested.size.scaling.as_ref();
        !self.requested.paused && scaling.is_some_and(|scaling| scaling.spec().mode != ScalingMode::Off)
    }
}
