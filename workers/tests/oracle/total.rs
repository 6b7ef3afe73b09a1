//! The alerts of a detector about a whole metric: the totals of its windows one after the other, each held against the list of all
//! before it.

use herd_spec::plan::{AlertLimit, Algorithm, DetectorPlan, OTHER_KEY};
use herd_spec::wire::Ending;

use super::compare::{End, Expected, ROUNDING, Told};
use super::crowd::Traffic;
use super::tail::Distribution;

/// Tenths of a budget that are for alerts about the whole metric.
pub(super) const SHARE: f64 = 0.1;
const SPANS: [usize; 4] = [1, 2, 4, 8];
const WARMUP: usize = 30;
const MIN_EVENTS: f64 = 30.0;
/// Of what was expected: what is told, and what is still ordinary.
const EFFECT: f64 = 0.5;
const ORDINARY: f64 = 0.25;
const SILENT: f64 = 0.05;
const ORDINARY_WINDOWS: usize = 3;
const NEW_LEVEL: usize = 60;
const NEW_SILENCE: usize = 4_096;
const MEMORY: usize = 8_192;
/// An episode is told of at each of its first windows, and then once in so many.
const TOLD_EACH: usize = 8;

/// What is decided within rounding.
struct Unsure;

/// A series of numbers of events, each with what was expected of the next after it.
#[derive(Default)]
struct Series {
    values: Vec<f64>,
    rates: Vec<f64>,
    spreads: [f64; 4],
}

impl Series {
    /// What was expected of the last `span` windows, and what they had. The newest has no rate yet.
    fn forecast(&self, span: usize) -> (f64, f64) {
        let before = self.values.len().checked_sub(span + 1).map_or(0.0, |at| self.rates[at]);
        (span as f64 * before, self.values[self.values.len().saturating_sub(span)..].iter().sum())
    }

    fn change(&self, span: usize) -> f64 {
        let (expected, value) = self.forecast(span);
        ((value - expected) / expected.max(1.0)).abs()
    }

    fn rarity(&self, place: usize, is_up: bool) -> f64 {
        let (expected, value) = self.forecast(SPANS[place]);
        // A Poisson distribution is the limit of no excess.
        let excess = (self.spreads[place] - 1.0).max(1e-9);
        let of = Distribution { mean: expected.max(1.0), excess };
        if is_up { of.at_least(value) } else { of.at_most(value) }
    }

    /// `seen` windows were learnt before; sums of no more than `longest` windows tell anything.
    fn spread(&mut self, seen: usize, longest: usize) {
        for (place, span) in SPANS.into_iter().enumerate() {
            let sums = seen.saturating_sub(span);
            if sums < 3 {
                self.spreads[place] = 2.0;
                continue;
            }
            if span > longest {
                continue;
            }
            let (expected, value) = self.forecast(span);
            let before = self.spreads[place];
            let error = ((value - expected).powi(2) / expected.max(1.0)).min(16.0 * before.max(1.0));
            let weight = (1.0 / (10.0 + sums as f64)).max(0.002_307_82);
            self.spreads[place] = (1.0 - weight) * before + weight * error;
        }
    }

    fn learn(&mut self, seen: usize) {
        let value = *self.values.last().unwrap_or(&0.0);
        let rate = *self.rates.last().unwrap_or(&0.0);
        let most = 4.0 * (rate.max(1.0) * self.spreads[0].max(1.0)).sqrt();
        let learnt = if seen < WARMUP { value } else { value.max(rate - most).min(rate + most) };
        let weight = (1.0 / (seen as f64 + 1.0)).max(0.066_967_008);
        self.rates.push((1.0 - weight) * rate + weight * learnt);
    }

    fn stand(&mut self) {
        self.rates.push(*self.rates.last().unwrap_or(&0.0));
    }

    /// The mean of the last eight becomes what is expected.
    fn settle(&mut self) -> f64 {
        let last = &self.values[self.values.len().saturating_sub(8)..];
        let level = last.iter().sum::<f64>() / 8.0;
        let from = self.rates.len().saturating_sub(7);
        self.rates[from..].fill(level);
        self.rates.push(level);
        level
    }
}

struct Open {
    place: usize,
    begin: usize,
    last: usize,
    expected: f64,
    is_up: bool,
    peak: f64,
    excess: f64,
    pending: f64,
}

/// The alerts, and the start of the window from which on they are not certain, if there is one.
pub(super) fn alerts(detector: &DetectorPlan, size: i64, traffic: &Traffic) -> (Vec<Expected>, Option<i64>) {
    let mut walk = Walk {
        detector,
        size,
        all: Series::default(),
        common: Series::default(),
        learnt: 0,
        zeros: 0,
        from: 0,
        of_few: 0,
        alerted: None,
        open: None,
        alerts: Vec::new(),
    };
    let first = traffic.totals.iter().find(|(_, total)| **total > 0).map(|(start, _)| *start);
    let first = first.into_iter().chain(traffic.windows.keys().next().copied()).min();
    let Some(first) = first else { return (Vec::new(), None) };
    for start in (0..).map(|n| first + n * size).take_while(|start| start + size <= traffic.horizon) {
        let doubtful = traffic.doubtful.is_some_and(|doubtful| doubtful <= start);
        if doubtful || walk.close(start, traffic).is_err() {
            return (walk.alerts, Some(start));
        }
    }
    (walk.alerts, None)
}

struct Walk<'a> {
    detector: &'a DetectorPlan,
    size: i64,
    all: Series,
    /// Of the partition's keys, but for what two of them stand out.
    common: Series,
    learnt: usize,
    zeros: usize,
    /// The first window that is part of a sum.
    from: usize,
    /// Windows in a row that are unlike what was expected because of a few keys.
    of_few: usize,
    /// Start of the window of the last alert.
    alerted: Option<i64>,
    open: Option<Open>,
    alerts: Vec<Expected>,
}

impl Walk<'_> {
    fn close(&mut self, start: i64, traffic: &Traffic) -> Result<(), Unsure> {
        let mut counts: Vec<u64> = Vec::new();
        let mut own = 0;
        for (key, (count, _)) in traffic.windows.get(&start).into_iter().flatten() {
            own += count;
            if key != OTHER_KEY {
                counts.push(*count);
            }
        }
        let total = traffic.totals.get(&start).copied().unwrap_or_default().max(own);
        if total == 0 && self.learnt == 0 && self.open.is_none() {
            return Ok(()); // nothing is known yet, or any more
        }
        counts.sort_unstable();
        counts.reverse();
        let third = counts.get(2).copied().unwrap_or(0);
        let common: u64 = counts.iter().map(|count| *count.min(&third)).sum();
        self.zeros = if total == 0 { self.zeros + 1 } else { 0 };
        if self.zeros >= MEMORY {
            (self.all, self.common) = (Series::default(), Series::default());
            (self.learnt, self.zeros, self.from, self.of_few) = (0, 0, 0, 0);
            self.open = None;
            return Ok(());
        }
        self.all.values.push(total as f64);
        self.common.values.push(common as f64);
        let at = self.all.values.len() - 1;
        match self.open.take() {
            Some(open) => self.go_on(open, at, start),
            None => self.begin(at, start),
        }
    }

    fn begin(&mut self, at: usize, start: i64) -> Result<(), Unsure> {
        let longest = at + 1 - self.from.min(at + 1);
        let is_paused = self.alerted.is_some_and(|alerted| start - alerted < self.pause());
        let bound = if is_paused { f64::INFINITY } else { self.bound() };
        let mut most: Option<(f64, usize)> = None;
        let mut is_of_few = false;
        for (place, span) in SPANS.into_iter().enumerate() {
            if self.learnt < WARMUP + span || span > longest {
                break;
            }
            let (expected, value) = self.all.forecast(span);
            let difference = value - expected;
            if !reaches(expected.max(value), MIN_EVENTS)?
                || !reaches(difference.abs() / expected.max(1e-9), EFFECT)?
            {
                continue;
            }
            let is_up = difference > 0.0;
            let score = (self.all.rarity(place, is_up) - 8.0_f64.log10()).max(0.0);
            if !reaches(score, bound)? {
                continue;
            }
            let change = (0.5 * self.all.change(span)).max(0.4);
            if !reaches(value, SILENT * expected)? {
                // Silence: hardly any event of any key.
            } else if !reaches(self.common.rarity(place, is_up), 3.0)?
                || !reaches(self.common.change(span), change)?
            {
                is_of_few = true;
                continue;
            }
            match most {
                Some((best, _)) if (best - score).abs() < ROUNDING => return Err(Unsure),
                Some((best, _)) if best > score => {}
                _ => most = Some((score, span)),
            }
        }
        self.of_few = if is_of_few { self.of_few + 1 } else { 0 };
        if most.is_none() && self.of_few > 0 && self.of_few < NEW_LEVEL {
            self.all.stand();
            self.common.stand();
            return Ok(());
        }
        let known = (self.all.forecast(most.map_or(1, |(_, span)| span)), most);
        self.all.spread(self.learnt, longest);
        self.common.spread(self.learnt, longest);
        let ((expected, value), Some((_, span))) = known else {
            self.all.learn(self.learnt);
            self.common.learn(self.learnt);
            self.learnt += 1;
            return Ok(());
        };
        let is_up = value > expected;
        let values = &self.all.values[at + 1 - span..];
        let peak = values.iter().copied().fold(values[0], |a, b| if is_up { a.max(b) } else { a.min(b) });
        let told = Told { at: start, until: start + self.size, peak, excess: value - expected };
        self.open = Some(Open {
            place: self.alerts.len(),
            begin: at,
            last: at,
            expected: expected / span as f64,
            is_up,
            peak,
            excess: value - expected,
            pending: 0.0,
        });
        self.alerted = Some(start);
        self.alerts.push(Expected {
            detector: self.detector.name.to_string(),
            start,
            value,
            expected,
            since: start - (span as i64 - 1) * self.size,
            newest: told,
            told: vec![told],
            end: None,
        });
        self.all.stand();
        self.common.stand();
        Ok(())
    }

    fn go_on(&mut self, mut open: Open, at: usize, start: i64) -> Result<(), Unsure> {
        let value = self.all.values[at];
        let difference = value - open.expected;
        let is_further = if open.is_up { value > open.peak } else { value < open.peak };
        if is_further {
            open.peak = value;
        }
        let away = if open.is_up { difference } else { -difference };
        let deviation = (open.expected * self.all.spreads[0].max(1.0)).sqrt();
        let ordinary = (2.0 * deviation).min(EFFECT * open.expected).max(ORDINARY * open.expected);
        let mut end = None;
        if away != ordinary && reaches(away, ordinary)? {
            open.last = at;
            open.excess += std::mem::take(&mut open.pending) + difference;
        } else {
            open.pending += difference;
            if at - open.last >= ORDINARY_WINDOWS {
                self.from = open.last + 1;
                end = Some(Ending::Usual);
            }
        }
        let last = &self.all.values[(at + 1).saturating_sub(8)..];
        let mut is_silent = false;
        for value in last {
            is_silent |= !reaches(*value, SILENT * open.expected)?;
        }
        let lasts = if is_silent { NEW_SILENCE } else { NEW_LEVEL };
        if end.is_none() && at - open.begin >= lasts {
            open.excess += std::mem::take(&mut open.pending);
            self.from = at + 1;
            self.common.settle();
            end = Some(Ending::NewLevel(self.all.settle()));
        } else {
            self.all.stand();
            self.common.stand();
        }
        let newest = match end {
            Some(Ending::Usual) => open.last,
            _ => at,
        };
        let until = start + (newest as i64 - at as i64 + 1) * self.size;
        let told = Told { at: start, until, peak: open.peak, excess: open.excess };
        let windows = at - open.begin + 1;
        let Some(alert) = self.alerts.get_mut(open.place) else { return Ok(()) };
        alert.newest = told;
        match end {
            Some(ending) => alert.end = Some(End { last: told, ending }),
            None => {
                if is_further || windows <= TOLD_EACH || windows.is_multiple_of(TOLD_EACH) {
                    alert.told.push(told);
                }
                self.open = Some(open);
            }
        }
        Ok(())
    }

    fn pause(&self) -> i64 {
        (self.detector.cooldown.as_millis() as i64 + self.size - 1) / self.size * self.size
    }

    /// The score from which on a window alerts.
    fn bound(&self) -> f64 {
        let (Algorithm::Crowd(limit) | Algorithm::Level(limit)) = &self.detector.algorithm else {
            return f64::INFINITY;
        };
        let probability = match limit {
            AlertLimit::Probability(probability) => *probability,
            AlertLimit::Budget(budget) => SHARE * budget.alerts_per_day() * self.size as f64 / 86_400_000.0,
        };
        -probability.min(0.1).log10()
    }
}

/// Whether a value reaches a bound, unless rounding decides.
fn reaches(value: f64, bound: f64) -> Result<bool, Unsure> {
    let is_close = bound.is_finite() && (value - bound).abs() < ROUNDING * (1.0 + bound.abs());
    if is_close && value != bound { Err(Unsure) } else { Ok(value >= bound) }
}
