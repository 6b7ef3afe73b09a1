//! What must have come of a run, from the accepted events alone, by arithmetic that shares nothing with the pipeline's; and
//! what did not, by the names that Jepsen gives such things, with a short history.
//!
//! `records` checks events, users, refused records and positions, `windows` the closed windows, `alerts` the alerts, `crowds` those
//! that follow from the windows of all keys.

mod alerts;
mod crowds;
mod finding;
mod records;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use herd_bus::simulated::Kept;
use herd_spec::units::Partition;
use serde_json::Value;

pub(crate) use self::crowds::CrowdsChecked;
pub(crate) use self::finding::{Finding, Kind};
use crate::plan::EVENTS;
use crate::run::RunResult;
use crate::scenario::{BEGIN, Event, STRAY, Scenario, What};

/// A window: metric, key, start.
type Name = (String, String, i64);

/// What is known of a window.
#[derive(Clone, Debug, Default)]
struct ExpectedWindow {
    /// In it for certain.
    events: Vec<Event>,
    /// Perhaps in it: they came too late for any promise, or a retry went to another partition.
    perhaps: Vec<Event>,
    /// How often those may count: once for each partition they were written to.
    at_most: usize,
}

/// Count and value.
type Value2 = (u64, f64);

#[allow(clippy::cast_precision_loss)] // far below 2^53
fn value(metric: &str, events: &[Event]) -> Value2 {
    let count = events.len() as u64;
    let cents: i64 = events.iter().map(|event| event.cents).sum();
    let users: BTreeSet<&str> = events.iter().map(|event| event.user.as_str()).collect();
    let value = match metric {
        "views" => count as f64,
        "revenue" => cents as f64 / 100.0,
        "price" => cents as f64 / (count as f64 * 100.0),
        _ => users.len() as f64,
    };
    (count, value)
}

/// Checks a run.
pub(crate) fn check(scenario: &Scenario, outcome: &RunResult) -> (Vec<Finding>, CrowdsChecked) {
    let mut checker = Checker::new(scenario, outcome);
    let expected = checker.expected();
    checker.events();
    checker.users();
    let closed = checker.closed();
    checker.windows(&expected, closed.clone());
    checker.alerts(&expected, &closed);
    checker.dead_letters();
    checker.offsets();
    (checker.findings, checker.checked)
}

pub(crate) struct Checker<'a> {
    scenario: &'a Scenario,
    pub(crate) outcome: &'a RunResult,
    findings: Vec<Finding>,
    checked: CrowdsChecked,
}

pub(crate) fn json(record: &Kept) -> Option<Value> {
    serde_json::from_slice(record.value.as_deref()?).ok()
}

fn seconds(written: &Kept) -> f64 {
    (written.written.0 - BEGIN) as f64 / 1e3
}

/// An event that a client was told is taken.
pub(crate) struct Accepted<'a> {
    pub(crate) event: &'a Event,
    /// Whether it was written in time, into one partition: then it counts for certain.
    pub(crate) is_certain: bool,
    /// To how many partitions it was written.
    pub(crate) copies: usize,
    pub(crate) partition: u32,
    /// Of its first record.
    pub(crate) offset: i64,
}

/// Where an event was written: partitions, when first, and where then.
struct Written {
    partitions: BTreeSet<u32>,
    at: i64,
    offset: i64,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(scenario: &'a Scenario, outcome: &'a RunResult) -> Self {
        Self { scenario, outcome, findings: Vec::new(), checked: CrowdsChecked::default() }
    }

    /// Every accepted event, once.
    pub(crate) fn accepted(&self) -> Vec<Accepted<'a>> {
        let mut places: BTreeMap<String, Written> = BTreeMap::new();
        for record in self.topic(EVENTS) {
            let Some(id) = json(record).and_then(|event| Some(event["event_id"].as_str()?.to_owned())) else {
                continue;
            };
            let (at, offset) = (record.written.0 - BEGIN, record.offset.0);
            let place = places.entry(id).or_insert(Written { partitions: BTreeSet::new(), at, offset });
            place.partitions.insert(record.partition.0);
            (place.at, place.offset) = (place.at, place.offset).min((at, offset));
        }
        let mut sent: BTreeMap<&str, i64> = BTreeMap::new();
        for send in self.scenario.sends.iter().rev() {
            if let What::Event(event) = &send.what {
                sent.insert(&event.id, send.at);
            }
        }
        let paused = self.scenario.scale == 0 && self.has_pauses();
        let distinct: BTreeSet<&Event> = self.outcome.accepted.iter().collect();
        let accepted = distinct.into_iter().map(|event| {
            let written = places.get(&event.id);
            let in_time = |written: &Written| {
                written.partitions.len() == 1
                    && written.at - sent[event.id.as_str()] <= self.scenario.patience()
            };
            Accepted {
                event,
                is_certain: event.item != STRAY && !paused && written.is_some_and(in_time),
                copies: written.map_or(1, |written| written.partitions.len()),
                partition: written
                    .and_then(|written| written.partitions.first().copied())
                    .unwrap_or_default(),
                offset: written.map_or(0, |written| written.offset),
            }
        });
        accepted.collect()
    }

    fn topic(&self, name: &str) -> &[std::sync::Arc<Kept>] {
        &self.outcome.topics[name]
    }

    fn find(&mut self, kind: Kind, what: String, history: Vec<String>) {
        self.findings.push(Finding::new(kind, what, history));
    }

    /// Every window that accepted events fall into.
    fn expected(&self) -> BTreeMap<Name, ExpectedWindow> {
        let mut expected: BTreeMap<Name, ExpectedWindow> = BTreeMap::new();
        for Accepted { event, is_certain, copies, .. } in self.accepted() {
            let mut note = |metric: &str, size: i64| {
                let name = (metric.to_owned(), event.item.to_owned(), event.time.div_euclid(size) * size);
                let window = expected.entry(name).or_default();
                if is_certain {
                    window.events.push(event.clone());
                } else {
                    window.perhaps.push(event.clone());
                    window.at_most += copies;
                }
            };
            note("views", 5_000);
            note("visitors", 20_000);
            if event.purchase {
                note("revenue", 10_000);
                note("price", 10_000);
            }
        }
        expected
    }

    /// Whether any source was silent for so long that it may have been taken for idle.
    fn has_pauses(&self) -> bool {
        let mut last: BTreeMap<Partition, i64> = BTreeMap::new();
        self.topic(EVENTS).iter().any(|record| {
            let before = last.insert(record.partition, record.written.0);
            before.is_some_and(|before| record.written.0 - before > 2_000)
        })
    }

    /// What happened to the members.
    fn members(&self) -> Vec<String> {
        self.outcome.log.clone()
    }
}
