//! The alerts of detectors that look at one key alone: each window against the list of all windows before it, by the definitions in
//! docs/detectors.md.

use std::collections::BTreeMap;

use herd_spec::pipeline::{AggregateFunction, Direction};
use herd_spec::plan::{ALL_KEY, Algorithm, DetectorPlan, MetricPlan, Plan};
use herd_spec::wire::Ending;

use super::compare::{Difference, End, Expected, Found, ROUNDING, Told, compare};
use super::crowd::{self, Traffic};
use super::total;

/// An episode is told of at each of its first windows, and then once in so many.
const TOLD_EACH: i64 = 8;

/// A metric, as far as its alerts go.
pub(crate) struct Metric<'a> {
    plan: &'a MetricPlan,
    detectors: Vec<&'a DetectorPlan>,
    pub(crate) size: i64,
    lag: i64,
    /// Windows of silence after which a key counts as never seen.
    memory: i64,
}

impl<'a> Metric<'a> {
    pub(crate) fn all(plan: &'a Plan) -> BTreeMap<&'a str, Self> {
        plan.metrics.iter().map(|metric| (metric.name.as_str(), Self::of(plan, metric))).collect()
    }

    fn of(plan: &'a Plan, metric: &'a MetricPlan) -> Self {
        let size = metric.window.as_millis() as i64;
        let detectors: Vec<_> = plan.detectors.iter().filter(|of| of.metric == metric.name).collect();
        let emit = plan.metrics.iter().map(|metric| metric.emit.as_millis() as i64).min().unwrap_or(0);
        let wait = plan.events.max_lateness.as_millis() as i64 + 2 * emit;
        let lag = 1 + (wait + size - 1) / size;
        let remembered = detectors.iter().map(|of| memory(of).max(cooldown(of, size))).max().unwrap_or(0);
        Self { plan: metric, detectors, size, lag, memory: remembered + lag }
    }

    fn is_mean(&self) -> bool {
        self.plan.aggregate.function() == AggregateFunction::Mean
    }

    fn counts(&self) -> bool {
        matches!(self.plan.aggregate.function(), AggregateFunction::Count | AggregateFunction::Unique)
    }

    /// Whether alerts of this detector follow from the windows of all keys, not from those of one.
    pub(crate) fn is_of_all_keys(&self, detector: &str) -> bool {
        self.crowds().any(|of| of.name == detector)
    }

    /// Whether detectors of all keys also alert about the whole metric.
    fn has_total(&self) -> bool {
        self.plan.aggregate.function() == AggregateFunction::Count
    }

    fn crowds(&self) -> impl Iterator<Item = &'a DetectorPlan> {
        self.detectors.iter().copied().filter(|of| matches!(of.algorithm, Algorithm::Crowd(_)))
    }

    /// Where the alerts `found` for a key differ from those that follow from its closed windows (start → events, value),
    /// when everything up to `horizon` is closed. What would happen beyond it may have happened or not.
    pub(crate) fn differences(
        &self,
        windows: &BTreeMap<i64, (u64, f64)>,
        horizon: i64,
        found: Vec<Found>,
    ) -> Vec<Difference> {
        let (expected, unsure) = self.alerts(windows, horizon);
        let is_certain =
            |_: &str, at: i64| at + self.size <= horizon && unsure.is_none_or(|unsure| at < unsure);
        compare(expected, found, is_certain).0
    }

    /// The same for the alerts of detectors that look at all keys of a partition together, by key. Also how many of `found` were
    /// held against what follows: the others come after something that nobody knows.
    pub(crate) fn differences_of_all_keys(
        &self,
        traffic: &Traffic,
        mut found: BTreeMap<String, Vec<Found>>,
    ) -> (Vec<(String, Difference)>, usize) {
        let (mut differences, mut checked) = (Vec::new(), 0);
        for detector in self.crowds() {
            let share = if self.has_total() { 1.0 - total::SHARE } else { 1.0 };
            let (mut expected, unsure) = crowd::alerts(detector, self.size, self.lag, share, traffic);
            let certain = |unsure: Option<i64>| {
                move |_: &str, at: i64| {
                    at + self.size <= traffic.horizon && unsure.is_none_or(|unsure| at < unsure)
                }
            };
            let is_certain = certain(unsure);
            if traffic.watches_total && self.has_total() {
                let (expected, unsure) = total::alerts(detector, self.size, traffic);
                let ours = found.entry(ALL_KEY.to_owned()).or_default();
                let ours = ours.extract_if(.., |found| detector.name == found.detector).collect();
                let (of_total, compared) = compare(expected, ours, certain(unsure));
                checked += compared;
                differences.extend(of_total.into_iter().map(|difference| (ALL_KEY.to_owned(), difference)));
            }
            let of_detector = found.iter_mut().map(|(key, found)| {
                let ours = found.extract_if(.., |found| detector.name == found.detector).collect();
                (key.clone(), ours)
            });
            let mut found: BTreeMap<String, Vec<Found>> = of_detector.collect();
            for key in expected.keys() {
                found.entry(key.clone()).or_default();
            }
            for (key, found) in found {
                let expected = expected.remove(&key).unwrap_or_default();
                let (of_key, compared) = compare(expected, found, is_certain);
                checked += compared;
                differences.extend(of_key.into_iter().map(|difference| (key.clone(), difference)));
            }
        }
        (differences, checked)
    }

    /// The alerts of a key with these closed windows (start → events, value), when everything up to `horizon` is closed.
    /// With the start of the window from which on rounding decides, if there is one.
    fn alerts(&self, windows: &BTreeMap<i64, (u64, f64)>, horizon: i64) -> (Vec<Expected>, Option<i64>) {
        let mut alerts: Vec<Expected> = Vec::new();
        let mut of_detector: Vec<(Option<i64>, Option<usize>)> = vec![(None, None); self.detectors.len()];
        let Some(mut first) = windows.keys().next().copied() else { return (alerts, None) };
        let (mut at, mut last) = (first, first);
        while at + self.size <= horizon || windows.range(at..).next().is_some() {
            let window = windows.get(&at).copied();
            let firing = of_detector.iter().any(|(_, firing)| firing.is_some());
            let forgotten = (at - last) / self.size > self.memory && !firing;
            if window.is_some() && forgotten {
                first = at;
                of_detector.fill((None, None));
            }
            if window.is_none() && !firing && (forgotten || !self.detectors.iter().any(|of| drops(of))) {
                at += self.size;
                continue;
            }
            let (count, value) = window.unwrap_or((0, 0.0));
            let past = self.past(windows, first, at);
            for (detector, state) in self.detectors.iter().zip(&mut of_detector) {
                // Where silence has no value, it only ends an alert.
                let verdict = match window {
                    None if self.is_mean() => Verdict::Usual,
                    _ => judge(detector, &past, self.counts(), value, count),
                };
                match verdict {
                    Verdict::Unsure => return (alerts, Some(at)),
                    Verdict::Usual => {
                        if let Some(alert) = state.1.take().and_then(|firing| alerts.get_mut(firing)) {
                            let last = Told { at, until: at, ..alert.newest };
                            alert.end = Some(End { last, ending: Ending::Usual });
                        }
                    }
                    Verdict::Crossed { expected } => {
                        let pause = cooldown(detector, self.size).max(1) * self.size;
                        if let Some(alert) = state.1.and_then(|firing| alerts.get_mut(firing)) {
                            // Silence below a bound is not judged window by window.
                            if count > 0 || !matches!(detector.algorithm, Algorithm::Threshold(_)) {
                                self.prolong(alert, at, value, expected);
                            }
                        } else if state.0.is_none_or(|before| at - before >= pause) {
                            *state = (Some(at), Some(alerts.len()));
                            let told =
                                Told { at, until: at + self.size, peak: value, excess: value - expected };
                            alerts.push(Expected {
                                detector: detector.name.to_string(),
                                start: at,
                                value,
                                expected,
                                since: at,
                                newest: told,
                                told: vec![told],
                                end: None,
                            });
                        }
                    }
                }
            }
            if window.is_some() {
                last = at;
            }
            at += self.size;
        }
        (alerts, None)
    }

    /// Takes one more window into the episode of an alert.
    fn prolong(&self, alert: &mut Expected, at: i64, value: f64, expected: f64) {
        let is_drop = alert.value < alert.expected;
        let Told { peak, excess, .. } = alert.newest;
        let is_further = if is_drop { value < peak } else { value > peak };
        let more = value - expected;
        // What does not add up: the largest difference.
        let excess = match (self.is_mean(), is_drop) {
            (false, _) => excess + more,
            (true, true) => excess.min(more),
            (true, false) => excess.max(more),
        };
        let peak = if is_further { value } else { peak };
        alert.newest = Told { at, until: at + self.size, peak, excess };
        let windows = (at - alert.since) / self.size + 1;
        if is_further || windows <= TOLD_EACH || windows % TOLD_EACH == 0 {
            alert.told.push(alert.newest);
        }
    }

    /// What the window at `at` is judged by: the values of all windows since `first`, but for the last `lag`.
    fn past(&self, windows: &BTreeMap<i64, (u64, f64)>, first: i64, at: i64) -> Vec<f64> {
        let until = at - self.lag * self.size;
        let starts = (0..).map(|n| first + n * self.size).take_while(|start| *start <= until);
        let single = |value: f64| f64::from(value as f32); // as histories keep them
        let value = |start: i64| match windows.get(&start) {
            Some((_, value)) => Some(single(*value)),
            None => (!self.is_mean()).then_some(0.0),
        };
        starts.filter_map(value).collect()
    }
}

fn cooldown(detector: &DetectorPlan, size: i64) -> i64 {
    (detector.cooldown.as_millis() as i64 + size - 1) / size
}

fn memory(detector: &DetectorPlan) -> i64 {
    let windows = match &detector.algorithm {
        Algorithm::Crowd(_) => 4096.0,
        Algorithm::Level(_) | Algorithm::Threshold(_) => 0.0,
        Algorithm::Zscore(of) => 4.0 * f64::from(of.history),
        Algorithm::Mad(of) => 4.0 * f64::from(of.history),
        Algorithm::Ewma(of) => (6.0 * of.half_life).min(1e3),
        Algorithm::Poisson(of) => (6.0 * of.half_life).min(1e3),
    };
    windows.ceil() as i64
}

/// Whether silence can be unusual.
fn drops(detector: &DetectorPlan) -> bool {
    match &detector.algorithm {
        Algorithm::Threshold(bounds) => bounds.below().is_some(),
        _ => detector.direction != Direction::Up,
    }
}

enum Verdict {
    Usual,
    Crossed { expected: f64 },
    Unsure,
}

fn judge(detector: &DetectorPlan, past: &[f64], counts: bool, value: f64, count: u64) -> Verdict {
    if past.len() < detector.algorithm.warmup() as usize {
        return Verdict::Usual;
    }
    let around = |expected: f64, deviation: f64, width: f64| {
        let chance = if counts { expected.max(1.0).sqrt() } else { 0.0 };
        let spread = deviation.max(chance).max(0.05 * expected.abs()).max(1e-6);
        (expected, value - (expected + width * spread), expected - width * spread - value)
    };
    let (expected, above, below) = match &detector.algorithm {
        Algorithm::Crowd(_) | Algorithm::Level(_) => return Verdict::Usual,
        Algorithm::Threshold(bounds) => {
            let above = bounds.above().filter(|above| count >= detector.min_count && value > *above);
            let crossed = above.or(bounds.below().filter(|below| value < *below));
            return crossed.map_or(Verdict::Usual, |expected| Verdict::Crossed { expected });
        }
        Algorithm::Poisson(of) => {
            let (mean, rarity) = rarity(past, of.half_life, value);
            let excess = rarity + of.probability.ln();
            (mean, if value > mean { excess } else { -1.0 }, if value < mean { excess } else { -1.0 })
        }
        Algorithm::Zscore(of) => {
            let recent = recent(past, of.history);
            let mean = average(recent.iter().copied());
            let squares: f64 = recent.iter().map(|value| (value - mean).powi(2)).sum();
            let deviation = (squares / (recent.len() as f64 - 1.0).max(1.0)).sqrt();
            around(mean, deviation, of.sigmas)
        }
        Algorithm::Mad(of) => {
            let recent = recent(past, of.history);
            let center = median(recent.to_vec());
            let deviation = 1.4826 * median(recent.iter().map(|value| (value - center).abs()).collect());
            around(center, deviation, of.deviations)
        }
        Algorithm::Ewma(of) => {
            let (mean, variance) = fading(past, of.half_life);
            around(mean, variance.sqrt(), of.sigmas)
        }
    };
    let up = if detector.direction == Direction::Down || count < detector.min_count { -1.0 } else { above };
    let down = if detector.direction == Direction::Up { -1.0 } else { below };
    let margin = ROUNDING * (1.0 + value.abs());
    match up.max(down) {
        most if most.abs() <= margin => Verdict::Unsure,
        most if most > 0.0 => Verdict::Crossed { expected },
        _ => Verdict::Usual,
    }
}

fn recent(past: &[f64], history: u32) -> &[f64] {
    &past[past.len().saturating_sub(history as usize)..]
}

fn average(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// Mean and variance in which a value weighs half as much `half_life` windows later; plain while that is more.
fn fading(past: &[f64], half_life: f64) -> (f64, f64) {
    let slowest = 1.0 - 0.5_f64.powf(1.0 / half_life);
    let mut weights = Vec::with_capacity(past.len());
    for n in 1..=past.len() {
        let weight = slowest.max(1.0 / n as f64);
        weights.iter_mut().for_each(|before| *before *= 1.0 - weight);
        weights.push(weight);
    }
    let weighted = |of: &dyn Fn(f64) -> f64| past.iter().zip(&weights).map(|(v, w)| w * of(*v)).sum::<f64>();
    let mean = weighted(&|value| value);
    (mean, weighted(&|value| (value - mean).powi(2)))
}

/// The expected count, and −ln of the bounded chance of one so far from it: Chernoff's bound for a negative binomial.
fn rarity(past: &[f64], half_life: f64, value: f64) -> (f64, f64) {
    let weights: Vec<f64> = (0..past.len()).rev().map(|age| 0.5_f64.powf(age as f64 / half_life)).collect();
    let sum = |power: i32| past.iter().zip(&weights).map(|(value, w)| w * value.powi(power)).sum::<f64>();
    let exposure = sum(0).max(1.0);
    let (mean, seen) = ((sum(1) + 0.5) / exposure, sum(1) / exposure);
    let dispersion =
        if seen > 0.0 { ((sum(2) / exposure - seen * seen).max(0.0) / seen).max(1.0) } else { 1.0 };
    let variance = mean * dispersion * (1.0 + 1.0 / exposure);
    let shape = mean * mean / (variance - mean).max(1e-9);
    let gain = if value == 0.0 { 0.0 } else { value * (value / mean).ln() };
    let rarity = gain - (value + shape) * ((value + shape) / (mean + shape)).ln();
    (mean, rarity.max(0.0))
}
