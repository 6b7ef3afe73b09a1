//! A stage as it is watched: what it reads, what was seen of it, what was decided. Pure, but for the clock that is passed in.

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
use super::pods::Seen;
use crate::observe::StageSeen;
use crate::stage::{Role, Stage};

/// The number of partitions of topics, by full name.
pub type Sizes = BTreeMap<String, u32>;

/// What a stage reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reads {
    /// As which group.
    pub(super) group: String,
    /// Which topics.
    pub(super) topics: Vec<String>,
}

/// A stage as it is watched.
pub(super) struct Watch {
    asked: Asked,
    policy: Policy,
    /// None: it serves requests.
    pub(super) reads: Option<Reads>,
    history: History,
    pub(super) memory: Memory,
    pub(super) pods: Pods,
    /// See [`cores`].
    pub(super) cores: Option<f64>,
    /// What its pods said last, and when.
    busy: Option<(WallTime, f64)>,
    /// What was decided; none: nothing yet.
    pub(super) target: Option<Replicas>,
    pub(super) decision: Option<Decision>,
    /// Ends of its topics at which nothing waited, and what was committed then.
    quiet: Option<(Places, Places)>,
}

/// What is asked of a stage: where it changes, earlier decisions are void.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    size: StagePlan,
    paused: bool,
}

impl Asked {
    fn of(stage: &Stage, plan: &Plan) -> Self {
        let size = StagePlan { resources: Default::default(), ..stage.size.clone() };
        Self { size, paused: plan.paused && stage.role.pauses() }
    }
}

/// The group of a stage and its topics; none: it serves requests.
///
/// A detector is scaled from what waits for fold. What waits for judge is made by fold: a word for each partition every emit
/// interval, also when no event comes, so by that a stage would never be idle.
pub(super) fn reads(role: &Role, plan: &Plan) -> Option<Reads> {
    let subscription = plan.subscription(role)?;
    let topics = subscription.topics.into_iter().map(|topic| topic.name.clone()).collect();
    Some(Reads { group: subscription.group.to_owned(), topics })
}

/// The policy of a stage; partitions as they are in Kafka, or as they are asked for where that is not known.
pub(super) fn policy(stage: &Stage, plan: &Plan, sizes: &Sizes) -> Policy {
    let partitions = |name: &String| {
        let asked = || plan.topics.all().into_iter().find(|topic| topic.name == *name).map(|t| t.partitions);
        sizes.get(name).copied().or_else(asked)
    };
    let source = match reads(&stage.role, plan) {
        Some(reads) => {
            Source::Topic { partitions: reads.topics.iter().filter_map(partitions).max().unwrap_or(1) }
        }
        None => Source::Requests,
    };
    let Asked { mut size, paused } = Asked::of(stage, plan);
    // Switched off, `replicas` run.
    size.scaling = size.scaling.filter(|_| is_scaled(stage));
    Policy::of(&size, source, paused)
}

/// The CPUs that a pod of the stage can use, by which it is told how busy it is. A collector has nothing else that says so: without
/// a limit, one CPU counts as all, or what it requests, if that is more.
fn cores(stage: &Stage) -> Option<f64> {
    let resources = &stage.size.resources;
    let cpu =
        |of: &BTreeMap<String, String>| of.get("cpu").and_then(|cores| herd_spec::quantity::read(cores));
    let without_limit =
        || (stage.role == Role::Collector).then(|| cpu(&resources.requests).unwrap_or(0.0).max(1.0));
    cpu(&resources.limits).or_else(without_limit)
}

impl Watch {
    /// Watches a stage from now on.
    pub(super) fn of(stage: &Stage, plan: &Plan, sizes: &Sizes, before: Option<&StageStatus>) -> Self {
        let memory = before.and_then(|before| before.memory.clone());
        Self {
            asked: Asked::of(stage, plan),
            policy: policy(stage, plan, sizes),
            reads: reads(&stage.role, plan),
            history: History::new(Reset::Earliest),
            memory: memory.and_then(|memory| serde_json::from_value(memory).ok()).unwrap_or_default(),
            pods: Pods { wanted: Replicas(0), ready: Replicas(0) },
            cores: None,
            busy: None,
            target: None,
            decision: None,
            quiet: None,
        }
    }

    /// Takes note of the stage as it is now.
    pub(super) fn update(&mut self, stage: &Stage, plan: &Plan, sizes: &Sizes, seen: &StageSeen) {
        let asked = Asked::of(stage, plan);
        if asked != self.asked {
            (self.asked, self.target) = (asked, None);
        }
        let reads = reads(&stage.role, plan);
        if reads != self.reads {
            (self.reads, self.history, self.quiet) = (reads, History::new(Reset::Earliest), None);
        }
        self.policy = policy(stage, plan, sizes);
        self.cores = cores(stage);
        self.pods = Pods { wanted: Replicas(seen.status.desired), ready: Replicas(seen.status.ready) };
    }

    /// The decision about this stage, if it was made for what is asked now.
    pub(super) fn decided(&self, stage: &Stage, plan: &Plan) -> Option<Replicas> {
        self.target.filter(|_| Asked::of(stage, plan) == self.asked)
    }

    /// Whether it stood still by the pipeline's switch when it was seen last.
    pub(super) fn stood_still(&self) -> bool {
        self.asked.paused
    }

    /// What was committed when nothing waited, if nothing has come since: nobody need be asked.
    pub(super) fn quiet_at(&self, ends: &Places) -> Option<Places> {
        let (then, committed) = self.quiet.as_ref()?;
        self.reads.as_ref()?;
        then.iter().all(|(place, end)| ends.get(place) == Some(end)).then(|| committed.clone())
    }

    /// Takes in what was seen of its topics and group at `at`.
    pub(super) fn look(
        &mut self,
        at: WallTime,
        sizes: &Sizes,
        (starts, ends): &(Places, Places),
        committed: &Places,
        stable: bool,
    ) {
        let Some(reads) = &self.reads else { return };
        let mut partitions = Vec::new();
        let (mut quiet_ends, mut quiet) = (Places::new(), true);
        for topic in &reads.topics {
            for number in 0..sizes.get(topic).copied().unwrap_or(0) {
                let place = (topic.clone(), Partition(number));
                let (Some(start), Some(end)) = (starts.get(&place), ends.get(&place)) else {
                    self.history.fail(at, format!("partition {number} of {topic} cannot be looked at"));
                    return;
                };
                let committed = committed.get(&place).copied();
                quiet &= committed.unwrap_or(*start) >= *end;
                quiet_ends.insert(place, *end);
                let name = PartitionName { topic: topic.as_str().into(), partition: Partition(number) };
                partitions.push(PartitionProgress { name, start: *start, end: *end, committed });
            }
        }
        self.quiet = quiet.then(|| (quiet_ends, committed.clone()));
        // What they said at the last look is as good as new; older than that says nothing of now.
        let busy = self.busy.filter(|(then, _)| at.since(*then) <= 2 * POLL).map(|(_, busy)| busy);
        self.history.push(at, Observation { work: Work::Records(partitions), stable, busy });
    }

    /// Takes in what its pods said of themselves; none: none of them said anything.
    pub(super) fn pods_said(&mut self, at: WallTime, seen: Option<Seen>) {
        self.busy = seen.and_then(|seen| Some((at, seen.busy?)));
        match seen {
            _ if self.reads.is_some() => {}
            Some(Seen { served, busy }) => {
                self.history.push(at, Observation { work: Work::Requests(served), stable: true, busy });
            }
            None => self.fail(at, "none of its pods says how busy it is"),
        }
    }

    /// It could not be looked at.
    pub(super) fn fail(&mut self, at: WallTime, why: &str) {
        self.history.fail(at, why);
    }

    /// Decides, unless an earlier decision still waits to be carried out. True: replicas are to change.
    pub(super) fn decide(&mut self, now: WallTime) -> bool {
        if self.waits() {
            return true;
        }
        let decision = decide(&self.policy, &self.history, self.pods, &self.memory, now);
        self.memory = decision.memory.clone();
        self.target = Some(decision.replicas);
        self.decision = Some(decision);
        self.waits()
    }

    /// Whether a decision waits to be carried out.
    pub(super) fn waits(&self) -> bool {
        self.target.is_some_and(|target| target != self.pods.wanted)
    }

    /// Whether it depends on the next look if replicas are added.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.decision.as_ref().is_some_and(Decision::wants_another_look)
    }

    /// Whether it is scaled at all, and not standing still.
    pub(super) fn is_scaled(&self) -> bool {
        let scaling = self.asked.size.scaling.as_ref();
        !self.asked.paused && scaling.is_some_and(|scaling| scaling.mode != ScalingMode::Off)
    }
}
