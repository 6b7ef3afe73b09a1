//! What must have come of a run, from the accepted events alone, by arithmetic that shares nothing with the pipeline's; and
//! what did not, by the names that Jepsen gives such things, with a short history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use herd_bus::simulated::Kept;
use herd_spec::units::Partition;
use herd_spec::wire::{Alert, AlertState};
use serde_json::Value;

use crate::alerts::{Difference, Found, Metric};
use crate::plan::{self, ALERTS, DEAD, EVENTS, PARTS, WINDOWS};
use crate::run::Outcome;
use crate::scenario::{BEGIN, Event, STRAY, Scenario, Send, What};
use crate::tables::User;

/// A longer pause ends a user's session, in milliseconds.
const SESSION: i64 = 30 * 60_000;
/// How much history a finding shows.
const HISTORY: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A client was told that it is taken, and it is nowhere.
    LostWrite,
    /// Something counts or is stored more than once.
    Duplicate,
    /// Something accepted never showed in what should come of it.
    Unseen,
    /// Something nobody sent, or that does not follow from what was sent.
    Invented,
    /// The same thing was said to be this and to be that.
    Inconsistent,
    /// A position moved from where it did not stand.
    InconsistentOffset,
    /// A member stopped though nothing went wrong.
    Stopped,
}

#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    what: String,
    history: Vec<String>,
}

impl Finding {
    pub(crate) fn new(kind: Kind, what: String, history: Vec<String>) -> Self {
        Self { kind, what, history }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)?;
        self.history.iter().take(HISTORY).try_for_each(|line| write!(f, "\n      {line}"))
    }
}

/// A window: metric, key, start.
type Name = (String, String, i64);

/// What is known of a window.
#[derive(Clone, Debug, Default)]
struct Truth {
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
pub(crate) fn check(scenario: &Scenario, outcome: &Outcome) -> Vec<Finding> {
    let mut checker = Checker::new(scenario, outcome);
    let truth = checker.truth();
    checker.events();
    checker.users();
    let closed = checker.closed();
    checker.windows(&truth, closed.clone());
    checker.alerts(&closed);
    checker.dead_letters();
    checker.offsets();
    checker.findings
}

pub(crate) struct Checker<'a> {
    scenario: &'a Scenario,
    pub(crate) outcome: &'a Outcome,
    findings: Vec<Finding>,
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
    pub(crate) fn new(scenario: &'a Scenario, outcome: &'a Outcome) -> Self {
        Self { scenario, outcome, findings: Vec::new() }
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
        self.findings.push(Finding { kind, what, history });
    }

    /// Every window that accepted events fall into.
    fn truth(&self) -> BTreeMap<Name, Truth> {
        let mut truth: BTreeMap<Name, Truth> = BTreeMap::new();
        for Accepted { event, is_certain, copies, .. } in self.accepted() {
            let mut note = |metric: &str, size: i64| {
                let name = (metric.to_owned(), event.item.to_owned(), event.time.div_euclid(size) * size);
                let window = truth.entry(name).or_default();
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
        truth
    }

    /// Whether any source was silent for so long that it may have been taken for idle.
    fn has_pauses(&self) -> bool {
        let mut last: BTreeMap<Partition, i64> = BTreeMap::new();
        self.topic(EVENTS).iter().any(|record| {
            let before = last.insert(record.partition, record.written.0);
            before.is_some_and(|before| record.written.0 - before > 2_000)
        })
    }

    /// Every accepted event is in the topic and in the store, once.
    fn events(&mut self) {
        let ids: BTreeSet<String> = self.outcome.accepted.iter().map(|event| event.id.clone()).collect();
        let written: BTreeSet<String> = self
            .topic(EVENTS)
            .iter()
            .filter_map(|record| Some(json(record)?["event_id"].as_str()?.to_owned()))
            .collect();
        for id in ids.difference(&written).take(3) {
            self.find(
                Kind::LostWrite,
                format!("event {id} was acknowledged and is not in the topic"),
                vec![],
            );
        }
        let stored: BTreeSet<String> = self.outcome.database.events.keys().cloned().collect();
        for id in ids.difference(&stored).take(3) {
            self.find(Kind::LostWrite, format!("event {id} is not in the store"), self.members());
        }
        for id in stored.difference(&written).take(3) {
            self.find(Kind::Invented, format!("event {id} in the store"), vec![]);
        }
        let sent: BTreeSet<&str> = self.scenario.sends.iter().filter_map(Send::id).collect();
        if let Some(id) = sent.iter().find(|id| !ids.contains(**id)) {
            self.find(Kind::Unseen, format!("event {id} was never accepted"), self.members());
        }
    }

    /// What is known of users is what their events say, each counted once.
    fn users(&mut self) {
        let Some(mut stored) = self.outcome.database.users.clone() else { return };
        let mut events: BTreeMap<&str, BTreeSet<(i64, &str, bool, i64)>> = BTreeMap::new();
        for event in &self.outcome.accepted {
            let of_user = events.entry(&event.user).or_default();
            of_user.insert((event.time, &event.id, event.purchase, event.cents));
        }
        let mut differences = Vec::new();
        for (user, events) in events {
            let times: Vec<i64> = events.iter().map(|(time, ..)| *time).collect();
            let paid = events.iter().filter(|(_, _, purchase, _)| *purchase);
            let expected = User {
                events: events.len() as i64,
                purchases: paid.clone().count() as i64,
                revenue_micros: paid.map(|(.., cents)| cents * 10_000).sum(),
                sessions: 1 + times.windows(2).filter(|pair| pair[1] - pair[0] > SESSION).count() as i64,
                first_seen: times[0],
                last_seen: times[times.len() - 1],
            };
            let found = stored.remove(user);
            if found.as_ref() != Some(&expected) {
                differences.push(format!("user {user} must be {expected:?}, is {found:?}"));
            }
        }
        differences.extend(stored.keys().map(|user| format!("user {user} sent nothing")));
        for difference in differences.into_iter().take(3) {
            self.find(Kind::Inconsistent, difference, self.members());
        }
    }

    /// What was said of each window when it closed: the different things.
    fn closed(&self) -> BTreeMap<Name, Vec<Value2>> {
        let mut said: BTreeMap<Name, Vec<Value2>> = BTreeMap::new();
        for record in self.topic(WINDOWS) {
            let Some(window) = json(record).filter(|window| window["final"] == true) else { continue };
            let text = |field: &str| window[field].as_str().unwrap_or_default().to_owned();
            let name = (text("metric"), text("key"), window["start"].as_i64().unwrap_or_default());
            let value =
                (window["count"].as_u64().unwrap_or_default(), window["value"].as_f64().unwrap_or_default());
            let values = said.entry(name).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
        said
    }

    /// Every window closed once, as a recount says; in the topic and in the store.
    fn windows(&mut self, truth: &BTreeMap<Name, Truth>, mut said: BTreeMap<Name, Vec<Value2>>) {
        let mut findings = Vec::new();
        for (name, known) in truth {
            let expected = value(&name.0, &known.events);
            let values = said.remove(name).unwrap_or_default();
            let stored = self.outcome.database.windows.get(name);
            let certain = known.perhaps.is_empty();
            let most = (known.events.len() + known.at_most) as u64;
            let fits = |found: Value2| {
                if certain { found == expected } else { (expected.0..=most).contains(&found.0) }
            };
            let kind = match values.as_slice() {
                [] if known.events.is_empty() => continue,
                [] => Kind::Unseen,
                // Nobody says in which window very late events count, if in any, nor that all are of one mind.
                [_, _, ..] if certain => Kind::Inconsistent,
                several if several.iter().any(|found| found.0 > most) => Kind::Duplicate,
                several if several.iter().any(|found| !fits(*found)) => Kind::Unseen,
                _ if stored.is_none() => Kind::LostWrite,
                _ if stored.is_some_and(|found| !fits(*found)) => Kind::Inconsistent,
                _ => continue,
            };
            findings.push((kind, name.clone(), expected, values, stored.copied()));
        }
        for (kind, name, expected, values, stored) in findings.into_iter().take(5) {
            let history = self.window_history(&name);
            let what =
                format!("window {name:?} must be {expected:?}, closed as {values:?}, stored as {stored:?}");
            self.find(kind, what, history);
        }
        for (name, values) in said.into_iter().take(3) {
            let history = self.window_history(&name);
            self.find(Kind::Invented, format!("window {name:?}, closed as {values:?}"), history);
        }
    }

    /// What there is about a window: its events, its parts, who vouched for its end, what was said of it.
    fn window_history(&self, name: &Name) -> Vec<String> {
        let (metric, key, start) = name;
        let size = match metric.as_str() {
            "views" => 5_000,
            "visitors" => 20_000,
            _ => 10_000,
        };
        let mut lines: Vec<(i64, String)> = Vec::new();
        let mut note = |record: &Kept, what: String| {
            let Kept { partition, offset, producer, .. } = record;
            lines.push((
                record.written.0,
                format!("{:>7.3} s  {what} ({producer}, at {partition}/{offset})", seconds(record)),
            ));
        };
        for record in self.topic(EVENTS) {
            let Some(event) = json(record) else { continue };
            let time = event["time"].as_i64().unwrap_or_default();
            if event["item_id"] == *key && (*start..start + size).contains(&time) {
                note(record, format!("event {} of {time}", event["event_id"]));
            }
        }
        let mut judges = BTreeSet::new();
        for record in self.topic(PARTS) {
            let Some(part) = json(record) else { continue };
            if part["metric"] == *metric && part["key"] == *key && part["start"] == *start {
                judges.insert(record.partition);
                note(
                    record,
                    format!(
                        "part of source {}, version {}: {}",
                        part["source"], part["version"], part["value"]["count"]
                    ),
                );
            }
        }
        let mut vouched = BTreeSet::new();
        for record in self.topic(PARTS) {
            let Some(word) = json(record).filter(|word| word["state"].is_string()) else { continue };
            let passed = word["watermark"].as_i64().is_some_and(|watermark| watermark >= start + size);
            if judges.contains(&record.partition)
                && passed
                && vouched.insert((record.partition, word["source"].to_string()))
            {
                note(record, format!("first word past its end: {word}"));
            }
        }
        for record in self.topic(WINDOWS) {
            let Some(window) = json(record).filter(|window| window["final"] == true) else { continue };
            if window["metric"] == *metric && window["key"] == *key && window["start"] == *start {
                note(record, format!("closed as {} {}", window["count"], window["value"]));
            }
        }
        lines.sort();
        let mut lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        lines.truncate(HISTORY - 15);
        lines.extend(self.members().into_iter().take(15));
        lines
    }

    /// What happened to the members.
    fn members(&self) -> Vec<String> {
        self.outcome.log.clone()
    }

    /// Every refused body is kept, as often as a client was told so, but for retries; and every record that is no event.
    fn dead_letters(&mut self) {
        let mut bodies: BTreeMap<String, usize> = BTreeMap::new();
        let mut places: BTreeSet<String> = BTreeSet::new();
        for letter in self.topic(DEAD) {
            let header = |name: &str| {
                let found = letter.headers.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            };
            match header("__connect.errors.offset") {
                Some(offset) => {
                    places.insert(format!(
                        "{}/{offset}",
                        header("__connect.errors.partition").unwrap_or_default()
                    ));
                }
                None => {
                    let body =
                        String::from_utf8_lossy(letter.value.as_deref().unwrap_or_default()).into_owned();
                    *bodies.entry(body).or_default() += 1;
                }
            }
        }
        for body in &self.outcome.refused {
            if !bodies.contains_key(body) {
                let what = format!("the refused {body} is not among the dead letters");
                self.findings.push(Finding { kind: Kind::LostWrite, what, history: vec![] });
            }
        }
        let poison: BTreeSet<String> = self
            .topic(EVENTS)
            .iter()
            .filter(|record| json(record).is_none())
            .map(|record| format!("{}/{}", record.partition, record.offset))
            .collect();
        for place in poison.difference(&places) {
            let what = format!("the record at {place} is no event, and not among the dead letters");
            self.findings.push(Finding { kind: Kind::LostWrite, what, history: vec![] });
        }
        for place in places.difference(&poison) {
            let what = format!("a dead letter from {place}, which is an event");
            self.findings.push(Finding { kind: Kind::Invented, what, history: vec![] });
        }
    }

    fn offsets(&mut self) {
        let jumps: Vec<String> = self.outcome.database.jumps.iter().take(2).cloned().collect();
        for jump in jumps {
            self.find(Kind::InconsistentOffset, format!("the stored position went {jump}"), self.members());
        }
        let failures = self.outcome.failures.clone();
        for failure in failures.into_iter().take(2) {
            self.find(Kind::Stopped, failure, self.members());
        }
    }

    /// The alerts are those that follow from the closed windows, each once; in the topic and in the store.
    fn alerts(&mut self, said: &BTreeMap<Name, Vec<Value2>>) {
        let plan = plan::of(self.scenario.sources, self.scenario.judges);
        let metrics = Metric::all(&plan);
        let mut found: BTreeMap<(String, String), Vec<Found>> = BTreeMap::new();
        for (id, alert) in all_alerts(self.outcome) {
            let raised = Found {
                id,
                detector: alert.detector,
                start: alert.start.0,
                state: alert.state,
                value: alert.value,
                expected: alert.expected,
                resolved: alert.resolved.map(|time| time.0),
            };
            found.entry((alert.metric, alert.key)).or_default().push(raised);
        }
        let mut keys: BTreeMap<(String, String), BTreeMap<i64, &[Value2]>> = BTreeMap::new();
        for ((metric, key, start), values) in said {
            keys.entry((metric.clone(), key.clone())).or_default().insert(*start, values);
        }
        let horizons = self.horizons(&metrics, said);
        for (name, windows) in keys {
            let found = found.remove(&name).unwrap_or_default();
            // Events too late for any promise may let a window close twice: then nobody knows which of them was judged.
            if windows.values().any(|values| values.len() > 1) {
                continue;
            }
            let windows = windows.iter().map(|(start, values)| (*start, values[0])).collect();
            let horizon = horizons.get(&name).copied().unwrap_or(i64::MIN);
            for difference in metrics[name.0.as_str()].differences(&windows, horizon, found) {
                let (kind, id, what) = match difference {
                    Difference::Unseen(expected) => (Kind::Unseen, String::new(), format!("{expected:?}")),
                    Difference::Invented(found) => (Kind::Invented, found.id.clone(), format!("{found:?}")),
                    Difference::Inconsistent(found, expected) => {
                        (Kind::Inconsistent, found.id.clone(), format!("{found:?} must be {expected:?}"))
                    }
                };
                let history = self.alert_history(&id);
                self.find(kind, format!("alert of {} for {}: {what}", name.0, name.1), history);
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
        if stored != said {
            let what = format!("{} alerts in the store, {} in the topic", stored.len(), said.len());
            self.find(Kind::LostWrite, what, self.members());
        }
    }

    /// Until when, for certain, the judge of each key has closed everything: the latest end it has closed.
    fn horizons(
        &self,
        metrics: &BTreeMap<&str, Metric<'_>>,
        said: &BTreeMap<Name, Vec<Value2>>,
    ) -> BTreeMap<(String, String), i64> {
        let mut judges: BTreeMap<(String, String), Partition> = BTreeMap::new();
        for record in self.topic(PARTS) {
            let Some(part) = json(record).filter(|part| part["metric"].is_string()) else { continue };
            let text = |field: &str| part[field].as_str().unwrap_or_default().to_owned();
            judges.insert((text("metric"), text("key")), record.partition);
        }
        let mut latest: BTreeMap<Partition, i64> = BTreeMap::new();
        for (metric, key, start) in said.keys() {
            let Some(judge) = judges.get(&(metric.clone(), key.clone())) else { continue };
            let latest = latest.entry(*judge).or_insert(i64::MIN);
            *latest = (*latest).max(start + metrics[metric.as_str()].size);
        }
        judges.into_iter().filter_map(|(name, judge)| Some((name, *latest.get(&judge)?))).collect()
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

/// Of each alert, its highest state.
fn all_alerts(outcome: &Outcome) -> BTreeMap<String, Alert> {
    let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
    for record in &outcome.topics[ALERTS] {
        let Some(alert) =
            record.value.as_deref().and_then(|value| serde_json::from_slice::<Alert>(value).ok())
        else {
            continue;
        };
        let known = alerts.entry(alert.id.0.clone()).or_insert_with(|| alert.clone());
        if known.state <= alert.state {
            *known = alert;
        }
    }
    alerts
}
