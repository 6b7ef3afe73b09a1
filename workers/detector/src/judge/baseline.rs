//! The detectors' memory of one key: its folds, its last closed windows, the window it reaches, its alert. Kept in memory
//! and, acknowledged before the commit that relies on it, in the compacted `baselines` topic.

use herd_spec::wire::{Alert, VERSION};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::watch::{Index, Watch, Watched};
use crate::algorithm::{Expectation, History};

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
    /// What its algorithm needs.
    pub history: History,
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
        let mut used = 0;
        while self.reach < through {
            let next = self.recent.get(used).copied();
            match next {
                Some((index, value)) if index <= self.reach + 1 => {
                    used += 1;
                    if index > self.reach {
                        self.reach = index;
                        for (watching, watch) in self.watches.iter_mut().zip(&watched.watches) {
                            watch.rule.fold(&mut watching.history, f64::from(value));
                        }
                    }
                }
                next => {
                    let until = next.map_or(through, |(index, _)| through.min(index - 1));
                    let windows = until - self.reach;
                    self.reach = until;
                    if watched.silence().is_none() {
                        continue;
                    }
                    for (watching, watch) in self.watches.iter_mut().zip(&watched.watches) {
                        watch.rule.fold_silence(&mut watching.history, windows);
                    }
                }
            }
        }
        if used > 0 {
            self.recent.drain(..used);
        }
    }

    /// The next window without an event of which anything can come, when `judged` was one, none has an event from then on, and
    /// `usual` was usual for it; none if there is no such window: what is firing goes on, what is not stays so.
    #[must_use]
    pub fn next_change_in_silence(
        &self,
        watched: &Watched,
        judged: Index,
        expectation: &[Option<Expectation>],
    ) -> Option<Index> {
        // Until the last values are folded, what is usual may still rise.
        if !self.recent.is_empty() {
            return Some(judged + 1);
        }
        let watches = self.watches.iter().zip(&watched.watches).zip(expectation);
        let next = |((watching, watch), expectation): ((&Watching, &Watch), &Option<Expectation>)| {
            let crosses =
                expectation.is_some_and(|expectation| watch.rule.crossing(&expectation, 0.0, 0).is_some());
            if watch.follows_episodes() {
                return None; // judges silence by itself
            }
            match (watch.rule.is_threshold() && crosses, watching.firing.is_some()) {
                // The youngest windows may have fired early, and take that back.
                (true, true) if watching.alerted.is_some_and(|at| judged - at < watched.lag) => {
                    Some(judged + 1)
                }
                (true, true) => None,
                (true, false) => {
                    let cooled = watching.alerted.map_or(0, |alerted| alerted.saturating_add(watch.cooldown));
                    Some(cooled.max(judged + 1))
                }
                (false, false) if watch.rule.takes_silence_for_usual(&watching.history) => None,
                (false, false) if watched.silence().is_none() => None,
                _ => Some(judged + 1),
            }
        };
        watches.filter_map(next).min()
    }

    /// What each detector takes for usual by now.
    #[must_use]
    pub fn expectations(&self, watched: &Watched) -> Vec<Option<Expectation>> {
        let watches = self.watches.iter().zip(&watched.watches);
        watches.map(|(watching, watch)| watch.rule.expectation(&watching.history)).collect()
    }

    /// What will be usual for the window `at`, once everything `lag` windows before it is folded; changes nothing.
    #[must_use]
    pub fn expectations_for(&self, watched: &Watched, at: Index) -> Vec<Option<Expectation>> {
        let through = at.saturating_sub(watched.lag);
        if self.reach >= through {
            return self.expectations(watched);
        }
        let mut ahead = self.clone();
        ahead.advance(watched, through);
        ahead.expectations(watched)
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
                    learning: watch.rule.learning(),
                    history: watching.history.clone(),
                    alerted: watching.alerted,
                    firing: watching.firing.clone(),
                })
                .collect(),
        };
        // String keys and no failing serializers: this cannot fail, and an empty record would be read as no memory.
        serde_json::to_vec(&record).unwrap_or_default()
    }

    /// From the `baselines` topic, with the alerts that fire in it and that no detector owns any more. Detectors that are new or
    /// learn in another way start afresh; none if the record cannot be read at all.
    #[must_use]
    pub fn of_record(bytes: &[u8], watched: &Watched) -> Option<(Self, Vec<Alert>)> {
        let record = Record::parse(bytes)?;
        let mut remembered = record.watches;
        let watches = watched.watches.iter().map(|watch| {
            let learning = watch.rule.learning();
            let place = remembered
                .iter()
                .position(|known| known.detector == watch.name && known.learning == learning);
            match place.map(|place| remembered.swap_remove(place)) {
                Some(known) => {
                    Watching { history: known.history, alerted: known.alerted, firing: known.firing }
                }
                None => Watching { history: watch.rule.fresh(), alerted: None, firing: None },
            }
        });
        let baseline = Self {
            reach: record.reach,
            newest: record.newest,
            last: record.last,
            watches: watches.collect(),
            recent: record.recent.into(),
        };
        let disowned = remembered.into_iter().filter_map(|known| known.firing).map(|alert| *alert);
        Some((baseline, disowned.collect()))
    }
}

/// The alerts that fire in a record of the `baselines` topic, whatever it was learnt from.
pub(super) fn unresolved(bytes: &[u8]) -> Vec<Alert> {
    let watches = Record::parse(bytes).map(|record| record.watches).unwrap_or_default();
    watches.into_iter().filter_map(|known| known.firing).map(|alert| *alert).collect()
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

impl Record {
    fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|record: &Self| record.v == VERSION)
    }
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    #[serde(rename = "d")]
    detector: String,
    /// How the history was learnt: [`crate::algorithm::Rule::learning`].
    #[serde(rename = "l", default)]
    learning: String,
    #[serde(rename = "h")]
    history: History,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    alerted: Option<Index>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    firing: Option<Box<Alert>>,
}
