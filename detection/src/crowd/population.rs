//! What the keys of a partition have in common: the exposure of each window, what keys are like, how many there are, and the
//! distribution of their scores.
//!
//! Keys of a window are visited in any order, so whatever they add is gathered in whole numbers ([`Closing`]) and folded once a
//! window, in order of windows.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::decay::{FADE, fade, weight};
use super::threshold::{Calibration, Limit};

/// Windows kept: a key is scored with what was known `lag` windows ago, of the last eight windows, perhaps once more after a crash.
pub const HISTORY: usize = 64;
/// The largest [`Settings::lag`].
pub const LONGEST_LAG: u32 = 32;
/// Classes of keys by their usual count a window, each twice the one before, from 1/16 on.
const CLASSES: usize = 12;
/// Whole numbers hold counts in units of 1/1024.
const UNIT: f64 = 1024.0;
/// Events that keep the exposure of a window above 0.
pub(super) const PSEUDO_EVENTS: f64 = 1.0;
/// How far the traffic of other partitions may be from that of this one, in square roots of counts: two and a half deviations.
const CREDIBLE: f64 = 1.25;
/// Windows with events before anything is scored.
const WARMUP: u32 = 10;
/// Shape of the Gamma distribution of rates that a new key is taken from.
pub(super) const SHAPE: f64 = 2.0;
/// That distribution counts as at most this many windows, so that a key's own past is soon more than that of keys alike.
const LONGEST_PRIOR: f64 = 30.0;
/// A key without an event for this many windows counts as never seen, give or take a 32nd part of them.
pub const MEMORY: u32 = 4096;
const PERIODS: usize = 32;
/// Weight of the assumption that counts vary as Poisson's, in events.
const POISSON_EVENTS: f64 = 30.0;

/// What a detector is told, fixed while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Length of a window in milliseconds, above 0.
    pub size_ms: u64,
    /// Window `w` is scored with what was known after window `w − lag`; at least 1, at most 32.
    pub lag: u32,
    /// When to alert.
    pub limit: Limit,
    /// Which way a count must leave its usual range.
    pub direction: super::Direction,
}

/// What was known when a window had closed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Events of the window, no key counting much more than it usually does.
    #[serde(rename = "e")]
    pub(super) exposure: f64,
    /// Decayed sum of exposures.
    #[serde(rename = "c")]
    pub(super) exposures: f64,
    /// Decayed sum of events, no key counting much more than it usually does.
    #[serde(rename = "m")]
    pub(super) events: f64,
    /// What the events of this partition and of others count for in it.
    #[serde(rename = "o")]
    own: f64,
    #[serde(rename = "r")]
    rest: f64,
    /// Prior exposure of a key, so that the prior mean is what keys are like.
    #[serde(rename = "b")]
    pub(super) prior: f64,
    /// Decayed number of windows.
    #[serde(rename = "n")]
    pub(super) windows: f64,
    /// Variance over mean, by class of keys.
    #[serde(rename = "v")]
    pub(super) dispersion: [f32; CLASSES],
    /// From which score on a key alerts; infinite (written as none) while warming up.
    #[serde(rename = "t")]
    pub(super) threshold: Option<f64>,
}

impl Known {
    const NOTHING: Self = Self {
        exposure: PSEUDO_EVENTS,
        exposures: 0.0,
        events: 0.0,
        own: 0.0,
        rest: 0.0,
        prior: 1.0,
        windows: 0.0,
        dispersion: [1.0; CLASSES],
        threshold: None,
    };

    /// The usual exposure of a window.
    pub(super) fn usual(&self) -> f64 {
        if self.windows > 0.0 { self.exposures / self.windows } else { PSEUDO_EVENTS }
    }

    /// What is known of the dispersion of a key with this usual count a window.
    pub(super) fn dispersion(&self, mean: f64) -> f64 {
        f64::from(self.dispersion[class(mean)])
    }
}

/// The class of a key with this usual count a window.
fn class(mean: f64) -> usize {
    let mut bound = 0.0625;
    let mut class = 0;
    while mean > bound && class + 1 < CLASSES {
        bound *= 2.0;
        class += 1;
    }
    class
}

/// What the keys of a window that closes add to what they have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Closing {
    pub(super) index: u32,
    pub(super) total: f64,
    /// Events of own keys, of those as many as are usual, and what these count for in the exposure.
    own: i64,
    usual: i64,
    exposure: i64,
    squares: [i64; CLASSES],
    counts: [i64; CLASSES],
    /// Keys seen, new ones among them, and by period of when they were last seen before.
    seen: i64,
    left: Vec<(u32, i64)>,
}

/// One key's part of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contribution {
    pub(super) count: f64,
    pub(super) usual: f64,
    pub(super) exposure: f64,
    pub(super) square: f64,
    pub(super) mean: f64,
    /// The window the key was seen in before, unless it is new.
    pub(super) before: Option<u32>,
}

impl Closing {
    /// Of a window to which no key was added yet, with this many events of all keys in all partitions.
    #[allow(clippy::cast_precision_loss)] // 53 bits are enough
    fn new(index: u32, total: u64) -> Self {
        Self {
            index,
            total: total as f64,
            own: 0,
            usual: 0,
            exposure: 0,
            squares: [0; CLASSES],
            counts: [0; CLASSES],
            seen: 0,
            left: Vec::new(),
        }
    }

    /// The window.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn add(&mut self, key: &Contribution) {
        self.own += whole(key.count);
        self.usual += whole(key.usual);
        self.exposure += whole(key.exposure);
        let class = class(key.mean);
        self.squares[class] += whole(key.square);
        self.counts[class] += whole(key.usual);
        self.seen += 1;
        let Some(before) = key.before else { return };
        let period = period(before);
        match self.left.iter_mut().find(|(known, _)| *known == period) {
            Some((_, keys)) => *keys += 1,
            None => self.left.push((period, 1)),
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // saturates, far above any count
fn whole(count: f64) -> i64 {
    (count * UNIT).round() as i64
}

#[allow(clippy::cast_precision_loss)] // 53 bits are enough
fn counted(whole: i64) -> f64 {
    whole as f64 / UNIT
}

fn period(index: u32) -> u32 {
    index / (MEMORY / 32)
}

/// What the keys of a metric in a partition have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Population {
    /// The first window: what is known of keys from before belongs to another population.
    #[serde(rename = "b")]
    first: u32,
    /// The newest window folded.
    #[serde(rename = "w")]
    newest: u32,
    /// Windows with events so far, up to the end of the warm-up.
    #[serde(rename = "u")]
    warm: u32,
    /// Decayed events of own keys, as usual.
    #[serde(rename = "o")]
    own: f64,
    /// What these count for in the exposure.
    #[serde(rename = "g")]
    exposure: f64,
    /// Decayed events of other partitions' keys, as usual.
    #[serde(rename = "r")]
    rest: f64,
    /// Decayed squares of deviations and counts by class.
    #[serde(rename = "q")]
    squares: [f64; CLASSES],
    #[serde(rename = "y")]
    counts: [f64; CLASSES],
    /// Keys by the period they were last seen in, newest last.
    #[serde(rename = "k")]
    seen: VecDeque<i64>,
    /// What was known after the last windows, newest last.
    #[serde(rename = "h")]
    history: VecDeque<Known>,
    #[serde(rename = "s")]
    calibration: Calibration,
    /// The window closed last by this process: scores of windows that are closed again after a crash were counted before.
    #[serde(skip)]
    scoring: Option<u32>,
}

impl Population {
    /// Of which nothing is known; `first` is the first window that will be closed.
    #[must_use]
    pub fn new(first: u32) -> Self {
        Self {
            first,
            newest: first.saturating_sub(1),
            warm: 0,
            own: 0.0,
            exposure: 0.0,
            rest: 0.0,
            squares: [0.0; CLASSES],
            counts: [0.0; CLASSES],
            seen: VecDeque::from([0]),
            history: VecDeque::new(),
            calibration: Calibration::default(),
            scoring: None,
        }
    }

    /// The first window that was closed.
    #[must_use]
    pub fn first(&self) -> u32 {
        self.first
    }

    /// The newest window that was folded: closing it again changes nothing.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// From which score on a key alerts in the window `index`; none while warming up.
    #[must_use]
    pub fn threshold(&self, settings: &Settings, index: u32) -> Option<f64> {
        self.known(index.saturating_sub(settings.lag)).threshold
    }

    /// Keys seen within about 4,096 windows.
    #[must_use]
    pub fn keys(&self) -> u64 {
        u64::try_from(self.seen.iter().sum::<i64>()).unwrap_or(0)
    }

    /// Whether a key that was last seen in the window `last` counts as never seen in the window `at`.
    #[must_use]
    pub fn is_forgotten(last: u32, at: u32) -> bool {
        period(at).saturating_sub(period(last)) >= 32
    }

    /// What was known after the window `index`: nothing before the first, what is known now after the newest.
    pub(super) fn known(&self, index: u32) -> &Known {
        let back = self.newest.saturating_sub(index) as usize;
        let at = self.history.len().checked_sub(1 + back);
        at.and_then(|at| self.history.get(at)).unwrap_or(&Known::NOTHING)
    }

    /// The highest exposure of the last `windows` windows up to `index`, in usual ones; at least 1.
    pub(super) fn busiest(&self, index: u32, windows: u32) -> f64 {
        let usual = self.known(index).usual();
        let last = (0..windows).map(|back| self.known(index.saturating_sub(back)).exposure);
        last.fold(usual, f64::max) / usual
    }

    /// Begins to close the window `index`, in which all keys of all partitions had `total` events. Windows before it that were not
    /// closed had no event.
    pub fn begin(&mut self, index: u32, total: u64, settings: &Settings) -> Closing {
        self.advance(index.saturating_sub(1), settings);
        Closing::new(index, total)
    }

    /// Folds a window to which all its keys were added; nothing if it was folded before.
    pub fn close(&mut self, closing: &Closing, settings: &Settings) {
        if closing.index <= self.newest {
            return;
        }
        let (own, usual, exposure) =
            (counted(closing.own), counted(closing.usual), counted(closing.exposure));
        let rest = self.believed((closing.total - own).max(0.0), exposure);
        self.own = self.own * FADE + usual;
        self.exposure = self.exposure * FADE + exposure;
        self.rest = self.rest * FADE + rest;
        for class in 0..CLASSES {
            self.squares[class] = self.squares[class] * FADE + counted(closing.squares[class]);
            self.counts[class] = self.counts[class] * FADE + counted(closing.counts[class]);
        }
        self.roll(closing.index);
        let periods = self.seen.len();
        self.seen[periods - 1] += closing.seen;
        for (before, keys) in &closing.left {
            let back = period(closing.index).saturating_sub(*before) as usize;
            if let Some(at) = periods.checked_sub(1 + back) {
                self.seen[at] -= keys;
            }
        }
        if closing.total > 0.0 {
            self.warm = (self.warm + 1).min(WARMUP);
        }
        self.newest = closing.index;
        self.scoring = Some(closing.index);
        self.calibration.fold();
        self.remember(exposure, usual, rest, settings);
    }

    /// Counts the score of a key in the window `index`; `before`: the highest level of its last windows.
    pub(super) fn count(&mut self, index: u32, before: u8, level: u8) {
        if self.scoring == Some(index) {
            self.calibration.count(before, level);
        }
    }

    /// As much of the events of other partitions as those of this one make credible over the last 1, 2, 4 and 8 windows: a crowd
    /// there is no traffic everywhere, and the fall of a large key there is no silence.
    fn believed(&self, mut rest: f64, exposure: f64) -> f64 {
        if self.warm < WARMUP || self.exposure <= 0.0 {
            return rest;
        }
        let ratio = self.rest / self.exposure;
        let (mut own, mut before) = (exposure, 0.0);
        for back in 0..super::LONGEST {
            if super::SPANS.contains(&(back + 1)) {
                // The square root of a count has the same spread whatever the count: one half.
                let root = (own + 1.0).sqrt();
                let (low, high) = ((root - CREDIBLE).max(0.0), root + CREDIBLE);
                let (low, high) = (ratio * low * low - before, ratio * high * high - before);
                rest = rest.max(low).min(high.max(0.0));
            }
            let known = self.known(self.newest.saturating_sub(back));
            own += known.own;
            before += known.rest;
        }
        rest
    }

    /// Folds the windows up to `until` that were not closed: none of them had an event. Early scores of windows after it need that.
    /// One by one, so that it does not matter how many at once; only of a silence after which every key counts as never seen the
    /// beginning is folded as a whole.
    pub fn advance(&mut self, until: u32, settings: &Settings) {
        if until <= self.newest {
            return;
        }
        let windows = until - self.newest;
        if windows > MEMORY {
            let jump = windows - MEMORY;
            self.roll(self.newest + jump);
            self.calibration.fold();
            let faded = fade(jump);
            self.own *= faded;
            self.exposure *= faded;
            self.rest *= faded;
            for class in 0..CLASSES {
                self.squares[class] *= faded;
                self.counts[class] *= faded;
            }
            self.calibration.skip(jump - 1);
            if let Some(last) = self.history.back_mut() {
                last.exposures = last.exposures * faded + PSEUDO_EVENTS * weight(jump);
                last.events = last.events * faded + PSEUDO_EVENTS * weight(jump);
                last.windows = last.windows * faded + weight(jump);
            }
            self.newest += jump;
        }
        while self.newest < until {
            let index = self.newest + 1;
            self.close(&Closing::new(index, 0), settings);
        }
    }

    fn roll(&mut self, index: u32) {
        let turns = (period(index).saturating_sub(period(self.newest)) as usize).min(PERIODS);
        for _ in 0..turns {
            self.seen.push_back(0);
            if self.seen.len() > PERIODS {
                self.seen.pop_front();
            }
        }
    }

    fn remember(&mut self, own: f64, usual: f64, rest: f64, settings: &Settings) {
        let exposure = own + rest + PSEUDO_EVENTS;
        let last = self.history.back().copied().unwrap_or(Known::NOTHING);
        let exposures = last.exposures * FADE + exposure;
        let events = last.events * FADE + usual + rest + PSEUDO_EVENTS;
        let windows = last.windows * FADE + 1.0;
        let usual = exposures / windows;
        #[allow(clippy::cast_precision_loss)] // 53 bits are enough
        let keys = self.keys() as f64;
        // What the mean key has, against what all others have: its exposure is without itself.
        let mean = self.own / keys.max(1.0);
        let rate = mean / (exposures - mean).max(1e-9);
        let prior = (SHAPE / rate.max(1e-12)).min(LONGEST_PRIOR * usual);
        let mut dispersion = [1.0; CLASSES];
        for (class, value) in dispersion.iter_mut().enumerate() {
            let variance = (self.squares[class] + POISSON_EVENTS) / (self.counts[class] + POISSON_EVENTS);
            #[allow(clippy::cast_possible_truncation)] // single precision is enough
            {
                *value = variance.max(1.0) as f32;
            }
        }
        let threshold = (self.warm >= WARMUP).then(|| self.calibration.threshold(settings, keys));
        self.history.push_back(Known {
            exposure,
            exposures,
            events,
            own,
            rest,
            prior,
            windows,
            dispersion,
            threshold,
        });
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
