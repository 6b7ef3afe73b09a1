//! Comparison of alerts with labels.
//!
//! The labels of a file of events are JSON: its windows, the crowds in it (item, from, to), and the times at which all traffic
//! moved. An alert is right if its key is the crowd's item and its window starts from one window before the crowd to its end. A
//! crowd is found if one alert is right. Alerts within a time of `global` whose key is not an item, which are about all traffic, are
//! right once. Every other alert is false, and withdrawn alerts do not count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use herd_spec::wire::{Alert, AlertState};
use serde::{Deserialize, Deserializer, Serialize};

/// Keys with this prefix are items: an alert about one of them is never about all traffic.
const ITEM_PREFIX: &str = "item-";

/// The labels of a file of events. Times are milliseconds since 1970.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Truth {
    /// Name of the scenario.
    pub scenario: String,
    /// Number of windows.
    pub windows: i64,
    /// Start of the first window.
    pub base: i64,
    /// Length of a window.
    pub window: i64,
    /// Start of the judged part; omitted: `base`. Alerts before it are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t0: Option<i64>,
    /// Days that the windows stand for. If given, false alerts are stated per day over the judged three quarters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<f64>,
    /// The crowds.
    pub truth: Vec<Crowd>,
    /// Times (from, to) at which all traffic moved.
    #[serde(default)]
    pub global: Vec<(i64, i64)>,
}

/// A crowd.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Crowd {
    /// The key.
    pub item: String,
    /// Its beginning.
    pub from: i64,
    /// Its end; an alert may begin until then.
    pub to: i64,
    /// Its kind.
    #[serde(deserialize_with = "text")]
    pub why: String,
}

/// The kind of a crowd is a text or a number.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    })
}

/// What one detector found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Found {
    /// The detector.
    pub detector: String,
    /// Crowds with a right alert.
    pub found: usize,
    /// All crowds.
    pub crowds: usize,
    /// Times at which all traffic moved, with an alert about all traffic.
    pub whole_found: usize,
    /// All such times.
    pub whole: usize,
    /// False alerts.
    pub false_alerts: usize,
    /// The time over which false alerts are stated, in days if the labels say how many days the windows stand for, otherwise in
    /// hours.
    pub judged: f64,
    /// Whether that is in days.
    pub in_days: bool,
    /// Found and all crowds by kind.
    pub kinds: BTreeMap<String, (usize, usize)>,
}

/// Labels that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// The file is not readable.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not valid.
    #[error("{} does not contain labels: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
}

impl Truth {
    /// Reads a file.
    ///
    /// # Errors
    /// If it is not readable or does not contain labels.
    pub fn read(path: &Path) -> Result<Self, TruthError> {
        let bytes =
            std::fs::read(path).map_err(|source| TruthError::Read { path: path.to_owned(), source })?;
        serde_json::from_slice(&bytes).map_err(|source| TruthError::Parse { path: path.to_owned(), source })
    }

    /// Compares the alerts of each of these detectors with the labels.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // times in milliseconds are far below 2^52
    pub fn compare(&self, alerts: &[Alert], detectors: &[String]) -> Vec<Found> {
        let start = self.t0.unwrap_or(self.base);
        let end = self.base + self.windows * self.window;
        let mut by_item: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, crowd) in self.truth.iter().enumerate() {
            by_item.entry(&crowd.item).or_default().push(place);
        }
        let judged = match self.days {
            Some(days) => days * 0.75,
            None => (end - start) as f64 / 3.6e6,
        };
        let compare = |detector: &String| {
            let is_judged = |alert: &&Alert| {
                alert.detector == *detector
                    && alert.state != AlertState::Withdrawn
                    && (start..end).contains(&alert.start.0)
            };
            let (mut found, mut spans) = (BTreeSet::new(), BTreeSet::new());
            let mut false_alerts = 0;
            for alert in alerts.iter().filter(is_judged) {
                let at = alert.start.0;
                let crowds = by_item.get(alert.key.as_str()).into_iter().flatten().copied();
                let hits: Vec<usize> = crowds
                    .filter(|place| {
                        (self.truth[*place].from - self.window..=self.truth[*place].to).contains(&at)
                    })
                    .collect();
                if !hits.is_empty() {
                    found.extend(hits);
                    continue;
                }
                let span = self.global.iter().position(|(from, to)| (from - self.window..=*to).contains(&at));
                let is_new = |span| !alert.key.starts_with(ITEM_PREFIX) && spans.insert(span);
                if !span.is_some_and(is_new) {
                    false_alerts += 1;
                }
            }
            let mut kinds: BTreeMap<String, (usize, usize)> = BTreeMap::new();
            for (place, crowd) in self.truth.iter().enumerate() {
                let kind = kinds.entry(crowd.why.clone()).or_default();
                kind.0 += usize::from(found.contains(&place));
                kind.1 += 1;
            }
            Found {
                detector: detector.clone(),
                found: found.len(),
                crowds: self.truth.len(),
                whole_found: spans.len(),
                whole: self.global.len(),
                false_alerts,
                judged,
                in_days: self.days.is_some(),
                kinds,
            }
        };
        detectors.iter().map(compare).collect()
    }
}

impl Found {
    /// Share of the crowds that were found; 1 if there are none.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // small numbers
    pub fn share(&self) -> f64 {
        if self.crowds == 0 { 1.0 } else { self.found as f64 / self.crowds as f64 }
    }

    /// False alerts per day or hour, see [`Found::in_days`].
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // small numbers
    pub fn false_rate(&self) -> f64 {
        if self.judged > 0.0 { self.false_alerts as f64 / self.judged } else { 0.0 }
    }
}
