//! The alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use herd_bus::simulated::Kept;
use herd_spec::plan::ALL_KEY;
use herd_spec::units::Partition;
use herd_spec::wire::{Alert, AlertState};

use super::{Checker, ExpectedWindow, Finding, Kind, Name, Value2, json, seconds};
use crate::oracle::{Difference, Found, Metric};
use crate::plan::{self, ALERTS, PARTS};
use crate::run::RunResult;

/// How long before the end of a run an alert must have been sent to be in the store for certain.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

impl Checker<'_> {
    /// The alerts are those that follow from the closed windows, each once; in the topic and in the store.
    pub(super) fn alerts(
        &mut self,
        expected: &BTreeMap<Name, ExpectedWindow>,
        said: &BTreeMap<Name, Vec<Value2>>,
    ) {
        let plan = plan::of(self.scenario.sources, self.scenario.judges);
        let metrics = Metric::all(&plan);
        let mut found: BTreeMap<(String, String), Vec<Found>> = BTreeMap::new();
        let mut crowds: BTreeMap<(String, String), Vec<Found>> = BTreeMap::new();
        for (id, alert) in all_alerts(self.outcome) {
            if alert.episode.is_none() && [AlertState::Firing, AlertState::Resolved].contains(&alert.state) {
                self.find(Kind::Inconsistent, format!("{} without an episode", alert.summary), vec![]);
            }
            let raised = Found {
                id,
                detector: alert.detector,
                start: alert.start.0,
                state: alert.state,
                value: alert.value,
                expected: alert.expected,
                resolved: alert.resolved.map(|time| time.0),
                episode: alert.episode,
            };
            let is_of_all =
                metrics.get(alert.metric.as_str()).is_some_and(|of| of.is_of_all_keys(&raised.detector));
            let found = if is_of_all { &mut crowds } else { &mut found };
            found.entry((alert.metric, alert.key)).or_default().push(raised);
        }
        let mut keys: BTreeMap<(String, String), BTreeMap<i64, &[Value2]>> = BTreeMap::new();
        for ((metric, key, start), values) in said {
            keys.entry((metric.clone(), key.clone())).or_default().insert(*start, values);
        }
        let judges = self.judges();
        let horizons = horizons(&judges, &metrics, said);
        let has_windows = |name: &&(String, String)| name.1 == ALL_KEY || keys.contains_key(name);
        for name in crowds.keys().filter(|name| !has_windows(name)) {
            let what = format!("alerts for {name:?}, which has no windows");
            self.findings.push(Finding::new(Kind::Invented, what, vec![]));
        }
        self.crowds(&metrics, expected, said, &judges, &horizons, crowds);
        for (name, windows) in keys {
            let found = found.remove(&name).unwrap_or_default();
            // Events too late for any promise may let a window close twice: then nobody knows which of them was judged.
            if windows.values().any(|values| values.len() > 1) {
                continue;
            }
            let windows = windows.iter().map(|(start, values)| (*start, values[0])).collect();
            let horizon = horizons.get(&name).copied().unwrap_or(i64::MIN);
            for difference in metrics[name.0.as_str()].differences(&windows, horizon, found) {
                self.differs(&name.0, &name.1, difference);
            }
        }
        for (name, _) in found {
            self.find(Kind::Invented, format!("alerts for {name:?}, which has no windows"), vec![]);
        }
        let stored: BTreeSet<String> = self
            .outcome
            .database
            .alerts
            .iter()
            .filter(|(_, rank)| **rank < u64::from(AlertState::Withdrawn.rank()))
            .map(|(id, _)| id.clone())
            .collect();
        let said: BTreeSet<String> = all_alerts(self.outcome)
            .into_iter()
            .filter(|(_, alert)| alert.state != AlertState::Withdrawn)
            .map(|(id, _)| id)
            .collect();
        // An alert of the last moments may be on its way to the store.
        let records = self.topic(ALERTS);
        let end = self.outcome.topics.values().flatten().map(|record| record.written).max();
        let is_late = |id: &&String| {
            let of = records.iter().filter(|record| record.key.as_deref() == Some(id.as_bytes()));
            let first = of.map(|record| record.written).min();
            first.zip(end).is_some_and(|(first, end)| end.since(first) < LAST_MOMENTS)
        };
        let differing: Vec<&String> =
            stored.symmetric_difference(&said).filter(|id| stored.contains(*id) || !is_late(id)).collect();
        if !differing.is_empty() {
            let what = format!("{} alerts in the store, {} in the topic", stored.len(), said.len());
            let differing = differing.into_iter().take(2);
            let mut history: Vec<String> = differing.flat_map(|id| self.alert_history(id)).collect();
            history.truncate(60);
            self.find(Kind::LostWrite, what, history);
        }
    }

    pub(super) fn differs(&mut self, metric: &str, key: &str, difference: Difference) {
        let (kind, id, what) = match difference {
            Difference::Unseen(expected) => (Kind::Unseen, String::new(), format!("{expected:?}")),
            Difference::Invented(found) => (Kind::Invented, found.id.clone(), format!("{found:?}")),
            Difference::Inconsistent(found, expected) => {
                (Kind::Inconsistent, found.id.clone(), format!("{found:?} must be {expected:?}"))
            }
        };
        let history = self.alert_history(&id);
        self.find(kind, format!("alert of {metric} for {key}: {what}"), history);
    }

    /// The partition of `parts` that has each metric and key.
    fn judges(&self) -> BTreeMap<(String, String), Partition> {
        let mut judges: BTreeMap<(String, String), Partition> = BTreeMap::new();
        for record in self.topic(PARTS) {
            let Some(part) = json(record).filter(|part| part["metric"].is_string()) else { continue };
            let text = |field: &str| part[field].as_str().unwrap_or_default().to_owned();
            judges.insert((text("metric"), text("key")), record.partition);
        }
        judges
    }

    fn alert_history(&self, id: &str) -> Vec<String> {
        let of = |record: &&std::sync::Arc<Kept>| record.key.as_deref() == Some(id.as_bytes());
        let said = self.topic(ALERTS).iter().filter(of).map(|record| {
            let alert = json(record).unwrap_or_default();
            format!(
                "{:>7.3} s  {}: {} ({})",
                seconds(record),
                alert["state"],
                alert["summary"],
                record.producer
            )
        });
        said.chain(self.members().into_iter().take(25)).collect()
    }
}

/// Until when, for certain, the judge of each key has closed everything: the latest end it has closed.
fn horizons(
    judges: &BTreeMap<(String, String), Partition>,
    metrics: &BTreeMap<&str, Metric<'_>>,
    said: &BTreeMap<Name, Vec<Value2>>,
) -> BTreeMap<(String, String), i64> {
    let mut latest: BTreeMap<Partition, i64> = BTreeMap::new();
    for (metric, key, start) in said.keys() {
        let Some(judge) = judges.get(&(metric.clone(), key.clone())) else { continue };
        let latest = latest.entry(*judge).or_insert(i64::MIN);
        *latest = (*latest).max(start + metrics[metric.as_str()].size);
    }
    judges.iter().filter_map(|(name, judge)| Some((name.clone(), *latest.get(judge)?))).collect()
}

/// Of each alert, its highest state, and of several records in that state the one whose episode is the longest.
fn all_alerts(outcome: &RunResult) -> BTreeMap<String, Alert> {
    let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
    for record in &outcome.topics[ALERTS] {
        let Some(alert) =
            record.value.as_deref().and_then(|value| serde_json::from_slice::<Alert>(value).ok())
        else {
            continue;
        };
        let known = alerts.entry(alert.id.0.clone()).or_insert_with(|| alert.clone());
        let until = |alert: &Alert| alert.episode.as_ref().map(|episode| episode.until);
        if (known.state, until(known)) <= (alert.state, until(&alert)) {
            *known = alert;
        }
    }
    alerts
}
