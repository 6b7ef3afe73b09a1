//! The detectors' memory of one key: its folds, its last closed windows, the window it reaches, its alert. Kept in memory
//! and, acknowledged before the commit that relies on it, in the compacted `baselines` topic.

use herd_spec::wire::{Alert, VERSION};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::watch::{Index, Watched};
use crate::algorithm::{History, Usual};

/// A key's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// The histories hold every window up to this one.
    reach: Index,
    /// The newest window judged; windows up to it are not judged again.
    pub newest: Index,
    /// The newest window with an event.
    pub last: Index,
    /// Windows after `reach` with an event, oldest first: at most the baseline's lag.
    recent: SmallVec<[(Index, f32); 2]>,
    /// One for each detector of the metric, most often one: then a key's memory is a single piece.
    pub watches: SmallVec<[Watching; 1]>,
}

/// What one detector keeps of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Watching {
    history: History,
    /// The window of its last alert.
    pub alerted: Option<Index>,
    /// That alert, until it is resolved.
    pub firing: Option<Box<Alert>>,
}

impl Baseline {
    /// Of a key first seen in the window `first`.
    #[must_use]
    pub fn fresh(watched: &Watched, first: Index) -> Self {
        let before = first.saturating_sub(1);
        let watches = watched
            .watches
            .iter()
            .map(|watch| Watching { history: watch.rule.fresh(), alerted: None, firing: None })
            .collect();
        Self { reach: before, newest: before, last: before, recent: SmallVec::new(), watches }
    }

    /// Whether a key so long silent counts as never seen. What is firing is never forgotten.
    #[must_use]
    pub fn is_forgotten(&self, watched: &Watched, at: Index) -> bool {
        at.saturating_sub(self.last) > watched.memory && !self.is_firing()
    }

    /// Whether any detector has an unresolved alert.
    #[must_use]
    pub fn is_firing(&self) -> bool {
        self.watches.iter().any(|watching| watching.firing.is_some())
    }

    /// Folds all windows up to `through`, those without an event for what silence is worth.
    pub fn advance(&mut self, watched: &Watched, through: Index) {
        let (mut next, mut used) = (self.recent.iter().copied().peekable(), 0);
        while self.reach < through {
            self.reach += 1;
            let value = match next.peek() {
                Some(&(index, value)) if index == self.reach => {
                    next.next();
                    used += 1;
                    Some(f64::from(value))
                }
                _ => watched.silence(),
            };
            let Some(value) = value else { continue };
            for (watching, watch) in self.watches.iter_mut().zip(&watched.watches) {
                watch.rule.fold(&mut watching.history, value);
            }
        }
        if used > 0 {
            self.recent.drain(..used);
        }
    }

    /// What each detector takes for usual by now.
    #[must_use]
    pub fn usual(&self, watched: &Watched) -> Vec<Option<Usual>> {
        let watches = self.watches.iter().zip(&watched.watches);
        watches.map(|(watching, watch)| watch.rule.usual(&watching.history)).collect()
    }

    /// What will be usual for the window `at`, once everything `lag` windows before it is folded; changes nothing.
    #[must_use]
    pub fn usual_for(&self, watched: &Watched, at: Index) -> Vec<Option<Usual>> {
        let through = at.saturating_sub(watched.lag);
        if self.reach >= through {
            return self.usual(watched);
        }
        let mut ahead = self.clone();
        ahead.advance(watched, through);
        ahead.usual(watched)
    }

    /// Notes that the window `at` closed with an event in it.
    #[allow(clippy::cast_possible_truncation)] // single precision is enough for what is usual
    pub fn note(&mut self, at: Index, value: f64) {
        if self.recent.len() == self.recent.capacity() {
            self.recent.reserve_exact(2);
        }
        self.recent.push((at, value as f32));
        self.newest = at;
        self.last = at;
    }

    /// As the `baselines` topic keeps it.
    #[must_use]
    pub fn to_record(&self, watched: &Watched) -> Vec<u8> {
        let watches = self.watches.iter().zip(&watched.watches);
        let record = Record {
            v: VERSION,
            reach: self.reach,
            newest: self.newest,
            last: self.last,
            recent: self.recent.to_vec(),
            watches: watches
                .map(|(watching, watch)| Remembered {
                    detector: watch.name.clone(),
                    history: watching.history.clone(),
                    alerted: watching.alerted,
                    firing: watching.firing.clone(),
                })
                .collect(),
        };
        // String keys and no failing serializers: this cannot fail, and an empty record would be read as no memory.
        serde_json::to_vec(&record).unwrap_or_default()
    }

    /// From the `baselines` topic. Detectors that are new or have another kind of history start afresh; none if the record
    /// cannot be read at all.
    #[must_use]
    pub fn of_record(bytes: &[u8], watched: &Watched) -> Option<Self> {
        let record: Record = serde_json::from_slice(bytes).ok()?;
        if record.v != VERSION {
            return None;
        }
        let mut remembered = record.watches;
        let watches = watched.watches.iter().map(|watch| {
            let place = remembered.iter().position(|known| known.detector == watch.name);
            let known = place.map(|place| remembered.swap_remove(place));
            match known {
                Some(known) if watch.rule.accepts(&known.history) => {
                    Watching { history: known.history, alerted: known.alerted, firing: known.firing }
                }
                _ => Watching { history: watch.rule.fresh(), alerted: None, firing: None },
            }
        });
        Some(Self {
            reach: record.reach,
            newest: record.newest,
            last: record.last,
            watches: watches.collect(),
            recent: record.recent.into(),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    v: u8,
    reach: Index,
    newest: Index,
    last: Index,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recent: Vec<(Index, f32)>,
    watches: Vec<Remembered>,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    #[serde(rename = "d")]
    detector: String,
    #[serde(rename = "h")]
    history: History,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    alerted: Option<Index>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    firing: Option<Box<Alert>>,
}
