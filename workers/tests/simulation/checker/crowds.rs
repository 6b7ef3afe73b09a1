//! The alerts of detectors that look at all keys of a partition, and at the traffic of the whole metric.

use std::collections::{BTreeMap, BTreeSet};

use herd_spec::plan::ALL_KEY;
use herd_spec::units::Partition;
use herd_spec::wire::AlertState;

use xxhash_rust::xxh3::xxh3_64;

use super::{Checker, ExpectedWindow, Name, Value2, json};
use crate::oracle::{Found, Metric, Traffic};
use crate::plan::PARTS;
use crate::scenario::Event;

/// A window of any key: metric and start.
type Start = (String, i64);

/// What the records of a partition of `parts` say of the traffic.
#[derive(Default)]
struct Announced {
    /// How many partitions of events there were in the beginning.
    sources: u32,
    /// Of each source, and of each definition it counted by, the newest total: its version and its count.
    newest: BTreeMap<(Start, u64, i64), (i64, u64)>,
    /// Windows whose total changed though a source had vouched for them before.
    late: BTreeSet<Start>,
    /// What each source vouched for by then.
    vouched: BTreeMap<u64, i64>,
    /// The highest watermark by then.
    highest: Option<i64>,
}

impl Announced {
    /// Takes in the next record of the partition, if it is a watermark.
    fn watermark(&mut self, record: &serde_json::Value, sizes: &BTreeMap<&str, i64>) {
        let Some(state) = record["state"].as_str() else { return };
        let source = record["source"].as_u64().unwrap_or_default();
        // What closed before anybody knew of a partition that was added did so without it.
        let before_it = self.highest.filter(|_| source >= u64::from(self.sources));
        let vouched = self.vouched.get(&source).copied().or(before_it).unwrap_or(i64::MIN);
        for total in record["totals"].as_array().into_iter().flatten() {
            let number = |field: &str| total[field].as_i64().unwrap_or_default();
            let metric = total["metric"].as_str().unwrap_or_default();
            let start = (metric.to_owned(), number("start"));
            let new = (number("version"), number("count").unsigned_abs());
            let known = self.newest.entry((start.clone(), source, number("since"))).or_default();
            if new.0 >= known.0 && new != *known {
                *known = new;
                if start.1 + sizes.get(metric).copied().unwrap_or_default() <= vouched {
                    self.late.insert(start);
                }
            }
        }
        let own = record["watermark"].as_i64();
        self.highest = self.highest.max(own);
        // A source that is idle vouches for what others announced before.
        let vouches = if state == "active" { own } else { self.highest };
        let before = self.vouched.entry(source).or_insert(i64::MIN);
        *before = (*before).max(vouches.unwrap_or(i64::MIN));
    }

    fn total(&self, start: &Start) -> u64 {
        let of_window = self.newest.range((start.clone(), 0, i64::MIN)..=(start.clone(), u64::MAX, i64::MAX));
        of_window.map(|(_, (_, count))| count).sum()
    }
}

/// How many alerts there are of these detectors, and how many of them could be checked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CrowdsChecked {
    pub(crate) found: usize,
    pub(crate) checked: usize,
}

impl Checker<'_> {
    /// Checks what was `found` of these detectors in the windows of each key that closed; `judges`: the partition of each key.
    pub(super) fn crowds(
        &mut self,
        metrics: &BTreeMap<&str, Metric<'_>>,
        expected: &BTreeMap<Name, ExpectedWindow>,
        said: &BTreeMap<Name, Vec<Value2>>,
        judges: &BTreeMap<(String, String), Partition>,
        horizons: &BTreeMap<(String, String), i64>,
        mut found: BTreeMap<(String, String), Vec<Found>>,
    ) {
        let mut all: BTreeMap<(String, Partition), BTreeMap<String, Vec<Found>>> = BTreeMap::new();
        for ((metric, key), judge) in judges {
            let found = found.remove(&(metric.clone(), key.clone())).unwrap_or_default();
            let shown = found.iter().filter(|found| found.state != AlertState::Withdrawn);
            self.checked.found += shown.count();
            all.entry((metric.clone(), *judge)).or_default().insert(key.clone(), found);
        }
        for ((metric, key), found) in found.extract_if(.., |(_, key), _| key == ALL_KEY) {
            let judge = self.judge_of_total(&metric);
            let shown = found.iter().filter(|found| found.state != AlertState::Withdrawn);
            self.checked.found += shown.count();
            // Where no key of the metric belongs to this partition, nobody knows what it closed.
            if let Some(all) = all.get_mut(&(metric, judge)) {
                all.insert(key, found);
            }
        }
        let traffic = self.traffic(metrics, expected, said, judges, horizons);
        for (name, found) in all {
            let Some(traffic) = traffic.get(&name) else { continue };
            let (differences, checked) = metrics[name.0.as_str()].differences_of_all_keys(traffic, found);
            self.checked.checked += checked;
            for (key, difference) in differences {
                self.differs(&name.0, &key, difference);
            }
        }
    }

    /// The partition of `parts` that watches the traffic of a whole metric: as keys are spread, by XXH3 of metric and key.
    fn judge_of_total(&self, metric: &str) -> Partition {
        let hash = xxh3_64(format!("{metric}\u{1F}{ALL_KEY}").as_bytes());
        Partition((hash % u64::from(self.scenario.judges)) as u32)
    }

    /// What each partition had, by metric.
    fn traffic(
        &self,
        metrics: &BTreeMap<&str, Metric<'_>>,
        expected: &BTreeMap<Name, ExpectedWindow>,
        said: &BTreeMap<Name, Vec<Value2>>,
        judges: &BTreeMap<(String, String), Partition>,
        horizons: &BTreeMap<(String, String), i64>,
    ) -> BTreeMap<(String, Partition), Traffic> {
        let sizes = metrics.iter().map(|(name, metric)| (*name, metric.size)).collect();
        let mut announced: BTreeMap<Partition, Announced> = BTreeMap::new();
        for record in self.topic(PARTS) {
            if let Some(word) = json(record) {
                let new = || Announced { sources: self.scenario.sources, ..Announced::default() };
                announced.entry(record.partition).or_insert_with(new).watermark(&word, &sizes);
            }
        }
        // The sum of the closed windows, unless events came too late for any promise: then what sources announced, if it came in
        // time all the same.
        let mut totals: BTreeMap<Start, u64> = BTreeMap::new();
        for ((metric, _, start), values) in said {
            *totals.entry((metric.clone(), *start)).or_default() += values[0].0;
        }
        let uncertain: BTreeSet<Start> = expected
            .iter()
            .filter(|(_, window)| !window.perhaps.is_empty())
            .map(|((metric, _, start), _)| (metric.clone(), *start))
            .collect();
        let mut traffic: BTreeMap<(String, Partition), Traffic> = BTreeMap::new();
        for (name, judge) in judges {
            let of_partition = || Traffic {
                partitions: self.scenario.judges,
                horizon: horizons.get(name).copied().unwrap_or(i64::MIN),
                watches_total: *judge == self.judge_of_total(&name.0),
                ..Traffic::default()
            };
            traffic.entry((name.0.clone(), *judge)).or_insert_with(of_partition);
        }
        for ((metric, judge), traffic) in &mut traffic {
            let announced = announced.get(judge);
            let of_metric = totals.keys().chain(&uncertain).filter(|(of, _)| of == metric);
            for start in of_metric {
                let is_uncertain = uncertain.contains(start);
                let total = match announced {
                    Some(announced) if is_uncertain => announced.total(start),
                    _ => totals.get(start).copied().unwrap_or_default(),
                };
                traffic.totals.insert(start.1, total);
                if is_uncertain && announced.is_none_or(|announced| announced.late.contains(start)) {
                    traffic.doubt(start.1);
                }
            }
        }
        for ((metric, key, start), window) in expected {
            let Some(judge) = judges.get(&(metric.clone(), key.clone())) else { continue };
            let Some(traffic) = traffic.get_mut(&(metric.clone(), *judge)) else { continue };
            let distinct = |events: &mut dyn Iterator<Item = &Event>| {
                events.map(|event| event.user.as_str()).collect::<BTreeSet<_>>().len() as u64
            };
            let least = distinct(&mut window.events.iter());
            let most = distinct(&mut window.events.iter().chain(&window.perhaps));
            traffic.users.entry(*start).or_default().insert(key.clone(), (least, most));
        }
        for ((metric, key, start), values) in said {
            let Some(judge) = judges.get(&(metric.clone(), key.clone())) else { continue };
            let Some(traffic) = traffic.get_mut(&(metric.clone(), *judge)) else { continue };
            traffic.windows.entry(*start).or_default().insert(key.clone(), values[0]);
            if values.len() > 1 {
                traffic.doubt(*start);
            }
        }
        traffic
    }
}
