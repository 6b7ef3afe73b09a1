//! How many replicas each stage is to have, from what waits for it.
//!
//! ```text
//!  reconcile ── register: topics, groups, pods ──► Scaler ◄── every 5 s ── look (Kafka, batched), pods (how busy)
//!      ▲                                             │
//!      │                                    herd_spec::scale::decide
//!      └── trigger: other replicas, other numbers ◄──┘
//! ```
//!
//! Decisions are made here and carried out by reconcile alone, so a Deployment has one writer. While one waits to be carried out, no
//! other is made. `look` and `pods` are the world, `watch` and `report` pure; `run` is the loop.

mod look;
mod pods;
mod report;
mod run;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use herd_bus::kafka::{KafkaBus, Places};
use herd_spec::pipeline::{HerdPipeline, HerdPipelineStatus, ScalingMode};
use herd_spec::plan::Plan;
use herd_spec::scale::POLL;
use herd_spec::units::{Offset, Partition, Replicas, WallTime};
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::observe::StageSeen;
use crate::reason::Trouble;
use crate::stage::{Role, Stage};

pub use report::{PipelineReport, ScalingWord, StageReport, word};
pub use run::{now, run};
pub use watch::Sizes;
use watch::{Reads, Watch};

/// New numbers are told this often at most, unless replicas change.
const NEWS: Duration = Duration::from_secs(10);
/// Triggers that wait for the watch of pipelines; one that is missed comes again with the next look.
const TRIGGERS: usize = 4096;
/// For how long a trouble is told in the same words while its reason stays the same.
const SAME_WORDS: Duration = Duration::from_secs(60);

/// Which pipelines are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    /// Those of whom one more look decides whether replicas are added.
    InDoubt,
}

impl Scope {
    fn has(self, watched: &Watched) -> bool {
        self == Self::All || watched.stages.values().any(Watch::is_in_doubt)
    }
}

/// What is known of each pipeline's stages, and what was decided: at most one entry a pipeline, removed with it.
pub struct Scaler {
    pipelines: Mutex<HashMap<String, Watched>>,
    triggers: broadcast::Sender<ObjectRef<HerdPipeline>>,
}

/// A pipeline as it is watched.
struct Watched {
    namespace: String,
    name: String,
    /// None: its Kafka cannot be addressed.
    kafka: Option<(String, KafkaBus)>,
    sizes: Sizes,
    events: Rate,
    kafka_seen: KafkaSeen,
    /// When that changed last.
    kafka_since: Option<Instant>,
    pods: PodsSeen,
    stages: BTreeMap<Role, Watch>,
    told: Option<(PipelineReport, Instant)>,
    /// Something was seen that is to be told at once.
    urgent: bool,
    /// Nothing can be carried out: bringing it back to mind would only disturb its pauses.
    blocked: bool,
}

/// How a pipeline's Kafka was seen last.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum KafkaSeen {
    /// It was not looked at.
    #[default]
    Unknown,
    /// It answers, and has all topics.
    Well,
    /// It does not answer, or refuses.
    Away(Trouble),
    /// These topics were not to be found.
    Without(BTreeSet<String>),
}

/// What the pods of a pipeline said last.
#[derive(Default)]
struct PodsSeen {
    /// What is wrong, by stage, with when it was told first in these words.
    troubles: BTreeMap<String, (Trouble, Instant)>,
    alerts: Option<u64>,
}

/// The ends of the events topic, of the last half minute.
#[derive(Default)]
struct Rate {
    topic: String,
    ends: std::collections::VecDeque<(WallTime, i64)>,
}

impl Rate {
    fn push(&mut self, at: WallTime, end: i64) {
        if self.ends.back().is_some_and(|(last, before)| *before > end || at <= *last) {
            self.ends.clear();
        }
        self.ends.push_back((at, end));
        while self.ends.get(1).is_some_and(|(second, _)| at.since(*second) >= 6 * POLL) {
            self.ends.pop_front();
        }
    }

    /// Nothing is known of now.
    fn lose(&mut self) {
        self.ends.clear();
    }

    fn a_second(&self) -> Option<f64> {
        let ((from, low), (to, high)) = self.ends.front().zip(self.ends.back())?;
        let seconds = to.since(*from).as_secs_f64();
        (seconds > 0.0).then(|| (high - low) as f64 / seconds)
    }
}

/// What reconcile knows of a pipeline, once its objects are applied.
pub struct Registration<'r> {
    /// Its namespace.
    pub namespace: &'r str,
    /// Its name.
    pub name: &'r str,
    /// Its Kafka, with what stands for the way to it: pipelines with the same one are asked about together.
    pub kafka: Option<(String, KafkaBus)>,
    /// Its plan.
    pub plan: &'r Plan,
    /// Its stages.
    pub stages: &'r [Stage],
    /// Those as they run, in the same order.
    pub seen: &'r [StageSeen],
    /// Partitions of its topics as they are in Kafka, by name.
    pub sizes: BTreeMap<String, u32>,
    /// What the status says: what was learnt before a restart.
    pub before: Option<&'r HerdPipelineStatus>,
}

impl Default for Scaler {
    fn default() -> Self {
        Self { pipelines: Mutex::default(), triggers: broadcast::channel(TRIGGERS).0 }
    }
}

impl Scaler {
    /// Pipelines that have something to carry out or to tell.
    #[must_use]
    pub fn triggers(&self) -> broadcast::Receiver<ObjectRef<HerdPipeline>> {
        self.triggers.subscribe()
    }

    /// Brings a pipeline back to mind.
    pub fn remind(&self, pipeline: ObjectRef<HerdPipeline>) {
        // Nobody listens only while watches begin or end: then every pipeline is looked at anyway.
        let _ = self.triggers.send(pipeline);
    }

    /// How many replicas a stage of the pipeline `uid` is to have. `live` is how many are asked of its Deployment now, none if
    /// there is no Deployment yet; `sizes` the partitions of its topics by name, as far as they are known.
    #[must_use]
    pub fn replicas(
        &self,
        uid: &str,
        plan: &Plan,
        stage: &Stage,
        (live, sizes): (Option<u32>, &Sizes),
        now: WallTime,
    ) -> u32 {
        let pipelines = self.pipelines.lock();
        let watched = pipelines.get(uid);
        let watch = watched.and_then(|watched| watched.stages.get(&stage.role));
        if let Some(decided) = watch.and_then(|watch| watch.decided(stage, plan)) {
            return decided.0;
        }
        let policy = watch::policy(stage, plan, sizes);
        let goes_on = live == Some(0) && watch.is_some_and(Watch::stood_still) && !plan.paused;
        match live {
            // After a pause it gets as many as wait for it with the next look, if that is carried out.
            Some(_) if goes_on && is_carried_out(stage) => 0,
            Some(_) if goes_on => policy.initial(now).0,
            Some(live) if is_scaled(stage) => policy.within(Replicas(live), now).0,
            _ => policy.initial(now).0,
        }
    }

    /// Takes note of a pipeline as it is now.
    pub fn register(&self, uid: &str, registration: Registration<'_>) {
        let Registration { namespace, name, kafka, plan, stages, seen, sizes, before } = registration;
        let mut pipelines = self.pipelines.lock();
        let watched = pipelines.entry(uid.into()).or_insert_with(|| Watched {
            namespace: namespace.into(),
            name: name.into(),
            kafka: None,
            sizes: Sizes::new(),
            events: Rate::default(),
            kafka_seen: KafkaSeen::default(),
            kafka_since: None,
            pods: PodsSeen::default(),
            stages: BTreeMap::new(),
            told: None,
            urgent: false,
            blocked: false,
        });
        watched.blocked = false;
        watched.kafka = kafka;
        watched.sizes = sizes;
        watched.events.topic.clone_from(&plan.topics.events.name);
        watched.stages.retain(|role, _| stages.iter().any(|stage| stage.role == *role));
        for (stage, seen) in stages.iter().zip(seen) {
            if stage.role == Role::Api {
                continue;
            }
            let watch = watched.stages.entry(stage.role.clone()).or_insert_with(|| {
                let before =
                    before.and_then(|before| before.stages.iter().find(|s| s.name == seen.status.name));
                Watch::of(stage, plan, &watched.sizes, before)
            });
            watch.update(stage, plan, &watched.sizes, seen);
        }
    }

    /// What the status says of the pipeline `uid`; none before it was looked at.
    #[must_use]
    pub fn report(&self, uid: &str) -> Option<PipelineReport> {
        Some(self.pipelines.lock().get(uid)?.told.as_ref()?.0.clone())
    }

    /// How the Kafka of the pipeline `uid` was seen last.
    #[must_use]
    pub fn kafka(&self, uid: &str) -> KafkaSeen {
        self.pipelines.lock().get(uid).map(|watched| watched.kafka_seen.clone()).unwrap_or_default()
    }

    /// What is wrong with the pods of the pipeline `uid`, by stage.
    #[must_use]
    pub fn troubles(&self, uid: &str) -> BTreeMap<String, Trouble> {
        let pipelines = self.pipelines.lock();
        let troubles = pipelines.get(uid).into_iter().flat_map(|watched| &watched.pods.troubles);
        troubles.map(|(role, (trouble, _))| (role.clone(), trouble.clone())).collect()
    }

    /// Nothing can be carried out for a pipeline until it is registered again.
    pub fn block(&self, uid: &str) {
        if let Some(watched) = self.pipelines.lock().get_mut(uid) {
            watched.blocked = true;
        }
    }

    /// Forgets a pipeline.
    pub fn forget(&self, uid: &str) {
        self.pipelines.lock().remove(uid);
    }

    /// The uids of the pipelines of a namespace (none: of all) that are watched.
    #[must_use]
    pub fn known_in(&self, namespace: Option<&str>) -> Vec<String> {
        let pipelines = self.pipelines.lock();
        let within =
            pipelines.iter().filter(|(_, watched)| namespace.is_none_or(|name| watched.namespace == name));
        within.map(|(uid, _)| uid.clone()).collect()
    }

    /// What to ask of which cluster, by the way to it.
    fn asks(&self, scope: Scope) -> Vec<look::Ask> {
        let mut clusters: BTreeMap<String, look::Ask> = BTreeMap::new();
        for (uid, watched) in self.pipelines.lock().iter().filter(|(_, watched)| scope.has(watched)) {
            let Some((way, bus)) = &watched.kafka else { continue };
            if watched.sizes.is_empty() {
                continue;
            }
            let groups =
                watched.stages.iter().filter_map(|(role, watch)| Some((role.clone(), watch.reads.clone()?)));
            let groups: Vec<(Role, Reads)> = groups.collect();
            let matters = |topic: &String| {
                watched.events.topic == *topic || groups.iter().any(|(_, reads)| reads.topics.contains(topic))
            };
            // Of topics whose records nobody counts, one partition tells whether they are there.
            let sizes = watched.sizes.iter();
            let sizes =
                sizes.map(|(topic, size)| (topic.clone(), if matters(topic) { *size } else { 1.min(*size) }));
            let sizes = sizes.collect();
            let ask = look::PipelineAsk { uid: uid.clone(), sizes, groups };
            let cluster = clusters.entry(way.clone());
            let cluster = cluster.or_insert_with(|| look::Ask { bus: bus.clone(), pipelines: Vec::new() });
            cluster.pipelines.push(ask);
        }
        clusters.into_values().collect()
    }

    /// What a group had committed when nothing waited for it, if nothing has come since.
    fn quiet(&self, uid: &str, role: &Role, ends: &Places) -> Option<Places> {
        self.pipelines.lock().get(uid)?.stages.get(role)?.quiet_at(ends)
    }

    /// Takes in what was seen of a cluster.
    fn saw(&self, at: WallTime, looked: &look::Looked) {
        let mut pipelines = self.pipelines.lock();
        for asked in &looked.pipelines {
            let Some(watched) = pipelines.get_mut(&asked.uid) else { continue };
            let kafka = match &looked.spans {
                Ok((_, ends)) => {
                    let of = |topic: &str| {
                        let first = (topic.to_owned(), Partition(0));
                        let topic = topic.to_owned();
                        ends.range(first..).take_while(move |((name, _), _)| *name == topic)
                    };
                    let there = |topic: &String| of(topic).next().is_some();
                    let lost = asked.sizes.iter().filter(|(topic, size)| **size > 0 && !there(topic));
                    let lost: BTreeSet<String> = lost.map(|(topic, _)| topic.clone()).collect();
                    if there(&watched.events.topic) {
                        watched.events.push(at, of(&watched.events.topic).map(|(_, Offset(at))| *at).sum());
                    } else {
                        watched.events.lose();
                    }
                    if lost.is_empty() { KafkaSeen::Well } else { KafkaSeen::Without(lost) }
                }
                Err(blind) => {
                    watched.events.lose();
                    blind.outage.clone().map_or(KafkaSeen::Unknown, KafkaSeen::Away)
                }
            };
            // Of several brokers that are away, each look names another: that is no news for a while.
            let same = matches!((&watched.kafka_seen, &kafka), (KafkaSeen::Away(a), KafkaSeen::Away(b)) if a.reason == b.reason);
            let told = same && watched.kafka_since.is_some_and(|since| since.elapsed() < SAME_WORDS);
            if kafka != watched.kafka_seen && !told {
                watched.kafka_since = Some(Instant::now());
                // That it is there is no news at first.
                watched.urgent |= (&watched.kafka_seen, &kafka) != (&KafkaSeen::Unknown, &KafkaSeen::Well);
                watched.kafka_seen = kafka;
            }
            for (role, _) in &asked.groups {
                let Some(watch) = watched.stages.get_mut(role) else { continue };
                match (&looked.spans, looked.groups.get(&(asked.uid.clone(), role.clone()))) {
                    (Ok(spans), Some(Ok((committed, stable)))) => {
                        watch.look(at, &asked.sizes, spans, committed, *stable);
                    }
                    (Err(blind), _) => watch.fail(at, &blind.why),
                    (_, Some(Err(why))) => watch.fail(at, why),
                    (Ok(_), None) => {}
                }
            }
        }
    }

    /// Whether one more look decides about any of them.
    fn is_in_doubt(&self) -> bool {
        self.pipelines.lock().values().any(|watched| Scope::InDoubt.has(watched))
    }

    /// Decides about all their stages; names the pipelines that have something to carry out or to tell, and why replicas change.
    fn decide(&self, scope: Scope, now: WallTime) -> Vec<(ObjectRef<HerdPipeline>, Vec<&'static str>)> {
        let mut news = Vec::new();
        for watched in self.pipelines.lock().values_mut().filter(|watched| scope.has(watched)) {
            let mut reasons = Vec::new();
            let mut change = false;
            for watch in watched.stages.values_mut() {
                let waited = watch.waits();
                let changes = watch.decide(now);
                change |= changes;
                if changes && !waited {
                    reasons.extend(watch.decision.as_ref().map(|decision| decision.reason.name()));
                }
            }
            let report = PipelineReport {
                events_per_second: watched.events.a_second().map(report::two_digits),
                alerts: watched.pods.alerts,
                outage: match &watched.kafka_seen {
                    KafkaSeen::Away(trouble) => Some(trouble.clone()),
                    _ => None,
                },
                stages: watched
                    .stages
                    .iter()
                    .filter_map(|(role, watch)| Some((role.clone(), report::of(watch)?)))
                    .collect(),
            };
            let urgent = std::mem::take(&mut watched.urgent);
            let tell = urgent
                || watched.told.as_ref().is_none_or(|(told, at)| {
                    report.has_scaled(told) || (!told.says(&report) && at.elapsed() >= NEWS)
                });
            if tell {
                watched.told = Some((report, Instant::now()));
            }
            if !watched.blocked && (tell || change) {
                news.push((ObjectRef::new(&watched.name).within(&watched.namespace), reasons));
            }
        }
        news
    }

    /// Pipelines with pods: uid, namespace and name, and of which stages to ask how busy they are: those that are scaled.
    fn pods(&self, scope: Scope) -> Vec<(String, (String, String), pods::Asked)> {
        let mut asks = Vec::new();
        for (uid, watched) in self.pipelines.lock().iter().filter(|(_, watched)| scope.has(watched)) {
            let scaled =
                watched.stages.iter().filter(|(_, watch)| watch.is_scaled() && watch.pods.ready.0 > 0);
            let busy = scaled.map(|(role, watch)| (role.to_string(), watch.cores)).collect();
            let place = (watched.namespace.clone(), watched.name.clone());
            asks.push((uid.clone(), place, pods::Asked { busy }));
        }
        asks
    }

    /// Something about a pipeline is to be told at once.
    fn urge(&self, uid: &str) {
        if let Some(watched) = self.pipelines.lock().get_mut(uid) {
            watched.urgent = true;
        }
    }

    /// Takes in what is wrong with a pipeline's pods, by stage, and the alerts that are open.
    fn pods_report(&self, uid: &str, troubles: BTreeMap<String, Trouble>, alerts: Option<u64>) {
        let mut pipelines = self.pipelines.lock();
        let Some(watched) = pipelines.get_mut(uid) else { return };
        let before = std::mem::take(&mut watched.pods.troubles);
        let reasons = |role: &String| before.get(role).map(|(trouble, _)| trouble.reason);
        watched.urgent |= troubles.len() != before.len()
            || troubles.iter().any(|(role, trouble)| reasons(role) != Some(trouble.reason));
        let kept = |role: &String, trouble: Trouble| match before.get(role) {
            // Words with numbers that differ each time are no news.
            Some((old, at)) if old.reason == trouble.reason && at.elapsed() < SAME_WORDS => {
                (old.clone(), *at)
            }
            _ => (trouble, Instant::now()),
        };
        let now = troubles.into_iter().map(|(role, trouble)| (role.clone(), kept(&role, trouble))).collect();
        watched.pods = PodsSeen { troubles: now, alerts };
    }

    /// Takes in what a stage's pods said; none: none of them said anything.
    fn pods_said(&self, at: WallTime, uid: &str, role: &str, seen: Option<pods::Seen>) {
        let mut pipelines = self.pipelines.lock();
        let stages = pipelines.get_mut(uid).into_iter().flat_map(|watched| &mut watched.stages);
        for (_, watch) in stages.filter(|(other, _)| other.to_string() == role) {
            watch.pods_said(at, seen);
        }
    }
}

/// Whether what is decided about a stage is carried out.
fn is_carried_out(stage: &Stage) -> bool {
    stage.size.scaling.as_ref().is_some_and(|scaling| scaling.mode == ScalingMode::Auto)
}

/// Whether somebody asks for a stage to be scaled.
#[must_use]
pub fn is_scaled(stage: &Stage) -> bool {
    stage.size.scaling.as_ref().is_some_and(|scaling| scaling.mode != ScalingMode::Off)
}
