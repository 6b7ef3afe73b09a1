//! What `crowd` takes for usual: a key's rate per unit of exposure, where the exposure is the traffic of all other keys, and what
//! keys of the partition are like. A window weighs e^(−1/200) as much as the one after it.

use super::tail::Distribution;

/// Weight of a window against the one after it.
const FADE: f64 = 0.995_012_479_192_682_3;
/// Events that are added to the exposure of each window.
const PSEUDO: f64 = 1.0;
/// Shape of the prior of a key's rate, and for how many windows it counts at most.
const SHAPE: f64 = 2.0;
const PRIOR_WINDOWS: f64 = 30.0;
/// Windows with events before anything alerts.
const WARMUP: u32 = 10;
const CLASSES: usize = 12;
/// What a dispersion of 1 weighs, in events: for all keys of a class, and that of the class for one key.
const POISSON_EVENTS: f64 = 30.0;
const CLASS_EVENTS: f64 = 60.0;
/// The most windows that are scored together.
pub(super) const LONGEST: i64 = 8;
/// A key is known for 32 periods of so many windows after its last event.
const PERIOD: i64 = 128;
/// For how many windows a new level counts.
const LEVEL_WINDOWS: i64 = 140;

/// What the last `windows` windows weigh.
fn weight(windows: i64) -> f64 {
    (1.0 - faded(windows)) / (1.0 - FADE)
}

fn faded(windows: i64) -> f64 {
    FADE.powf(windows.max(0) as f64)
}

/// Counts that all keys add to are whole numbers of 1024ths.
fn rounded(count: f64) -> f64 {
    (count * 1024.0).round() / 1024.0
}

fn single(value: f64) -> f64 {
    f64::from(value as f32)
}

fn class(mean: f64) -> usize {
    (0..CLASSES - 1).find(|class| mean <= 0.0625 * f64::from(1 << class)).unwrap_or(CLASSES - 1)
}

/// Whether rounding decides of which class a key with this usual count is.
fn is_between_classes(mean: f64) -> bool {
    (0..CLASSES - 1).any(|class| (mean / (0.0625 * f64::from(1 << class)) - 1.0).abs() < 1e-9)
}

/// Whether a key whose last event was in the window `last` counts as never seen in the window `at`.
pub(super) fn is_forgotten(last: i64, at: i64) -> bool {
    at / PERIOD - last / PERIOD >= 32
}

/// What is known when a window has closed, but for single keys.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The window's exposure: of own keys, of other partitions'.
    own: f64,
    rest: f64,
    /// Faded sums over all windows: exposures, events as usual (of all, of own keys), what own keys and others make of the
    /// exposure, windows, and by class squares of deviations and counts.
    exposures: f64,
    events: f64,
    own_events: f64,
    own_exposures: f64,
    rests: f64,
    windows: f64,
    squares: [f64; CLASSES],
    counts: [f64; CLASSES],
    /// Windows with events.
    warm: u32,
    prior: f64,
    dispersion: [f64; CLASSES],
    /// From which score on a window alerts, once the warm-up is over.
    pub(super) threshold: Option<f64>,
}

const NOTHING: Known = Known {
    own: 0.0,
    rest: 0.0,
    exposures: 0.0,
    events: 0.0,
    own_events: 0.0,
    own_exposures: 0.0,
    rests: 0.0,
    windows: 0.0,
    squares: [0.0; CLASSES],
    counts: [0.0; CLASSES],
    warm: 0,
    prior: 1.0,
    dispersion: [1.0; CLASSES],
    threshold: None,
};

impl Known {
    fn exposure(&self) -> f64 {
        self.own + self.rest + PSEUDO
    }

    pub(super) fn is_warm(&self) -> bool {
        self.warm >= WARMUP
    }
}

/// What is known after each window of a partition, since its first.
#[derive(Default)]
pub(super) struct Past {
    pub(super) first: i64,
    known: Vec<Known>,
}

/// What the keys of a window add up to.
#[derive(Default)]
pub(super) struct Sum {
    events: f64,
    usual: f64,
    exposure: f64,
    squares: [f64; CLASSES],
    counts: [f64; CLASSES],
    /// Rounding decided.
    pub(super) is_unsure: bool,
}

impl Past {
    pub(super) fn of(first: i64) -> Self {
        Self { first, known: Vec::new() }
    }

    /// What was known after the window `at`; nothing before the first.
    pub(super) fn at(&self, at: i64) -> &Known {
        usize::try_from(at - self.first).ok().and_then(|at| self.known.get(at)).unwrap_or(&NOTHING)
    }

    /// Closes the next window, in which there were `total` events of all partitions; `keys` of this partition are known by then.
    pub(super) fn close(
        &mut self,
        total: u64,
        sum: &Sum,
        keys: usize,
        threshold: impl FnOnce(bool) -> Option<f64>,
    ) {
        let before = self.known.last().unwrap_or(&NOTHING);
        let rest = self.believed((total as f64 - sum.events).max(0.0), sum.exposure);
        let mut known = Known { own: sum.exposure, rest, ..before.clone() };
        let add = |sum: &mut f64, new: f64| *sum = *sum * FADE + new;
        add(&mut known.exposures, sum.exposure + rest + PSEUDO);
        add(&mut known.events, sum.usual + rest + PSEUDO);
        add(&mut known.own_events, sum.usual);
        add(&mut known.own_exposures, sum.exposure);
        add(&mut known.rests, rest);
        add(&mut known.windows, 1.0);
        for class in 0..CLASSES {
            add(&mut known.squares[class], sum.squares[class]);
            add(&mut known.counts[class], sum.counts[class]);
            let dispersion = (known.squares[class] + POISSON_EVENTS) / (known.counts[class] + POISSON_EVENTS);
            known.dispersion[class] = single(dispersion.max(1.0));
        }
        known.warm += u32::from(total > 0);
        // So much that the mean key has the mean of the prior; its exposure is without itself.
        let mean = known.own_events / keys.max(1) as f64;
        let rate = mean / (known.exposures - mean).max(1e-9);
        known.prior = (SHAPE / rate.max(1e-12)).min(PRIOR_WINDOWS * known.exposures / known.windows);
        known.threshold = threshold(known.is_warm());
        self.known.push(known);
    }

    /// As much of other partitions' events as this one's make credible: within two and a half deviations of what they usually are
    /// to its own, over the last 1, 2, 4 and 8 windows. `own`: what the events of this partition make of the exposure.
    fn believed(&self, rest: f64, own: f64) -> f64 {
        let before = self.known.last().unwrap_or(&NOTHING);
        if !before.is_warm() || before.own_exposures <= 0.0 {
            return rest;
        }
        let ratio = before.rests / before.own_exposures;
        [1, 2, 4, 8].into_iter().fold(rest, |rest, span| {
            let last = self.known.iter().rev().take(span - 1);
            let (owns, rests) = last.fold((own, 0.0), |sum, known| (sum.0 + known.own, sum.1 + known.rest));
            let bound = |width: f64| {
                let root = ((owns + 1.0).sqrt() + width).max(0.0);
                ratio * root * root - rests
            };
            rest.max(bound(-1.25)).min(bound(1.25).max(0.0))
        })
    }
}

/// A window of a key in which it had events.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: i64,
    value: f64,
    /// As much of it as is usual.
    usual: f64,
    /// What its events make of the exposure.
    exposure: f64,
    square: f64,
    /// What its score reached, in quarters; none while it is not scored.
    level: Option<usize>,
}

/// A key's whole past.
pub(super) struct KeyPast {
    first: i64,
    entries: Vec<Entry>,
    level: Option<Level>,
    /// Windows before this one belong to an episode and are not scored with later ones.
    pub(super) since: i64,
}

/// What a key does since the window `at`, whatever it did before.
struct Level {
    at: i64,
    value: f64,
    /// Of other keys, in a window.
    exposure: f64,
    /// Exposures of all keys up to then.
    exposures: f64,
    dispersion: f64,
}

/// How unusual the windows up to one are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Score {
    pub(super) score: f64,
    /// That of the next best span that is not as good.
    pub(super) second: f64,
    pub(super) span: i64,
    pub(super) value: f64,
    pub(super) expected: f64,
    pub(super) is_up: bool,
    /// The last window alone: its value, and what was expected.
    pub(super) window: (f64, f64),
    pub(super) threshold: Option<f64>,
    /// Rounding decided.
    pub(super) is_unsure: bool,
}

struct Estimate<'a> {
    known: &'a Known,
    values: f64,
    exposure: f64,
    usual: f64,
    dispersion: f64,
    /// Rounding decided.
    is_unsure: bool,
}

impl Estimate<'_> {
    fn predict(&self, exposure: f64, windows: f64) -> Distribution {
        let weight = self.exposure + self.known.prior;
        let rate = (self.values + SHAPE) / weight;
        let growth = (exposure / (windows * self.usual)).max(1.0);
        let varies = ((self.dispersion - 1.0) * growth).max(rate * (1.0 - PSEUDO / self.usual));
        Distribution { mean: rate * exposure, excess: varies + exposure / weight }
    }

    /// The exposure that so many events of other keys make.
    fn exposure_of(&self, others: f64) -> f64 {
        let usual = (self.known.events - self.values) / self.known.windows.max(1.0);
        let scale = ((self.usual - PSEUDO) / (usual - PSEUDO).max(1e-9)).clamp(0.0, 1.0);
        others.max(0.0) * scale + PSEUDO
    }

    /// A key makes a quarter of the exposure of others at most.
    fn influence(&self, own: f64, others: f64) -> f64 {
        let others = (self.known.events - self.values).max(0.0) + others;
        (0.25 * others / (self.values + own).max(1e-9)).min(1.0)
    }
}

impl KeyPast {
    pub(super) fn of(first: i64) -> Self {
        Self { first, entries: Vec::new(), level: None, since: i64::MIN }
    }

    pub(super) fn last(&self) -> Option<i64> {
        self.entries.last().map(|entry| entry.at)
    }

    /// What was known of the key after the window `at`.
    fn estimate<'a>(&self, past: &'a Past, at: i64) -> Estimate<'a> {
        let known = past.at(at);
        let (mut values, mut missing, mut squares) = match &self.level {
            Some(level) => {
                let fade = faded(at - level.at);
                let windows = weight(LEVEL_WINDOWS);
                let missing = level.exposures - level.exposure * windows;
                (
                    level.value * windows * fade,
                    missing * fade,
                    single(level.value * windows * level.dispersion) * fade,
                )
            }
            None => (0.0, past.at(self.first - 1).exposures * faded(at - self.first + 1), 0.0),
        };
        let begin = self.level.as_ref().map_or(i64::MIN, |level| level.at);
        for entry in self.entries.iter().filter(|entry| entry.at > begin && entry.at <= at) {
            let weight = faded(at - entry.at);
            values += entry.usual * weight;
            missing += entry.exposure * weight;
            squares += entry.square * weight;
        }
        let seen = at >= self.first;
        let exposure = if seen { (known.exposures - missing).max(0.0) } else { 0.0 };
        let windows = weight(at + 1 - self.first);
        let of_all = if known.windows > 0.0 { known.exposures / known.windows } else { PSEUDO };
        let usual = if seen { exposure / windows } else { of_all }.max(PSEUDO);
        let mean = (values + SHAPE) / (exposure + known.prior) * usual;
        let alike = known.dispersion[class(mean)];
        let is_unsure = is_between_classes(mean) && known.dispersion.iter().any(|of| *of != alike);
        let dispersion = ((squares + CLASS_EVENTS * alike) / (values + CLASS_EVENTS)).max(1.0);
        Estimate { known, values, exposure, usual, dispersion, is_unsure }
    }

    /// Takes the window in that closes next, which has `total` events in all.
    pub(super) fn take(
        &mut self,
        past: &Past,
        lag: i64,
        at: i64,
        total: u64,
        (count, value): (u64, f64),
        sum: &mut Sum,
    ) {
        let estimate = self.estimate(past, at - lag);
        let (count, others) = (count as f64, total as f64 - count as f64);
        let exposure = estimate.exposure_of(others).max(estimate.usual);
        let usual = estimate.predict(exposure, 1.0);
        // A crowd does not become usual.
        let limit = match estimate.known.windows {
            windows if windows < 8.0 => f64::INFINITY,
            _ => usual.mean + 3.0 * usual.deviation() + 1.0,
        };
        let share = if value > limit { limit / value } else { 1.0 };
        let bounded = |square: f64, mean: f64| square.min(25.0 * mean.max(0.25));
        let uncertain = 1.0 + exposure / (estimate.exposure + estimate.known.prior);
        let mut square = bounded((value - usual.mean).powi(2) / uncertain, usual.mean);
        // And the windows without an event before it.
        let silent = self.last().map_or(0, |last| (at - last - 1).min(LONGEST));
        for before in at - silent..at {
            let mean = usual.mean / exposure * past.at(before).exposure();
            square += bounded(mean * mean, mean);
        }
        if estimate.known.windows < 5.0 {
            square = value;
        }
        let influence = estimate.influence(count * share, others);
        let entry = Entry {
            at,
            value: single(value),
            usual: single(value * share),
            exposure: single(count * share * influence),
            square: single(square),
            level: None,
        };
        let mean = estimate.predict(estimate.usual, 1.0).mean;
        let class = class(mean);
        // Before anything is known, it is 2 to the bit.
        sum.is_unsure |= estimate.is_unsure || (is_between_classes(mean) && estimate.known.windows > 0.0);
        let as_usual = rounded(if value > 0.0 { count * single(entry.usual / entry.value) } else { 0.0 });
        sum.events += count;
        sum.usual += as_usual;
        sum.exposure += rounded(entry.exposure);
        sum.squares[class] += rounded(entry.square);
        sum.counts[class] += as_usual;
        self.entries.push(entry);
    }

    fn entry(&self, at: i64) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.at == at)
    }

    /// The exposure of the window `at` without the key's own events.
    fn others(&self, past: &Past, at: i64) -> f64 {
        (past.at(at).exposure() - self.entry(at).map_or(0.0, |entry| entry.exposure)).max(PSEUDO)
    }

    /// Scores the window that closed last. `ups` and `drops`: whether that much and that little is unusual.
    pub(super) fn score(&self, past: &Past, lag: i64, at: i64, ups: bool, drops: bool) -> Score {
        let estimate = self.estimate(past, at - lag);
        let Estimate { known: Known { threshold, .. }, is_unsure, .. } = estimate;
        let threshold = *threshold;
        let of_span = |span: i64| {
            let windows = (at - span + 1..=at).rev();
            let values = windows.clone().map(|at| self.entry(at).map_or(0.0, |entry| entry.value));
            let value: f64 = values.sum();
            let exposure: f64 = windows.map(|at| self.others(past, at)).sum();
            let usual = estimate.predict(exposure, span as f64);
            let up = if ups { usual.at_least(value) } else { 0.0 };
            let down = if drops { usual.at_most(value) } else { 0.0 };
            let score = if threshold.is_some() { up.max(down) } else { 0.0 };
            let window = (value, usual.mean);
            let is_up = value >= usual.mean;
            Score {
                score,
                second: 0.0,
                span,
                value,
                expected: usual.mean,
                is_up,
                window,
                threshold,
                is_unsure,
            }
        };
        let single = of_span(1);
        // Of spans that are as unusual, the shortest.
        [2, 4, LONGEST].into_iter().take_while(|span| at - span + 1 >= self.since).map(of_span).fold(
            single,
            |best, of| {
                let second = best.score.min(of.score).max(best.second);
                let better = if of.score > best.score { of } else { best };
                Score { second, window: single.window, ..better }
            },
        )
    }

    /// Notes what the score of the window that closed last reached; the levels that it reached first in eight windows.
    pub(super) fn reach(&mut self, at: i64, level: usize) -> std::ops::RangeInclusive<usize> {
        let recent = self.entries.iter().filter(|entry| entry.at < at && at - entry.at <= LONGEST);
        let before = recent.filter_map(|entry| entry.level).max().unwrap_or(0);
        if let Some(entry) = self.entries.last_mut().filter(|entry| entry.at == at) {
            entry.level = Some(level);
        }
        before + 1..=level
    }

    /// What the key does since the window `at` is usual from now on.
    pub(super) fn restart(&mut self, past: &Past, at: i64, value: f64) {
        let known = past.at(at);
        let others: f64 = (at - LONGEST + 1..=at).map(|at| self.others(past, at)).sum();
        self.first = at + 1 - LEVEL_WINDOWS;
        self.level = Some(Level {
            at,
            value,
            exposure: others / LONGEST as f64,
            exposures: known.exposures,
            dispersion: known.dispersion[class(value)],
        });
        self.since = self.since.max(at + 1);
    }
}
