//! The detectors of each metric, compiled, with the numbers both need in windows.

use std::sync::Arc;

use herd_detection::crowd;
use herd_spec::pipeline::AggregateFunction;
use herd_spec::plan::{ALL_KEY, MetricPlan, Plan};
use herd_spec::units::{EventTime, millis};
use herd_spec::wire::{Band, Fingerprint, Severity, metric_key};
use xxhash_rust::xxh3::Xxh3;

use super::{levels, totals_watch};
use crate::algorithm::{Expectation, Rule};

/// A metric and what watches it.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The metric.
    pub metric: MetricPlan,
    /// Its definition.
    pub definition: Fingerprint,
    /// What the keys of its records in `baselines` begin with: its name and the definition that baselines are learnt from.
    pub baselines: String,
    /// Its detectors, in the order of the plan.
    pub watches: Vec<Watch>,
    /// Window `w` is scored against the baseline after `w − lag`: [`Plan::baseline_lag`].
    pub lag: u32,
    /// After this many windows without an event a key counts as never seen.
    pub memory: u32,
}

/// A detector.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Its name.
    pub name: String,
    /// Its rule.
    pub rule: Rule,
    /// What `crowd` is told, where that is its algorithm.
    pub crowd: Option<crowd::Settings>,
    /// What `level` is told, where that is its algorithm.
    pub level: Option<levels::Settings>,
    /// The score from which on the total of the metric alerts, where the detector watches it.
    pub total: Option<f64>,
    /// An alert of more than usual needs so many events.
    pub min_count: u64,
    /// And so many different users.
    pub min_users: u64,
    /// Pause between alerts of a key, in windows, rounded up.
    pub cooldown: u32,
    /// How much its alerts matter.
    pub severity: Severity,
    /// What its alerts are raised by: [`herd_spec::wire::Alert::rule`].
    pub rule_hash: Fingerprint,
}

/// Stands between definition and detector in the key of a population.
pub(super) const POPULATION: char = '/';

/// A window by its place since 1970: `1 + start / size`, so that there is one before the first.
pub type Index = u32;

impl Watch {
    /// Whether its algorithm follows episodes over windows, also those without an event, instead of looking at single windows.
    #[must_use]
    pub fn follows_episodes(&self) -> bool {
        self.crowd.is_some() || self.level.is_some()
    }
}

impl Watched {
    /// Identifies all rules of a plan: while it is the same, every open alert has the detector that will resolve it.
    #[must_use]
    pub fn rules(all: &[Arc<Self>]) -> Fingerprint {
        let rules = all.iter().flat_map(|watched| &watched.watches);
        let mut rules: Vec<String> =
            rules.map(|watch| format!("{} {}", watch.name, watch.rule_hash)).collect();
        rules.sort_unstable();
        hash(rules.iter().map(String::as_str))
    }

    /// Every metric of the plan.
    #[must_use]
    pub fn all(plan: &Plan) -> Vec<Arc<Self>> {
        plan.metrics.iter().map(|metric| Arc::new(Self::of(plan, metric))).collect()
    }

    fn of(plan: &Plan, metric: &MetricPlan) -> Self {
        let size = metric.window.as_millis().max(1);
        let baselines = format!("{}@{}", metric.name, metric.baseline_definition());
        let lag = plan.baseline_lag(metric);
        let has_total = totals_watch::is_watched(metric);
        let keys_share = if has_total { 1.0 - totals_watch::SHARE } else { 1.0 };
        let watches: Vec<Watch> = plan
            .detectors
            .iter()
            .filter(|detector| detector.metric == metric.name)
            .map(|detector| (detector, Rule::of(detector, metric.aggregate.function())))
            .map(|(detector, rule)| Watch {
                name: detector.name.to_string(),
                rule_hash: hash([baselines.as_str(), &rule.learning()]),
                crowd: rule.crowd(metric.window, lag, plan.topics.parts.partitions, keys_share),
                level: rule.level(metric.window, plan.topics.parts.partitions, keys_share),
                total: rule.limit().filter(|_| has_total).map(|limit| totals_watch::threshold(metric, limit)),
                min_count: detector.min_count,
                min_users: detector.min_users,
                rule,
                cooldown: u32::try_from(detector.cooldown.as_millis().div_ceil(size)).unwrap_or(u32::MAX),
                severity: detector.severity,
            })
            .collect();
        let remembered =
            watches.iter().map(|watch| watch.rule.memory().max(watch.cooldown.min(10_000))).max();
        Self {
            metric: metric.clone(),
            definition: metric.definition(),
            baselines,
            watches,
            lag,
            memory: remembered.unwrap_or(0).saturating_add(lag),
        }
    }

    /// The key in `baselines` of what the keys of a detector have in common. No key of a baseline begins like this: there the
    /// definition ends with the separator.
    #[must_use]
    pub fn population_key(&self, detector: &str) -> Vec<u8> {
        metric_key(&format!("{}{POPULATION}{detector}", self.baselines), "")
    }

    /// The key in `baselines` of what a detector knows of the metric's total.
    #[must_use]
    pub fn total_key(&self, detector: &str) -> Vec<u8> {
        metric_key(&format!("{}{POPULATION}{detector}", self.baselines), ALL_KEY)
    }

    /// The place of the window that starts at `start`; times before 1970 count as 1970.
    #[must_use]
    pub fn index(&self, start: EventTime) -> Index {
        Index::try_from(1 + start.0.max(0) / millis(self.metric.window).max(1)).unwrap_or(Index::MAX)
    }

    /// Whether a window starts at `start`: not before 1970, and not beyond what can be numbered.
    #[must_use]
    pub fn is_start(&self, start: EventTime) -> bool {
        self.start(self.index(start)) == start
    }

    /// Where the window at `index` starts.
    #[must_use]
    pub fn start(&self, index: Index) -> EventTime {
        EventTime((i64::from(index) - 1).saturating_mul(millis(self.metric.window)))
    }

    /// The newest window that is closed when everything up to `closed` is.
    #[must_use]
    pub fn newest_closed(&self, closed: EventTime) -> Index {
        self.index(closed) - 1
    }

    /// What a window without an event is worth: nothing was counted or added, but an average of nothing is not 0.
    #[must_use]
    pub fn silence(&self) -> Option<f64> {
        (self.metric.aggregate.function() != AggregateFunction::Mean).then_some(0.0)
    }

    /// What its detectors that look at single windows took for usual in one with this value.
    #[must_use]
    pub fn bands(&self, expectations: &[Option<Expectation>], value: f64) -> Vec<Band> {
        let band = |(watch, expectation): (&Watch, &Option<Expectation>)| {
            let range = expectation.as_ref().filter(|range| range.upper.is_finite())?;
            Some(Band {
                detector: watch.name.clone(),
                expected: range.expected,
                lower: if range.lower.is_finite() { range.lower } else { 0.0 },
                upper: range.upper,
                score: watch.rule.score(range, value),
            })
        };
        self.watches.iter().zip(expectations).filter_map(band).collect()
    }

    /// Whether any detector demands a number of users: counting them costs time, which is spent for no other reason.
    #[must_use]
    pub fn demands_users(&self) -> bool {
        self.watches.iter().any(|watch| watch.min_users > 0)
    }

    /// Whether any detector alerts when a key falls silent.
    #[must_use]
    pub fn watches_drops(&self) -> bool {
        self.watches.iter().any(|watch| watch.rule.watches_drops())
    }
}

fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> Fingerprint {
    let mut hash = Xxh3::new();
    for text in texts {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    Fingerprint::of_hash(hash.digest())
}
