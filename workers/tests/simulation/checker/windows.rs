//! The closed windows.

use std::collections::{BTreeMap, BTreeSet};

use herd_bus::simulated::Kept;

use super::finding::HISTORY;
use super::{Checker, ExpectedWindow, Kind, Name, Value2, json, seconds, value};
use crate::plan::{EVENTS, PARTS, WINDOWS};

impl Checker<'_> {
    /// What was said of each window when it closed: the different things.
    pub(super) fn closed(&self) -> BTreeMap<Name, Vec<Value2>> {
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
    pub(super) fn windows(
        &mut self,
        expected: &BTreeMap<Name, ExpectedWindow>,
        mut said: BTreeMap<Name, Vec<Value2>>,
    ) {
        let mut findings = Vec::new();
        for (name, known) in expected {
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
            let Some(watermark) = json(record).filter(|record| record["state"].is_string()) else { continue };
            let passed = watermark["watermark"].as_i64().is_some_and(|time| time >= start + size);
            if judges.contains(&record.partition)
                && passed
                && vouched.insert((record.partition, watermark["source"].to_string()))
            {
                note(record, format!("first watermark past its end: {watermark}"));
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
}
