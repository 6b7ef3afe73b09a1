//! The pipeline under test: all four aggregates, every algorithm, windows of three lengths.

use std::time::Duration;

use herd_spec::pipeline::{Direction, EwmaSpec, MadSpec, PoissonSpec, ZscoreSpec};
use herd_spec::plan::{
    AggregatePlan, AlertLimit, Algorithm, DetectorPlan, MetricPlan, Plan, Threshold, Topics,
};
use herd_spec::wire::{FieldPath, Severity};

/// How far events may lag behind the newest, in milliseconds.
pub(crate) const LATENESS: i64 = 10_000;

pub(crate) const EVENTS: &str = "sim.events";
pub(crate) const PARTS: &str = "sim.parts";
pub(crate) const WINDOWS: &str = "sim.windows";
pub(crate) const ALERTS: &str = "sim.alerts";
pub(crate) const BASELINES: &str = "sim.baselines";
pub(crate) const DEAD: &str = "sim.dead-letter";
pub(crate) const SINK: &str = "sim.sink.main";

pub(crate) fn of(sources: u32, judges: u32) -> Plan {
    let yaml = format!(
        "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {{name: sim}}\nspec: {{events: {{\
         mapping: {{id: [event_id], type: [type], user: [user_id], item: [item_id], time: [time]}}, \
         types: [view, purchase], maxLateness: {LATENESS}ms, maxClockSkew: 1m, maxAge: 0s}}}}\n"
    );
    let mut plan = Plan::parse(&herd_spec::document::parse(&yaml).unwrap()).unwrap();
    let Topics { events, parts, windows, alerts, dead_letter, baselines } = &mut plan.topics;
    let partitions = [
        (events, sources),
        (parts, judges),
        (windows, 2),
        (alerts, 1),
        (dead_letter, 1),
        (baselines, judges),
    ];
    for (topic, partitions) in partitions {
        topic.partitions = partitions;
        topic.config.clear();
    }
    plan.collector.origins.clear();
    plan.metrics = metrics();
    plan.detectors = detectors();
    plan
}

fn metrics() -> Vec<MetricPlan> {
    let metric = |name: &str, types: &[&str], aggregate, seconds, emit| MetricPlan {
        name: name.parse().unwrap(),
        types: types.iter().map(|&name| name.to_owned()).collect(),
        conditions: vec![],
        key: vec![FieldPath::ItemId],
        aggregate,
        window: Duration::from_secs(seconds),
        emit: Duration::from_secs(emit),
        early_parts: matches!(name, "views" | "price"),
        max_keys: 1_000,
        users: name == "views", // as the detector `people` demands
    };
    let price = || FieldPath::Property(vec!["price".into()]);
    vec![
        metric("views", &[], AggregatePlan::Count, 5, 1),
        metric("revenue", &["purchase"], AggregatePlan::Sum(price()), 10, 1),
        metric("price", &["purchase"], AggregatePlan::Mean(price()), 10, 2),
        metric("visitors", &[], AggregatePlan::Unique(FieldPath::UserId), 20, 3),
    ]
}

fn detectors() -> Vec<DetectorPlan> {
    let detector = |name: &str, metric: &str, direction, cooldown, algorithm| DetectorPlan {
        name: name.parse().unwrap(),
        metric: metric.parse().unwrap(),
        algorithm,
        direction,
        min_count: 3,
        min_users: 0,
        cooldown: Duration::from_secs(cooldown),
        severity: Severity::Warning,
        explain: vec![],
    };
    let budget = "4000 per hour".parse().unwrap();
    let poisson = PoissonSpec { probability: 0.01, half_life: 5.0, warmup: 3 };
    let ewma = EwmaSpec { sigmas: 2.0, half_life: 5.0, warmup: 3 };
    let zscore = ZscoreSpec { sigmas: 2.0, history: 8, warmup: 2 };
    let mad = MadSpec { deviations: 2.0, history: 8, warmup: 2 };
    // Eight users send the events of a source.
    let people =
        detector("people", "views", Direction::Up, 0, Algorithm::Crowd(AlertLimit::Probability(0.02)));
    vec![
        detector("crowd", "views", Direction::Up, 20, Algorithm::Poisson(poisson)),
        detector("either", "views", Direction::Both, 15, Algorithm::Ewma(ewma)),
        // Loose, so that crowds are common.
        detector("herd", "views", Direction::Up, 0, Algorithm::Crowd(AlertLimit::Probability(0.02))),
        DetectorPlan { min_users: 5, ..people },
        detector("budgeted", "views", Direction::Both, 10, Algorithm::Crowd(AlertLimit::Budget(budget))),
        detector("rich", "revenue", Direction::Up, 30, Algorithm::Threshold(Threshold::Above(150.0))),
        detector("spree", "revenue", Direction::Up, 30, Algorithm::Mad(mad.clone())),
        detector("odd", "price", Direction::Both, 20, Algorithm::Zscore(zscore)),
        detector("many", "visitors", Direction::Up, 20, Algorithm::Mad(mad)),
    ]
}
