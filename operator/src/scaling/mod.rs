//! The number of replicas of each stage, from its lag and utilisation.
//!
//! ```text
//!  reconcile ── register: topics, groups, replicas ──► Scaler ◄── every 5 s ── kafka_poll (batched), pods (utilisation)
//!      ▲                                                 │
//!      │                                        herd_spec::scale::decide
//!      └── requeue: other replicas, other numbers ◄──────┘
//! ```
//!
//! Decisions are made here and applied by reconcile alone, so a Deployment has one writer. While one waits to be applied, no other is
//! made. `kafka_poll` and `pods` do I/O; `monitor` and `report` are pure; `poll_loop` is the loop.

mod kafka_poll;
mod monitor;
mod pods;
mod poll_loop;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use herd_bus::kafka::Places;
use herd_spec::pipeline::{HerdPipeline, HerdPipelineStatus, ScalingMode};
use herd_spec::plan::Plan;
use herd_spec::scale::{POLL, ReasonKind};
use herd_spec::units::{Offset, Partition, Replicas, WallTime};
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::identity::PipelineIdentity;
use crate::observe::ObservedStage;
use crate::reason::Failure;
use crate::stage::{Stage, StageId};
use crate::topics::KafkaConnection;

pub use monitor::PartitionCounts;
use monitor::{StageMonitor, Subscription};
pub use poll_loop::{now, run};
pub use report::{PipelineReport, ScalingCondition, StageReport, condition};

/// Minimum interval between two reports with new numbers, unless replicas change.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Capacity of the channel of requeued pipelines; one that is dropped is requeued again after the next poll.
const REQUEUE_CAPACITY: usize = 4096;
/// How long the message of a failure is kept while its reason stays the same.
const KEEP_MESSAGE: Duration = Duration::from_secs(60);

/// Which pipelines are polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    /// Those with a decision to add replicas that the next poll must confirm.
    Unconfirmed,
}

impl Scope {
    fn includes(self, pipeline: &PipelineState) -> bool {
        self == Self::All || pipeline.stages.values().any(StageMonitor::needs_confirmation)
    }
}

/// The observed state of each pipeline's stages, and the decisions about them: at most one entry a pipeline, removed with it.
pub struct Scaler {
    pipelines: Mutex<HashMap<String, PipelineState>>,
    requeued: broadcast::Sender<ObjectRef<HerdPipeline>>,
}

/// The state of a pipeline.
struct PipelineState {
    identity: PipelineIdentity,
    /// None if its Kafka settings are invalid.
    kafka: Option<KafkaConnection>,
    partition_counts: PartitionCounts,
    events: EventRate,
    kafka_health: KafkaHealth,
    /// When that changed last.
    kafka_since: Option<Instant>,
    pods: PodHealth,
    stages: BTreeMap<StageId, StageMonitor>,
    /// The last report, and when it was made.
    reported: Option<(PipelineReport, Instant)>,
    /// The next report must not wait for [`REPORT_INTERVAL`].
    urgent: bool,
    /// Its reconcile fails: requeueing it would only bypass its backoff.
    blocked: bool,
}

/// The health of a pipeline's Kafka cluster at the last poll.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum KafkaHealth {
    /// It was not polled.
    #[default]
    Unknown,
    /// It answers, and has all topics.
    Healthy,
    /// It does not answer, or rejects requests.
    Unavailable(Failure),
    /// These topics do not exist.
    TopicsMissing(BTreeSet<String>),
}

/// The health of a pipeline's pods at the last poll.
#[derive(Default)]
struct PodHealth {
    /// Failures by stage, with the time at which each message was reported first.
    failures: BTreeMap<String, (Failure, Instant)>,
    alerts: Option<u64>,
}

/// The end offsets of the events topic over the last 30 s.
#[derive(Default)]
struct EventRate {
    topic: String,
    ends: std::collections::VecDeque<(WallTime, i64)>,
}

impl EventRate {
    fn push(&mut self, at: WallTime, end: i64) {
        if self.ends.back().is_some_and(|(last, before)| *before > end || at <= *last) {
            self.ends.clear();
        }
        self.ends.push_back((at, end));
        while self.ends.get(1).is_some_and(|(second, _)| at.since(*second) >= 6 * POLL) {
            self.ends.pop_front();
        }
    }

    /// The topic could not be polled.
    fn clear(&mut self) {
        self.ends.clear();
    }

    fn per_second(&self) -> Option<f64> {
        let ((from, low), (to, high)) = self.ends.front().zip(self.ends.back())?;
        let seconds = to.since(*from).as_secs_f64();
        (seconds > 0.0).then(|| (high - low) as f64 / seconds)
    }
}

/// A pipeline whose objects were applied.
pub struct Registration<'r> {
    /// The connection to its Kafka cluster.
    pub kafka: Option<&'r KafkaConnection>,
    /// Its plan.
    pub plan: &'r Plan,
    /// Its stages.
    pub stages: &'r [Stage],
    /// Their observed state, in the same order.
    pub observed: &'r [ObservedStage],
    /// The number of partitions of its topics, by name.
    pub partition_counts: PartitionCounts,
    /// The status before: it has the scaling memory of before a restart.
    pub before: Option<&'r HerdPipelineStatus>,
}

impl Default for Scaler {
    fn default() -> Self {
        Self { pipelines: Mutex::default(), requeued: broadcast::channel(REQUEUE_CAPACITY).0 }
    }
}

impl Scaler {
    /// The pipelines that are requeued.
    #[must_use]
    pub fn requeued(&self) -> broadcast::Receiver<ObjectRef<HerdPipeline>> {
        self.requeued.subscribe()
    }

    /// Requeues a pipeline for reconciliation.
    pub fn requeue(&self, pipeline: ObjectRef<HerdPipeline>) {
        // There is no receiver only while watches start or stop: then every pipeline is reconciled anyway.
        let _ = self.requeued.send(pipeline);
    }

    /// The number of replicas that a stage of the pipeline `uid` should have. `current` is `spec.replicas` of its Deployment, none if the
    /// Deployment does not exist; `partition_counts` has the topics that are known.
    #[must_use]
    pub fn replicas(
        &self,
        uid: &str,
        plan: &Plan,
        stage: &Stage,
        (current, partition_counts): (Option<u32>, &PartitionCounts),
        now: WallTime,
    ) -> u32 {
        let pipelines = self.pipelines.lock();
        let monitor = pipelines.get(uid).and_then(|pipeline| pipeline.stages.get(&stage.id));
        if let Some(decided) = monitor.and_then(|monitor| monitor.decided(stage, plan)) {
            return decided.0;
        }
        let policy = monitor::policy(stage, plan, partition_counts);
        let resumes = current == Some(0) && monitor.is_some_and(StageMonitor::was_paused) && !plan.paused;
        match current {
            // After a pause, the next poll decides by the lag, if decisions are applied.
            Some(_) if resumes && is_automatic(stage) => 0,
            Some(_) if resumes => policy.initial(now).0,
            Some(current) if is_scaled(stage) => policy.within(Replicas(current), now).0,
            _ => policy.initial(now).0,
        }
    }

    /// Registers a pipeline, or updates its registration.
    pub fn register(&self, identity: &PipelineIdentity, registration: Registration<'_>) {
        let Registration { kafka, plan, stages, observed, partition_counts, before } = registration;
        let mut pipelines = self.pipelines.lock();
        let pipeline = pipelines.entry(identity.uid.clone()).or_insert_with(|| PipelineState {
            identity: identity.clone(),
            kafka: None,
            partition_counts: PartitionCounts::new(),
            events: EventRate::default(),
            kafka_health: KafkaHealth::default(),
            kafka_since: None,
            pods: PodHealth::default(),
            stages: BTreeMap::new(),
            reported: None,
            urgent: false,
            blocked: false,
        });
        pipeline.blocked = false;
        pipeline.kafka = kafka.cloned();
        pipeline.partition_counts = partition_counts;
        pipeline.events.topic.clone_from(&plan.topics.events.name);
        pipeline.stages.retain(|id, _| stages.iter().any(|stage| stage.id == *id));
        for (stage, observed) in stages.iter().zip(observed) {
            if stage.id == StageId::Api {
                continue;
            }
            let monitor = pipeline.stages.entry(stage.id.clone()).or_insert_with(|| {
                let before =
                    before.and_then(|before| before.stages.iter().find(|s| s.name == observed.status.name));
                StageMonitor::of(stage, plan, &pipeline.partition_counts, before)
            });
            monitor.update(stage, plan, &pipeline.partition_counts, observed);
        }
    }

    /// The last report of the pipeline `uid`; none before the first poll.
    #[must_use]
    pub fn report(&self, uid: &str) -> Option<PipelineReport> {
        Some(self.pipelines.lock().get(uid)?.reported.as_ref()?.0.clone())
    }

    /// The health of the Kafka cluster of the pipeline `uid` at the last poll.
    #[must_use]
    pub fn kafka(&self, uid: &str) -> KafkaHealth {
        self.pipelines.lock().get(uid).map(|pipeline| pipeline.kafka_health.clone()).unwrap_or_default()
    }

    /// The failures of the pods of the pipeline `uid`, by stage.
    #[must_use]
    pub fn failures(&self, uid: &str) -> BTreeMap<String, Failure> {
        let pipelines = self.pipelines.lock();
        let failures = pipelines.get(uid).into_iter().flat_map(|pipeline| &pipeline.pods.failures);
        failures.map(|(id, (failure, _))| (id.clone(), failure.clone())).collect()
    }

    /// Does not requeue a pipeline until it is registered again, because its reconcile fails.
    pub fn block(&self, uid: &str) {
        if let Some(pipeline) = self.pipelines.lock().get_mut(uid) {
            pipeline.blocked = true;
        }
    }

    /// Forgets a pipeline.
    pub fn forget(&self, uid: &str) {
        self.pipelines.lock().remove(uid);
    }

    /// The uids of the pipelines of a namespace (none: of all) that are registered.
    #[must_use]
    pub fn known_in(&self, namespace: Option<&str>) -> Vec<String> {
        let pipelines = self.pipelines.lock();
        let within = pipelines
            .iter()
            .filter(|(_, pipeline)| namespace.is_none_or(|name| pipeline.identity.namespace == name));
        within.map(|(uid, _)| uid.clone()).collect()
    }

    /// The requests to each cluster.
    fn cluster_requests(&self, scope: Scope) -> Vec<kafka_poll::ClusterRequest> {
        let mut clusters: BTreeMap<String, kafka_poll::ClusterRequest> = BTreeMap::new();
        for (uid, pipeline) in self.pipelines.lock().iter().filter(|(_, pipeline)| scope.includes(pipeline)) {
            let Some(connection) = &pipeline.kafka else { continue };
            if pipeline.partition_counts.is_empty() {
                continue;
            }
            let groups = pipeline.stages.iter();
            let groups = groups.filter_map(|(id, monitor)| Some((id.clone(), monitor.subscription.clone()?)));
            let groups: Vec<(StageId, Subscription)> = groups.collect();
            let is_read = |topic: &String| {
                pipeline.events.topic == *topic
                    || groups.iter().any(|(_, reads)| reads.topics.contains(topic))
            };
            // Of a topic whose lag is not needed, one partition shows that it exists.
            let polled = |(topic, count): (&String, &u32)| {
                (topic.clone(), if is_read(topic) { *count } else { 1.min(*count) })
            };
            let partition_counts = pipeline.partition_counts.iter().map(polled).collect();
            let request = kafka_poll::PipelineRequest { uid: uid.clone(), partition_counts, groups };
            let cluster = clusters.entry(connection.cluster_key.clone()).or_insert_with(|| {
                kafka_poll::ClusterRequest { bus: connection.bus.clone(), pipelines: Vec::new() }
            });
            cluster.pipelines.push(request);
        }
        clusters.into_values().collect()
    }

    /// The committed offsets of a group that has no lag, if no record was added since: the group need not be asked.
    fn idle_commits(&self, uid: &str, id: &StageId, ends: &Places) -> Option<Places> {
        self.pipelines.lock().get(uid)?.stages.get(id)?.idle_commits(ends)
    }

    /// Records the poll of a cluster.
    fn record_poll(&self, at: WallTime, poll: &kafka_poll::ClusterPoll) {
        let mut pipelines = self.pipelines.lock();
        for request in &poll.pipelines {
            let Some(pipeline) = pipelines.get_mut(&request.uid) else { continue };
            let kafka = match &poll.spans {
                Ok((_, ends)) => {
                    let of = |topic: &str| {
                        let first = (topic.to_owned(), Partition(0));
                        let topic = topic.to_owned();
                        ends.range(first..).take_while(move |((name, _), _)| *name == topic)
                    };
                    let exists = |topic: &String| of(topic).next().is_some();
                    let missing = request
                        .partition_counts
                        .iter()
                        .filter(|(topic, count)| **count > 0 && !exists(topic));
                    let missing: BTreeSet<String> = missing.map(|(topic, _)| topic.clone()).collect();
                    if exists(&pipeline.events.topic) {
                        pipeline.events.push(at, of(&pipeline.events.topic).map(|(_, Offset(at))| *at).sum());
                    } else {
                        pipeline.events.clear();
                    }
                    if missing.is_empty() {
                        KafkaHealth::Healthy
                    } else {
                        KafkaHealth::TopicsMissing(missing)
                    }
                }
                Err(error) => {
                    pipeline.events.clear();
                    error.outage.clone().map_or(KafkaHealth::Unknown, KafkaHealth::Unavailable)
                }
            };
            // Of several brokers that are unavailable, each poll names another one.
            let same = matches!((&pipeline.kafka_health, &kafka), (KafkaHealth::Unavailable(a), KafkaHealth::Unavailable(b)) if a.reason == b.reason);
            let keep = same && pipeline.kafka_since.is_some_and(|since| since.elapsed() < KEEP_MESSAGE);
            if kafka != pipeline.kafka_health && !keep {
                pipeline.kafka_since = Some(Instant::now());
                // The first successful poll is not worth a report.
                pipeline.urgent |=
                    (&pipeline.kafka_health, &kafka) != (&KafkaHealth::Unknown, &KafkaHealth::Healthy);
                pipeline.kafka_health = kafka;
            }
            for (id, _) in &request.groups {
                let Some(monitor) = pipeline.stages.get_mut(id) else { continue };
                match (&poll.spans, poll.groups.get(&(request.uid.clone(), id.clone()))) {
                    (Ok(spans), Some(Ok((committed, stable)))) => {
                        monitor.record_offsets(at, &request.partition_counts, spans, committed, *stable);
                    }
                    (Err(error), _) => monitor.fail(at, &error.message),
                    (_, Some(Err(message))) => monitor.fail(at, message),
                    (Ok(_), None) => {}
                }
            }
        }
    }

    /// Whether the next poll must confirm a decision about any pipeline.
    fn needs_confirmation(&self) -> bool {
        self.pipelines.lock().values().any(|pipeline| Scope::Unconfirmed.includes(pipeline))
    }

    /// Decides about all stages. Returns the pipelines to requeue, each with the reasons for which its replicas change.
    fn decide(&self, scope: Scope, now: WallTime) -> Vec<(ObjectRef<HerdPipeline>, Vec<ReasonKind>)> {
        let mut requeue = Vec::new();
        for pipeline in self.pipelines.lock().values_mut().filter(|pipeline| scope.includes(pipeline)) {
            let mut reasons = Vec::new();
            let mut change = false;
            for monitor in pipeline.stages.values_mut() {
                let was_pending = monitor.is_pending();
                let changes = monitor.decide(now);
                change |= changes;
                if changes && !was_pending {
                    reasons.extend(monitor.decision.as_ref().map(|decision| decision.reason.kind()));
                }
            }
            let report = PipelineReport {
                events_per_second: pipeline.events.per_second().map(report::two_digits),
                alerts: pipeline.pods.alerts,
                outage: match &pipeline.kafka_health {
                    KafkaHealth::Unavailable(failure) => Some(failure.clone()),
                    _ => None,
                },
                stages: pipeline
                    .stages
                    .iter()
                    .filter_map(|(id, monitor)| Some((id.clone(), report::of(monitor)?)))
                    .collect(),
            };
            let urgent = std::mem::take(&mut pipeline.urgent);
            let publish = urgent
                || pipeline.reported.as_ref().is_none_or(|(last, at)| {
                    report.has_scaled(last) || (!last.is_similar(&report) && at.elapsed() >= REPORT_INTERVAL)
                });
            if publish {
                pipeline.reported = Some((report, Instant::now()));
            }
            if !pipeline.blocked && (publish || change) {
                requeue.push((pipeline.identity.object_ref(), reasons));
            }
        }
        requeue
    }

    /// The pipelines whose pods to poll, each with the stages whose utilisation is needed: those that are scaled.
    fn pod_requests(&self, scope: Scope) -> Vec<(PipelineIdentity, pods::PodRequest)> {
        let mut requests = Vec::new();
        for pipeline in self.pipelines.lock().values().filter(|pipeline| scope.includes(pipeline)) {
            let stages = pipeline.stages.iter();
            let scaled = stages.filter(|(_, monitor)| monitor.is_scaled() && monitor.pods.ready.0 > 0);
            let cores = scaled.map(|(id, monitor)| (id.to_string(), monitor.cores)).collect();
            requests.push((pipeline.identity.clone(), pods::PodRequest { cores }));
        }
        requests
    }

    /// Makes the next report of a pipeline urgent.
    fn report_now(&self, uid: &str) {
        if let Some(pipeline) = self.pipelines.lock().get_mut(uid) {
            pipeline.urgent = true;
        }
    }

    /// Records the failures of a pipeline's pods, by stage, and the number of open alerts.
    fn record_pod_health(&self, uid: &str, failures: BTreeMap<String, Failure>, alerts: Option<u64>) {
        let mut pipelines = self.pipelines.lock();
        let Some(pipeline) = pipelines.get_mut(uid) else { return };
        let before = std::mem::take(&mut pipeline.pods.failures);
        let reasons = |id: &String| before.get(id).map(|(failure, _)| failure.reason);
        pipeline.urgent |= failures.len() != before.len()
            || failures.iter().any(|(id, failure)| reasons(id) != Some(failure.reason));
        let kept = |id: &String, failure: Failure| match before.get(id) {
            // The numbers in a message may differ each time.
            Some((old, at)) if old.reason == failure.reason && at.elapsed() < KEEP_MESSAGE => {
                (old.clone(), *at)
            }
            _ => (failure, Instant::now()),
        };
        let now = failures.into_iter().map(|(id, failure)| (id.clone(), kept(&id, failure))).collect();
        pipeline.pods = PodHealth { failures: now, alerts };
    }

    /// Records the utilisation of a stage's pods; none if none of them answered.
    fn record_utilisation(&self, at: WallTime, uid: &str, id: &str, utilisation: Option<pods::Utilisation>) {
        let mut pipelines = self.pipelines.lock();
        let stages = pipelines.get_mut(uid).into_iter().flat_map(|pipeline| &mut pipeline.stages);
        for (_, monitor) in stages.filter(|(other, _)| other.to_string() == id) {
            monitor.record_utilisation(at, utilisation);
        }
    }
}

/// Whether decisions about a stage are applied.
fn is_automatic(stage: &Stage) -> bool {
    stage.size.scaling.as_ref().is_some_and(|scaling| scaling.spec().mode == ScalingMode::Auto)
}

/// Whether decisions are made about a stage.
#[must_use]
pub fn is_scaled(stage: &Stage) -> bool {
    stage.size.scaling.as_ref().is_some_and(|scaling| scaling.spec().mode != ScalingMode::Off)
}
