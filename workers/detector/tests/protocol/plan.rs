//! What is counted and watched.

use std::collections::BTreeMap;
use std::time::Duration;

use herd_spec::pipeline::{Direction, EwmaSpec, LimitsSpec, PoissonSpec, ResourcesSpec};
use herd_spec::plan::{
    AggregatePlan, Algorithm, ApiPlan, CollectorPlan, DetectorPlan, EventsPlan, Groups, MappingPlan,
    MetricPlan, Plan, StagePlan, Threshold, TopicPlan, Topics,
};
use herd_spec::wire::{FieldPath, Severity};

pub(crate) const LATENESS: i64 = 30_000;
pub(crate) const EMIT: Duration = Duration::from_secs(1);

pub(crate) fn plan() -> Plan {
    let metric = |name: &str, seconds| MetricPlan {
        name: name.parse().unwrap(),
        types: vec![],
        conditions: vec![],
        key: vec![FieldPath::ItemId],
        aggregate: AggregatePlan::Count,
        window: Duration::from_secs(seconds),
        emit: EMIT,
        max_keys: 1_000,
        users: false,
        early_parts: false,
    };
    let detector = |name: &str, metric: &str, direction, min_count, cooldown, algorithm| DetectorPlan {
        name: name.parse().unwrap(),
        metric: metric.parse().unwrap(),
        algorithm,
        direction,
        min_count,
        min_users: 0,
        cooldown: Duration::from_secs(cooldown),
        severity: Severity::Warning,
        explain: vec![],
    };
    let poisson = PoissonSpec { probability: 0.01, half_life: 5.0, warmup: 3 };
    let ewma = EwmaSpec { sigmas: 2.0, half_life: 5.0, warmup: 3 };
    let (crowd, either) = (Algorithm::Poisson(poisson), Algorithm::Ewma(ewma));
    let many = Algorithm::Threshold(Threshold::Above(12.0));
    Plan {
        metrics: vec![metric("short", 10), metric("long", 60)],
        detectors: vec![
            detector("crowd", "short", Direction::Up, 3, 60, crowd),
            detector("many", "long", Direction::Up, 5, 120, many),
            detector("either", "short", Direction::Both, 3, 30, either),
        ],
        ..empty_plan()
    }
}

/// A pipeline that counts nothing yet, on the embedded bus.
fn empty_plan() -> Plan {
    let topic = |name: &str| TopicPlan {
        name: format!("proof.{name}"),
        partitions: 1,
        replication: 1,
        config: BTreeMap::new(),
    };
    let stage = || StagePlan { replicas: 1, scaling: None, resources: ResourcesSpec::default() };
    let path = |names: &[&str]| names.iter().map(|name| vec![(*name).to_owned()]).collect::<Vec<_>>();
    Plan {
        pipeline: "proof".parse().unwrap(),
        kafka: None,
        topics: Topics {
            events: topic("events"),
            parts: topic("parts"),
            windows: topic("windows"),
            alerts: topic("alerts"),
            dead_letter: topic("dead-letter"),
            baselines: topic("baselines"),
        },
        groups: Groups {
            fold: "proof.fold".into(),
            judge: "proof.judge".into(),
            explain: "proof.explain".into(),
        },
        events: EventsPlan {
            mapping: MappingPlan {
                id: path(&["event_id"]),
                event_type: path(&["type"]),
                user: path(&["user_id"]),
                item: path(&["item_id"]),
                time: path(&["time"]),
            },
            types: vec![],
            schema: None,
            key: FieldPath::UserId,
            max_lateness: Duration::from_millis(LATENESS.unsigned_abs()),
            max_clock_skew: Duration::from_secs(60),
            max_age: None,
        },
        collector: CollectorPlan {
            keys: vec![],
            origins: vec![],
            trusted_proxies: vec![],
            context: Default::default(),
            limits: LimitsSpec::default(),
            stage: stage(),
        },
        metrics: vec![],
        detectors: vec![],
        detection: stage(),
        sinks: vec![],
        api: ApiPlan { token: None, store: None, simulate: false, stage: stage() },
        paused: false,
    }
}
