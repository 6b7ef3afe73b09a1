//! What is known of one key: its decayed counts and exposure, how much they vary, and its last windows.

mod score;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::decay::{fade, weight};
use super::population::{Closing, Contribution, Known, PSEUDO_EVENTS, Population, SHAPE, Settings};
use super::tail::NegativeBinomial;

pub use score::{OpenWindow, SPANS, Score};

/// The longest time that is scored, in windows.
pub const LONGEST: u32 = 8;
/// Weight of what is known of keys alike, in events, against a key's own dispersion.
const DISPERSION_EVENTS: f64 = 60.0;
/// Windows of the metric before deviations are measured.
const FIRST_WINDOWS: f64 = 5.0;
/// Windows of a metric in which counts are learnt whole: what keys are like is not known. A crowd in the later part of the warm-up is
/// learnt like any other, or the next one on the same key would be usual.
const UNLIMITED_WINDOWS: f64 = FIRST_WINDOWS + 3.0;
/// A key counts in the exposure of others for this much of them all together at most.
const INFLUENCE: f64 = 0.25;
/// A new level is believed as if it had been seen for this many windows: long enough not to follow what goes on rising.
const LEVEL_WINDOWS: u32 = 140;

/// The level of a window that is not scored yet.
const UNSCORED: u8 = u8::MAX;

/// A closed window in which the key had events.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "EntryRecord", into = "EntryRecord")]
struct Entry {
    index: u32,
    /// Its value.
    value: f32,
    /// As much of it as is usual.
    usual: f32,
    /// What its events count for in the exposure.
    events: f32,
    /// Squared deviation from the mean, with those of the windows without an event before it.
    square: f32,
    /// The level its score reached; [`UNSCORED`] until it is known.
    level: u8,
}

type EntryRecord = (u32, f32, f32, f32, f32, u8);

impl From<EntryRecord> for Entry {
    fn from((index, value, usual, events, square, level): EntryRecord) -> Self {
        Self { index, value, usual, events, square, level }
    }
}

impl From<Entry> for EntryRecord {
    fn from(entry: Entry) -> Self {
        (entry.index, entry.value, entry.usual, entry.events, entry.square, entry.level)
    }
}

/// Decayed sums of a key up to its last window with events that was folded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Sums {
    /// The newest window folded.
    #[serde(rename = "a")]
    at: u32,
    /// Values, as usual.
    #[serde(rename = "s")]
    values: f64,
    /// What the key's exposure lacks of the metric's: what came before the key was first seen, and what its own events count for.
    #[serde(rename = "m")]
    missing: f64,
    /// Squared deviations.
    #[serde(rename = "z")]
    squares: f32,
}

impl Sums {
    fn fold(&mut self, entry: &Entry) {
        if entry.index <= self.at {
            return;
        }
        let faded = fade(entry.index - self.at);
        self.at = entry.index;
        self.values = self.values * faded + f64::from(entry.usual);
        self.missing = self.missing * faded + f64::from(entry.events);
        #[allow(clippy::cast_possible_truncation)] // single precision is enough
        {
            self.squares = (f64::from(self.squares) * faded) as f32 + entry.square;
        }
    }
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyState {
    /// The window it was first seen in, or since which its rate is what it is.
    #[serde(rename = "f")]
    first: u32,
    #[serde(flatten)]
    sums: Sums,
    /// Windows before this one are part of an episode that is over, and of no other.
    #[serde(rename = "o")]
    since: u32,
    /// Its last windows with events, oldest first: the last [`LONGEST`], and those not folded yet.
    #[serde(rename = "r")]
    recent: SmallVec<[Entry; 1]>,
}

/// What is known of a key at one time.
struct Estimate<'a> {
    known: &'a Known,
    values: f64,
    exposure: f64,
    /// The key's usual exposure in a window.
    usual: f64,
    dispersion: f64,
}

impl Estimate<'_> {
    /// How much an event of this key counts in the exposure of others: so much that the key counts for a quarter of all others
    /// together at most, or the fall of one key would make all others stand out.
    /// `own` and `others` are events of the window that closes.
    fn influence(&self, own: f64, others: f64) -> f64 {
        let others = (self.known.events - self.values).max(0.0) + others;
        (INFLUENCE * others / (self.values + own).max(1e-9)).min(1.0)
    }

    /// The exposure that so many events of other keys make, as it is not known yet what each of them counts for.
    fn exposure_of(&self, others: f64) -> f64 {
        let usual = (self.known.events - self.values) / self.known.windows.max(1.0);
        let scale = (self.usual - PSEUDO_EVENTS) / (usual - PSEUDO_EVENTS).max(1e-9);
        others.max(0.0) * scale.clamp(0.0, 1.0) + PSEUDO_EVENTS
    }

    /// The value of a time with this exposure: a Gamma-Poisson mixture, wider by what the key's counts vary beyond it.
    fn predict(&self, exposure: f64, windows: f64) -> NegativeBinomial {
        let weight = self.exposure + self.known.prior;
        let rate = (self.values + SHAPE) / weight;
        // More traffic than usual multiplies what makes counts vary; an exposure is itself a count, and as uncertain, but for its
        // constant part.
        let growth = (exposure / (windows * self.usual)).max(1.0);
        let varies = ((self.dispersion - 1.0) * growth).max(rate * (1.0 - PSEUDO_EVENTS / self.usual));
        NegativeBinomial { mean: rate * exposure, excess: varies + exposure / weight }
    }
}

impl KeyState {
    /// Of a key first seen in the window `index`, before that window is added to it.
    #[must_use]
    pub fn new(population: &Population, index: u32) -> Self {
        let before = index.saturating_sub(1);
        let sums =
            Sums { at: before, values: 0.0, missing: population.known(before).exposures, squares: 0.0 };
        Self { first: index, sums, since: 0, recent: SmallVec::new() }
    }

    /// The newest closed window with events.
    #[must_use]
    pub fn newest(&self) -> Option<u32> {
        self.recent.last().map(|entry| entry.index)
    }

    /// Adds the window that closes to the key, and the key to what the keys of that window have in common. Changes nothing in the
    /// key if it holds the window already: then only its part is added again.
    pub fn take(
        &mut self,
        closing: &mut Closing,
        population: &Population,
        settings: &Settings,
        value: f64,
        count: u64,
    ) {
        let index = closing.index;
        let found = self.recent.iter().position(|entry| entry.index == index);
        let before = self.recent.iter().rev().map(|entry| entry.index).find(|known| *known < index);
        let estimate = self.estimate(population, index.saturating_sub(settings.lag));
        #[allow(clippy::cast_precision_loss)] // 53 bits are enough
        let count = count as f64;
        let entry = match found {
            Some(at) => self.recent[at],
            None => self.entry(closing, population, &estimate, value, count, before),
        };
        closing.add(&Contribution {
            count,
            usual: if entry.value > 0.0 { count * f64::from(entry.usual / entry.value) } else { 0.0 },
            exposure: f64::from(entry.events),
            square: f64::from(entry.square),
            mean: estimate.predict(estimate.usual, 1.0).mean,
            before,
        });
        // An older window than its newest is one of before a crash, which it has learnt from.
        if self.newest().is_none_or(|newest| newest < index) {
            let folded = index.saturating_sub(settings.lag);
            for entry in self.recent.iter().filter(|entry| entry.index <= folded) {
                self.sums.fold(entry);
            }
            let kept = (index.saturating_sub(LONGEST)).min(folded);
            self.recent.retain(|entry| entry.index > kept);
            self.recent.push(entry);
        }
    }

    /// How the window enters what is usual: no further than what is usual reaches, so that a crowd does not become usual.
    #[allow(clippy::too_many_arguments, clippy::cast_possible_truncation)] // single precision is enough
    fn entry(
        &self,
        closing: &Closing,
        population: &Population,
        estimate: &Estimate<'_>,
        value: f64,
        count: f64,
        before: Option<u32>,
    ) -> Entry {
        let index = closing.index;
        // The traffic of this window is not known yet without its crowds, so the larger of two guesses.
        let exposure = estimate.exposure_of(closing.total - count).max(estimate.usual);
        let usual = estimate.predict(exposure, 1.0);
        let deviation = (usual.mean * (1.0 + usual.excess)).sqrt();
        let limit = if estimate.known.windows < UNLIMITED_WINDOWS {
            f64::INFINITY
        } else {
            usual.mean + 3.0 * deviation + 1.0
        };
        let share = if value > limit { limit / value } else { 1.0 };
        let uncertain = 1.0 + exposure / (estimate.exposure + estimate.known.prior);
        let mut square =
            ((value - usual.mean) * (value - usual.mean) / uncertain).min(25.0 * usual.mean.max(0.25));
        // The windows without an event since the one before: those of long ago were ordinary, or it would not be silent for long.
        let rate = usual.mean / exposure;
        let silent = before.map_or(0, |before| (index - before).saturating_sub(1)).min(LONGEST);
        if estimate.known.windows < FIRST_WINDOWS {
            square = value; // nothing is known to deviate from
        } else {
            for back in 1..=silent {
                let mean = rate * population.known(index - back).exposure;
                square += (mean * mean).min(25.0 * mean.max(0.25));
            }
        }
        Entry {
            index,
            value: value as f32,
            usual: (value * share) as f32,
            events: (count * share * estimate.influence(count * share, closing.total - count)) as f32,
            square: square as f32,
            level: UNSCORED,
        }
    }

    /// What was known of the key after the window `at`.
    fn estimate<'a>(&self, population: &'a Population, at: u32) -> Estimate<'a> {
        let known = population.known(at);
        let mut sums = self.sums;
        for entry in self.recent.iter().filter(|entry| entry.index <= at) {
            sums.fold(entry);
        }
        let faded = fade(at.saturating_sub(sums.at));
        let values = sums.values * faded;
        let seen = at >= self.first;
        let exposure = if seen { (known.exposures - sums.missing * faded).max(0.0) } else { 0.0 };
        let windows = weight((at + 1).saturating_sub(self.first));
        let usual = if seen && windows > 0.0 { exposure / windows } else { known.usual() };
        let usual = usual.max(PSEUDO_EVENTS);
        let mean = (values + SHAPE) / (exposure + known.prior) * usual;
        let alike = known.dispersion(mean);
        let squares = f64::from(sums.squares) * faded;
        let dispersion = ((squares + DISPERSION_EVENTS * alike) / (values + DISPERSION_EVENTS)).max(1.0);
        Estimate { known, values, exposure, usual, dispersion }
    }

    /// Windows before this one belong to an episode that is over, and are not scored with later ones.
    #[must_use]
    pub fn since(&self) -> u32 {
        self.since
    }

    /// Windows up to `index` belong to an episode: later scores do not reach back to them.
    pub fn forget_up_to(&mut self, index: u32) {
        self.since = self.since.max(index.saturating_add(1));
    }

    /// Begins anew with `level` events a window as what is usual, after the window `index`.
    pub fn restart(&mut self, population: &Population, index: u32, level: f64) {
        let known = population.known(index);
        let others = |at: u32| {
            let own = self.recent.iter().find(|entry| entry.index == at).map_or(0.0, |entry| entry.events);
            (population.known(at).exposure - f64::from(own)).max(PSEUDO_EVENTS)
        };
        let last: f64 = (0..LONGEST).map(|back| others(index.saturating_sub(back))).sum();
        let windows = weight(LEVEL_WINDOWS);
        self.first = (index + 1).saturating_sub(LEVEL_WINDOWS);
        #[allow(clippy::cast_possible_truncation)] // single precision is enough
        let squares = (level * windows * known.dispersion(level)) as f32;
        let missing = known.exposures - last / f64::from(LONGEST) * windows;
        self.sums = Sums { at: index, values: level * windows, missing, squares };
        self.forget_up_to(index);
    }
}

#[cfg(test)]
mod tests {
    use super::super::decay::FADE;
    use super::super::{Direction, Limit};
    use super::*;

    /// A key visited only in its windows has the sums of one that forgets a little in every window.
    #[test]
    fn sums_of_rare_windows_equal_those_kept_step_by_step() {
        let settings =
            Settings { size_ms: 10_000, lag: 3, limit: Limit::Probability(1e-8), direction: Direction::Up };
        let mut population = Population::new(1);
        let (mut rare, mut other) = (KeyState::new(&population, 50), KeyState::new(&population, 1));
        let (mut values, mut exposure) = (0.0, 0.0);
        let mut steps = Vec::new();
        for index in 1..=400 {
            let (count, others) = (u64::from(index % 37), u64::from(40 + index * 7 % 11));
            let is_seen = index == 50 || index > 50 && index % 37 < 2 && !(200..320).contains(&index);
            let mut closing =
                population.begin(index, others + if is_seen { count + 1 } else { 0 }, &settings);
            other.take(&mut closing, &population, &settings, others as f64, others);
            if is_seen {
                if rare.newest().is_none() {
                    rare = KeyState::new(&population, index);
                }
                rare.take(&mut closing, &population, &settings, (count + 1) as f64, count + 1);
            }
            population.close(&closing, &settings);
            let own = rare.recent.iter().find(|entry| entry.index == index);
            let (usual, events) = own.map_or((0.0, 0.0), |entry| (entry.usual, entry.events));
            values = values * FADE + f64::from(usual);
            if index >= 50 {
                exposure = exposure * FADE + population.known(index).exposure - f64::from(events);
            }
            steps.push((values, exposure));
            // What is asked for later is the same as what was asked for at the time.
            for back in [0, 3] {
                let at = index.saturating_sub(back);
                if is_seen && back < settings.lag || at < 50 {
                    continue;
                }
                let (values, exposure) = steps[at as usize - 1];
                let estimate = rare.estimate(&population, at.max(rare.sums.at));
                if at >= rare.sums.at {
                    assert!((estimate.values - values).abs() < 1e-6 * values.max(1.0), "{index} {at}");
                    assert!((estimate.exposure - exposure).abs() < 1e-4 * exposure, "{index} {at}");
                }
            }
        }
    }
}
