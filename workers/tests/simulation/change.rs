//! A pipeline whose spec is changed while it runs: what can change, and what must have come of it. Members take the new spec
//! over one after the other, as in a rolling update.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use herd_bus::simulated::{Dice, Kept};
use herd_spec::pipeline::ZscoreSpec;
use herd_spec::plan::{AggregatePlan, Algorithm, Condition, DetectorPlan, MetricPlan, Plan, Test, Threshold};
use herd_spec::wire::{AlertState, FieldPath, Fingerprint};
use serde_json::Value;

use crate::checker::{self, Accepted, Checker, Finding, Kind};
use crate::plan::{ALERTS, PARTS, WINDOWS};
use crate::run::RunResult;
use crate::scenario::{BEGIN, Event, Fault, Scenario, ScheduledFault, Stage};

/// Every definition that changes may give a metric of this name, one at a time.
pub(crate) fn known(name: &str) -> Vec<MetricPlan> {
    let plans = Change::ALL.iter().map(|change| {
        let mut plan = crate::plan::of(1, 1);
        change.apply(&mut plan);
        plan
    });
    let plans = plans.chain([crate::plan::of(1, 1)]);
    let mut known: Vec<MetricPlan> = plans.filter_map(|plan| plan.metric(name).cloned()).collect();
    known.dedup_by_key(|metric| metric.baseline_definition());
    known
}

/// A change of the spec. Most can be taken back by making them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Window,
    LongestWindow,
    Aggregate,
    Key,
    Types,
    Condition,
    MaxKeys,
    Emit,
    MaxLateness,
    Metric,
    Detector,
    DetectorName,
    Algorithm,
    Bound,
}

impl Change {
    const ALL: [Self; 14] = [
        Self::Window,
        Self::LongestWindow,
        Self::Aggregate,
        Self::Key,
        Self::Types,
        Self::Condition,
        Self::MaxKeys,
        Self::Emit,
        Self::MaxLateness,
        Self::Metric,
        Self::Detector,
        Self::DetectorName,
        Self::Algorithm,
        Self::Bound,
    ];

    /// Makes the change, or takes it back.
    pub(crate) fn apply(self, plan: &mut Plan) {
        let before = crate::plan::of(1, 1);
        let metric = |plan: &mut Plan, name: &str, change: &dyn Fn(&mut MetricPlan)| {
            let was = before.metrics.iter().find(|metric| metric.name == name);
            let now = plan.metrics.iter_mut().find(|metric| metric.name == name);
            if let (Some(was), Some(now)) = (was, now) {
                let mut changed = was.clone();
                change(&mut changed);
                *now = if *now == changed { was.clone() } else { changed };
            }
        };
        let algorithm = |plan: &mut Plan, name: &str, changed: Algorithm| {
            let was = before.detectors.iter().find(|detector| detector.name == name);
            if let (Some(was), Some(now)) = (was, plan.detectors.iter_mut().find(|now| now.name == name)) {
                now.algorithm = if now.algorithm == changed { was.algorithm.clone() } else { changed };
            }
        };
        match self {
            Self::Window => metric(plan, "views", &|views| views.window = Duration::from_secs(12)),
            Self::LongestWindow => metric(plan, "visitors", &|of| of.window = Duration::from_secs(30)),
            Self::Aggregate => metric(plan, "revenue", &|of| of.aggregate = AggregatePlan::Count),
            Self::Key => {
                metric(plan, "views", &|views| views.key = vec![FieldPath::ItemId, FieldPath::UserId])
            }
            Self::Types => metric(plan, "price", &|price| price.types.clear()),
            Self::Condition => metric(plan, "revenue", &|revenue| {
                let price = FieldPath::Property(vec!["price".into()]);
                revenue.conditions = vec![Condition { field: price, test: Test::AtLeast(50.0) }];
            }),
            Self::MaxKeys => metric(plan, "views", &|views| views.max_keys = 2),
            Self::Emit => metric(plan, "visitors", &|visitors| visitors.emit = Duration::from_secs(10)),
            Self::MaxLateness => {
                let longer = Duration::from_secs(15);
                let was = before.events.max_lateness;
                plan.events.max_lateness = if plan.events.max_lateness == longer { was } else { longer };
            }
            Self::Metric => match plan.metrics.iter().position(|metric| metric.name == "price") {
                Some(place) => {
                    plan.metrics.remove(place);
                    plan.detectors.retain(|detector| detector.metric != "price");
                }
                None => {
                    plan.metrics.extend(before.metrics.iter().filter(|of| of.name == "price").cloned());
                    plan.detectors.extend(before.detectors.iter().filter(|of| of.metric == "price").cloned());
                }
            },
            Self::Detector => match plan.detectors.iter().position(|of| of.name == "either") {
                Some(place) => drop(plan.detectors.remove(place)),
                None => {
                    plan.detectors.extend(before.detectors.iter().filter(|of| of.name == "either").cloned());
                }
            },
            Self::DetectorName => {
                for detector in &mut plan.detectors {
                    detector.name = match detector.name.as_str() {
                        "crowd" => "throng".parse().unwrap(),
                        "throng" => "crowd".parse().unwrap(),
                        _ => continue,
                    };
                }
            }
            Self::Algorithm => {
                let zscore = ZscoreSpec { sigmas: 2.0, history: 6, warmup: 2 };
                algorithm(plan, "spree", Algorithm::Zscore(zscore));
            }
            Self::Bound => {
                algorithm(plan, "rich", Algorithm::Threshold(Threshold::Above(60.0)));
            }
        }
    }
}

impl Scenario {
    /// A seed with changes of the spec. Every second one is otherwise calm: then everything is known to the event.
    pub(crate) fn changing(seed: u64) -> Self {
        let mut dice = Dice::new(seed, &[104]);
        let mut scenario = Self::of(seed);
        if scenario.scale != 1 {
            scenario = Self::of_scale(seed, 1);
        }
        if seed.is_multiple_of(2) {
            scenario = scenario.calm();
        }
        for number in 0..dice.between(1, 3) {
            // One is over before the next begins, mostly.
            let at = dice.between(6_000, 16_000) + number * 18_000;
            let what = Fault::Change(*dice.pick(&Change::ALL), dice.chance(0.3));
            let fault = ScheduledFault { at, after: 0, stage: Stage::Fold, place: 0, what };
            // Some are taken back while windows from before them are still open.
            let back = dice
                .chance(0.3)
                .then(|| ScheduledFault { at: at + dice.between(5_000, 9_000), ..fault.clone() });
            scenario.faults.extend([Some(fault), back].into_iter().flatten());
        }
        scenario.faults.retain(|fault| fault.at < scenario.until);
        scenario.faults.sort_by_key(|fault| fault.at);
        scenario
    }
}

/// Checks a run with changes.
pub(crate) fn check(scenario: &Scenario, outcome: &RunResult) -> Vec<Finding> {
    let checker = Checker::new(scenario, outcome);
    let mut findings = Vec::new();
    windows(&checker, scenario.is_calm(), &mut findings);
    alerts(outcome, &mut findings);
    findings
}

/// Every definition that a metric of this name had, in order.
fn definitions(outcome: &RunResult) -> BTreeMap<&str, BTreeMap<Fingerprint, &MetricPlan>> {
    let mut definitions: BTreeMap<&str, BTreeMap<Fingerprint, &MetricPlan>> = BTreeMap::new();
    for metric in outcome.plans.iter().flat_map(|(_, plan)| &plan.metrics) {
        definitions.entry(&metric.name).or_default().insert(metric.definition(), metric);
    }
    definitions
}

fn counts(metric: &MetricPlan, event: &Event) -> bool {
    let kind = if event.purchase { "purchase" } else { "view" };
    let dear = metric.conditions.is_empty() || event.cents >= 5_000;
    dear && (metric.types.is_empty() || metric.types.iter().any(|name| name == kind))
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// A window of a definition, all its keys together: metric, definition, start.
type Name = (String, Fingerprint, i64);

fn name(record: &Value) -> Option<Name> {
    let definition = record["def"].as_str().or(record["definition"].as_str())?;
    Some((record["metric"].as_str()?.to_owned(), Fingerprint::parse(definition)?, number(&record["start"])))
}

/// What was counted into the closed windows, all keys together. A window that closed twice with different values is a finding.
fn closed(
    outcome: &RunResult,
    findings: &mut Vec<Finding>,
    uncertain: &BTreeSet<Name>,
) -> BTreeMap<Name, u64> {
    let mut said: BTreeMap<(Name, String), BTreeSet<u64>> = BTreeMap::new();
    for record in outcome.topics[WINDOWS].iter().filter_map(|record| checker::json(record)) {
        if let (true, Some(name)) = (record["final"] == true, name(&record)) {
            let key = record["key"].as_str().unwrap_or_default().to_owned();
            said.entry((name, key)).or_default().insert(number(&record["count"]).unsigned_abs());
        }
    }
    let mut closed = BTreeMap::new();
    for ((name, key), counts) in said {
        if counts.len() > 1 && !uncertain.contains(&name) {
            let what = format!("window {name:?} of {key} closed as {counts:?}");
            findings.push(Finding::new(Kind::Inconsistent, what, outcome.log.clone()));
        }
        *closed.entry(name).or_default() += counts.last().copied().unwrap_or_default();
    }
    closed
}

/// By which definition each source counted from where on, as its parts say.
fn since(outcome: &RunResult) -> BTreeMap<(String, u32), BTreeMap<i64, Fingerprint>> {
    let mut since: BTreeMap<(String, u32), BTreeMap<i64, Fingerprint>> = BTreeMap::new();
    for record in outcome.topics[PARTS].iter().filter_map(|record| checker::json(record)) {
        if let Some((metric, definition, _)) = name(&record) {
            let source = u32::try_from(number(&record["source"])).unwrap_or_default();
            since.entry((metric, source)).or_default().insert(number(&record["since"]), definition);
        }
    }
    since
}

fn windows(checker: &Checker<'_>, calm: bool, findings: &mut Vec<Finding>) {
    let outcome = checker.outcome;
    let definitions = definitions(outcome);
    let since = since(outcome);
    // For each window: events in it for certain, and at most.
    let mut expected: BTreeMap<Name, (u64, u64)> = BTreeMap::new();
    let mut uncertain = BTreeSet::new();
    // For each metric: events that must be in some window of it.
    let mut least: BTreeMap<&str, u64> = BTreeMap::new();
    for accepted in checker.accepted() {
        let Accepted { event, is_certain, copies, partition, offset } = accepted;
        for (metric, of) in &definitions {
            let in_force = since.get(&((*metric).to_owned(), partition));
            let in_force = in_force.and_then(|since| since.range(..=offset).next_back()).map(|(_, of)| *of);
            let always = outcome.plans.iter().all(|(_, plan)| plan.metric(metric).is_some());
            let by_all = of.values().all(|of| counts(of, event));
            if is_certain && always && by_all {
                *least.entry(metric).or_default() += 1;
            }
            for (definition, of) in of.iter().filter(|(_, of)| counts(of, event)) {
                let size = i64::try_from(of.window.as_millis()).unwrap();
                let name = ((*metric).to_owned(), *definition, event.time.div_euclid(size) * size);
                let window = expected.entry(name.clone()).or_default();
                // Who is killed while it counts may have sent what it did not commit, and a definition that comes back counts
                // that again: at most once each time it came into force.
                let came = |since: &BTreeMap<i64, Fingerprint>| {
                    since.values().filter(|of| *of == definition).count()
                };
                let times = since.get(&((*metric).to_owned(), partition)).map_or(1, came).max(1);
                window.1 += (copies * if calm { 1 } else { times }) as u64;
                // A definition by which no event was counted left no part, and so nobody says when it came into force.
                if !is_certain || !always || !by_all {
                    uncertain.insert(name);
                } else if in_force == Some(*definition) {
                    window.0 += 1;
                }
            }
        }
    }
    let closed = closed(outcome, findings, &uncertain);
    let mut total: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in &closed {
        *total.entry(&name.0).or_default() += count;
        let (least, most) = expected.get(name).copied().unwrap_or_default();
        let is_exact = calm && !uncertain.contains(name);
        let kind = match () {
            () if *count > most => Kind::Duplicate,
            () if is_exact && *count > least => Kind::Duplicate,
            () if is_exact && *count < least => Kind::Unseen,
            () => continue,
        };
        let what = format!("window {name:?} must hold {least} to {most} events, and holds {count}");
        findings.push(Finding::new(kind, what, outcome.log.clone()));
    }
    for (metric, least) in least {
        let total = total.get(metric).copied().unwrap_or_default();
        if total < least {
            let what = format!("{} of {least} events are in no window of {metric}", least - total);
            findings.push(Finding::new(Kind::Unseen, what, outcome.log.clone()));
        }
    }
    if calm {
        for (name, (least, _)) in
            expected.iter().filter(|(name, (least, _))| *least > 0 && !closed.contains_key(*name))
        {
            let what = format!("window {name:?} of {least} events never closed");
            findings.push(Finding::new(Kind::Unseen, what, outcome.log.clone()));
        }
    }
}

/// No alert is left to detectors that are gone, and none is raised by what was learnt from another definition.
fn alerts(outcome: &RunResult, findings: &mut Vec<Finding>) {
    let (_, last) = outcome.plans.last().unwrap();
    let changed = |time: i64, metric: &str, detector: &str| {
        let of = |plan: &Plan| {
            let learning = plan.detectors.iter().find(|of| of.name == detector).map(|of| {
                let threshold = matches!(of.algorithm, Algorithm::Threshold(_));
                (of.metric.clone(), threshold, of.algorithm.clone())
            });
            (plan.metric(metric).map(MetricPlan::baseline_definition), learning)
        };
        let then = outcome.plans.iter().rfind(|(at, _)| *at <= time).map(|(_, plan)| of(plan));
        let now = of(last);
        match (then, now) {
            (Some((then, Some(learnt))), (now, Some(learns))) => {
                then != now || (learnt != learns && !(learnt.1 && learns.1))
            }
            _ => true,
        }
    };
    let mut state: BTreeMap<String, (AlertState, Value, i64)> = BTreeMap::new();
    for record in &outcome.topics[ALERTS] {
        let Some(alert) = checker::json(record) else { continue };
        let rank: AlertState = serde_json::from_value(alert["state"].clone()).unwrap();
        let id = alert["id"].as_str().unwrap_or_default().to_owned();
        let at = written(record);
        let known = state.entry(id).or_insert((rank, alert.clone(), at));
        if known.0 < rank {
            (known.0, known.1) = (rank, alert);
        }
    }
    for (id, (rank, alert, at)) in state {
        let [metric, detector] =
            ["metric", "detector"].map(|field| alert[field].as_str().unwrap_or_default());
        // Who raises an alert while the change is carried out may have the spec from before or after it.
        if rank.is_firing() && changed(at, metric, detector) && changed(at - 30_000, metric, detector) {
            let what = format!("alert {id} of {detector} fires for ever: {alert}");
            findings.push(Finding::new(Kind::Unseen, what, outcome.log.clone()));
        }
    }
    let (_, first) = &outcome.plans[0];
    for metric in &last.metrics {
        let learnt = |was: &MetricPlan| was.baseline_definition() == metric.baseline_definition();
        let is_new = !first.metric(&metric.name).is_some_and(learnt);
        let learns = |of: &&DetectorPlan| !matches!(of.algorithm, Algorithm::Threshold(_));
        let learners = last.detectors.iter().filter(|of| of.metric == metric.name).filter(learns);
        for detector in learners.filter(|_| is_new) {
            young_alerts(outcome, metric, detector, findings);
        }
    }
}

/// A key's first windows of a new definition cannot be unusual: nothing is learnt yet. `crowd` knows what keys are like after
/// the first windows of the metric, and then a new key may be unusual at once.
fn young_alerts(
    outcome: &RunResult,
    metric: &MetricPlan,
    detector: &DetectorPlan,
    findings: &mut Vec<Finding>,
) {
    let is_crowd = matches!(detector.algorithm, Algorithm::Crowd(_));
    // Two windows is the shortest warm-up of the plan's other detectors.
    let windows = if is_crowd { i64::from(detector.algorithm.warmup()) } else { 2 };
    let size = i64::try_from(metric.window.as_millis()).unwrap();
    let mut first: BTreeMap<String, i64> = BTreeMap::new();
    for record in outcome.topics[WINDOWS].iter().filter_map(|record| checker::json(record)) {
        if name(&record)
            .is_some_and(|(of, definition, _)| metric.name == of && definition == metric.definition())
        {
            let start = number(&record["start"]);
            let key = if is_crowd { "" } else { record["key"].as_str().unwrap_or_default() };
            let first = first.entry(key.to_owned()).or_insert(start);
            *first = start.min(*first);
        }
    }
    for alert in outcome.topics[ALERTS].iter().filter_map(|record| checker::json(record)) {
        let key = if is_crowd { "" } else { alert["key"].as_str().unwrap_or_default() };
        let ours = alert["detector"] == *detector.name && number(&alert["size_ms"]) == size;
        let Some(first) = first.get(key).filter(|_| ours && alert["state"] != "resolved") else { continue };
        if (*first..first + windows * size).contains(&number(&alert["start"])) {
            let what = format!(
                "an alert in the first windows of a definition, which nothing can be known of: {alert}"
            );
            findings.push(Finding::new(Kind::Invented, what, outcome.log.clone()));
        }
    }
}

fn written(record: &Kept) -> i64 {
    record.written.0 - BEGIN
}
