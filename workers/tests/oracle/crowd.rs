//! Detectors of the algorithm `crowd`: the windows of a partition one after the other, each with all its keys.

use std::collections::BTreeMap;

use herd_spec::pipeline::Direction;
use herd_spec::plan::{AlertLimit, Algorithm, DetectorPlan, OTHER_KEY};
use herd_spec::wire::Ending;

use super::compare::{End, Expected, ROUNDING, Told};
use super::model::{KeyPast, LONGEST, Past, Score, Sum, is_forgotten};

/// Levels of scores, four to one.
const LEVELS: usize = 80;
/// An episode is over after as many ordinary windows.
const ORDINARY_WINDOWS: i64 = 3;
/// What is reached by chance in one of ten times is ordinary.
const ORDINARY: f64 = 1.0;
/// What lasts so many windows is a new level.
const NEW_LEVEL: i64 = 30;
/// An episode that goes on is told of at each of its first windows, and then once in so many.
const TOLD_EACH: i64 = 8;

/// The closed windows of a metric, as a partition has them.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// The windows of its own keys: start → key → events and value.
    pub(crate) windows: BTreeMap<i64, BTreeMap<String, (u64, f64)>>,
    /// How many different users there were in each: at least, and at most where nobody knows of some events in which window they count.
    pub(crate) users: BTreeMap<i64, BTreeMap<String, (u64, u64)>>,
    /// Events of all keys of all partitions, by start.
    pub(crate) totals: BTreeMap<i64, u64>,
    /// Whether this is the partition that watches the traffic of the whole metric.
    pub(crate) watches_total: bool,
    /// How many partitions there are.
    pub(crate) partitions: u32,
    /// Everything up to here is closed.
    pub(crate) horizon: i64,
    /// The start of the first window of which nobody knows with what it closed.
    pub(crate) doubtful: Option<i64>,
}

impl Traffic {
    /// Nobody knows with what the window at `start` closed.
    pub(crate) fn doubt(&mut self, start: i64) {
        self.doubtful = Some(self.doubtful.map_or(start, |doubtful| doubtful.min(start)));
    }
}

/// How often each level of the scores was reached from below, lately.
struct Calibration {
    reached: [f64; LEVELS],
    new: [f64; LEVELS],
    windows: f64,
    fade: f64,
    /// The part of the budget that is for keys.
    share: f64,
}

impl Calibration {
    /// The score from which on a window alerts that closes now, of `keys` keys.
    fn threshold(&mut self, limit: AlertLimit, keys: usize, size: i64, partitions: u32) -> f64 {
        let budget = match limit {
            AlertLimit::Probability(probability) => return -probability.log10(),
            AlertLimit::Budget(budget) => self.share * budget.alerts_per_day() / f64::from(partitions),
        };
        let windows_a_day = 86_400_000.0 / size as f64;
        // Over as many days as bring twenty alerts, a week to four.
        let memory = (20.0 / budget).clamp(7.0, 28.0) * windows_a_day;
        self.fade = 1.0 - 1.0 / memory.max(1_000.0);
        // Fifty times as many as the model says.
        let model = (50.0 * keys.max(1) as f64 * windows_a_day / budget).log10().max(1.0);
        let days = self.windows / windows_a_day;
        // Four fifths of the budget are aimed at.
        match self.reached_so_often(0.8 * budget * days) {
            None => model,
            // For three days, what was alerted is held against nothing.
            Some(_) if days >= 3.0 => panic!("the oracle does not know of budgets that are counted"),
            Some(seen) if seen > model => seen,
            Some(seen) => model + (seen.max(2.0) - model) * days.min(1.0),
        }
    }

    fn reached_so_often(&self, wanted: f64) -> Option<f64> {
        let reached = |level: usize| self.reached[level];
        let high = (1..LEVELS).rev().find(|level| reached(*level) >= wanted.max(60.0))?;
        let low = (1..high).rev().find(|level| reached(*level) >= 5.0 * reached(high)).unwrap_or(1);
        let low = low.min(high - 1).max(1);
        let slope = if low < high {
            (reached(low) / reached(high)).ln() / ((high - low) as f64 / 4.0)
        } else {
            std::f64::consts::LN_10
        };
        Some(
            high as f64 / 4.0
                + (reached(high) / wanted).ln().max(0.0) / slope.clamp(0.7, std::f64::consts::LN_10),
        )
    }

    fn pass_window(&mut self) {
        self.windows = self.windows * self.fade + 1.0;
        for (reached, new) in self.reached.iter_mut().zip(&mut self.new) {
            *reached = *reached * self.fade + std::mem::take(new);
        }
    }
}

struct Key {
    past: KeyPast,
    /// The window of its last alert.
    alerted: Option<i64>,
    episode: Option<Open>,
}

/// An episode that goes on.
struct Open {
    /// Its place among the alerts of the key.
    place: usize,
    begin: i64,
    /// The newest window that was not ordinary, and over how many windows it was not.
    last: i64,
    span: i64,
    is_up: bool,
    peak: f64,
    excess: f64,
    /// Of the ordinary windows since `last`, which count if it goes on.
    pending: f64,
    values: Vec<f64>,
}

/// What is decided within rounding.
struct Unsure;

/// The alerts of a detector by key, and the start of the window from which on they are not certain, if there is one.
pub(super) fn alerts(
    detector: &DetectorPlan,
    size: i64,
    lag: i64,
    share: f64,
    traffic: &Traffic,
) -> (BTreeMap<String, Vec<Expected>>, Option<i64>) {
    let mut walk = Walk {
        detector,
        size,
        lag: lag.min(32),
        keys: BTreeMap::new(),
        calibration: Calibration {
            reached: [0.0; LEVELS],
            new: [0.0; LEVELS],
            windows: 0.0,
            fade: 1.0,
            share,
        },
        alerts: BTreeMap::new(),
    };
    let own = traffic.windows.keys().next();
    let any = traffic.totals.iter().find(|(_, total)| **total > 0).map(|(start, _)| start);
    let Some(first) = own.into_iter().chain(any).min() else { return (walk.alerts, None) };
    let mut past = Past::of(walk.index(*first));
    let mut start = *first;
    while start + size <= traffic.horizon {
        if traffic.doubtful.is_some_and(|doubtful| doubtful <= start)
            || walk.close(&mut past, start, traffic).is_err()
        {
            return (walk.alerts, Some(start));
        }
        start += size;
    }
    (walk.alerts, None)
}

struct Walk<'a> {
    detector: &'a DetectorPlan,
    size: i64,
    lag: i64,
    keys: BTreeMap<String, Key>,
    calibration: Calibration,
    alerts: BTreeMap<String, Vec<Expected>>,
}

impl Walk<'_> {
    /// Windows are counted from 1.
    fn index(&self, start: i64) -> i64 {
        1 + start / self.size
    }

    fn start(&self, index: i64) -> i64 {
        (index - 1) * self.size
    }

    fn close(&mut self, past: &mut Past, start: i64, traffic: &Traffic) -> Result<(), Unsure> {
        let at = self.index(start);
        let nothing = BTreeMap::new();
        let windows = traffic.windows.get(&start).unwrap_or(&nothing);
        let own = windows.values().map(|(count, _)| count).sum();
        let total = traffic.totals.get(&start).copied().unwrap_or_default().max(own);
        let mut sum = Sum::default();
        let counted = || windows.iter().filter(|(key, _)| *key != OTHER_KEY);
        for (name, value) in counted() {
            let new = || Key { past: KeyPast::of(at), alerted: None, episode: None };
            let key = self.keys.entry(name.clone()).or_insert_with(new);
            if key.episode.is_none() && key.past.last().is_some_and(|last| is_forgotten(last, at)) {
                *key = Key { alerted: key.alerted, ..new() };
            }
            key.past.take(past, self.lag, at, total, *value, &mut sum);
        }
        if sum.is_unsure {
            return Err(Unsure);
        }
        let is_known = |key: &&Key| key.past.last().is_some_and(|last| !is_forgotten(last, at));
        let known = self.keys.values().filter(is_known).count();
        self.calibration.pass_window();
        let (limit, partitions) = (self.limit(), traffic.partitions);
        let (calibration, size) = (&mut self.calibration, self.size);
        past.close(total, &sum, known, |is_warm| {
            is_warm.then(|| calibration.threshold(limit, known, size, partitions))
        });
        let drops = self.detector.direction != Direction::Up;
        let names: Vec<String> = self.keys.keys().cloned().collect();
        for name in names {
            let is_judged = |key: &Key| drops || key.episode.is_some() || windows.contains_key(&name);
            let Some(mut key) = self.keys.remove(&name) else { continue };
            let judged =
                if is_judged(&key) { self.judge(&name, &mut key, past, at, traffic) } else { Ok(()) };
            self.keys.insert(name, key);
            judged?;
        }
        Ok(())
    }

    fn limit(&self) -> AlertLimit {
        match &self.detector.algorithm {
            Algorithm::Crowd(limit) => *limit,
            other => panic!("{other} is not crowd"),
        }
    }

    fn judge(
        &mut self,
        name: &str,
        key: &mut Key,
        past: &Past,
        at: i64,
        traffic: &Traffic,
    ) -> Result<(), Unsure> {
        let direction = self.detector.direction;
        let score =
            key.past.score(past, self.lag, at, direction != Direction::Down, direction != Direction::Up);
        if score.is_unsure {
            return Err(Unsure);
        }
        self.count(key, at, score.score)?;
        match key.episode.take() {
            None => self.begin(name, key, at, &score, traffic),
            Some(open) => self.go_on(name, key, open, past, at, &score),
        }
    }

    /// Counts the levels that the score reached.
    fn count(&mut self, key: &mut Key, at: i64, score: f64) -> Result<(), Unsure> {
        let quarters = score * 4.0;
        let budget = matches!(self.limit(), AlertLimit::Budget(_));
        if budget && quarters > 0.5 && (quarters - quarters.round()).abs() < 4.0 * ROUNDING {
            return Err(Unsure);
        }
        let level = (quarters as usize).min(LEVELS - 1);
        key.past.reach(at, level).for_each(|level| self.calibration.new[level] += 1.0);
        Ok(())
    }

    fn begin(
        &mut self,
        name: &str,
        key: &mut Key,
        at: i64,
        score: &Score,
        traffic: &Traffic,
    ) -> Result<(), Unsure> {
        let pause = (self.detector.cooldown.as_millis() as i64 + self.size - 1) / self.size;
        let is_paused = key.alerted.is_some_and(|alerted| at - alerted < pause);
        if is_paused || (score.is_up && score.value < self.detector.min_count as f64) {
            return Ok(());
        }
        let Some(threshold) =
            score.threshold.filter(|threshold| reaches(score.score, *threshold).unwrap_or(true))
        else {
            return Ok(());
        };
        reaches(score.score, threshold)?;
        if score.is_up {
            let users = traffic.users.get(&self.start(at)).and_then(|users| users.get(name));
            let (least, most) = users.copied().unwrap_or_default();
            match self.detector.min_users {
                min if most < min => return Ok(()),
                min if least < min => return Err(Unsure),
                _ => {}
            }
        }
        if score.score - score.second < ROUNDING {
            return Err(Unsure); // of which span?
        }
        let alerts = self.alerts.entry(name.to_owned()).or_default();
        let open = Open {
            place: alerts.len(),
            begin: at,
            last: at,
            span: score.span,
            is_up: score.is_up,
            peak: score.window.0,
            excess: score.value - score.expected,
            pending: 0.0,
            values: vec![score.window.0],
        };
        key.alerted = Some(at);
        key.past.since = key.past.since.max(at + 1);
        let start = self.start(at);
        let told = Told { at: start, until: start + self.size, peak: open.peak, excess: open.excess };
        let since = self.start(at - score.span + 1);
        self.alerts.entry(name.to_owned()).or_default().push(Expected {
            detector: self.detector.name.to_string(),
            start,
            value: score.value,
            expected: score.expected,
            since,
            newest: told,
            told: vec![told],
            end: None,
        });
        key.episode = Some(open);
        Ok(())
    }

    fn go_on(
        &mut self,
        name: &str,
        key: &mut Key,
        mut open: Open,
        past: &Past,
        at: i64,
        score: &Score,
    ) -> Result<(), Unsure> {
        let (value, expected) = score.window;
        open.values.push(value);
        let is_further = if open.is_up { value > open.peak } else { value < open.peak };
        if is_further {
            open.peak = value;
        }
        let silent = at - open.last;
        let mut end = None;
        if reaches(score.score, score.threshold.unwrap_or(f64::INFINITY) / 2.0)? {
            if score.score - score.second < ROUNDING {
                return Err(Unsure);
            }
            (open.last, open.span) = (at, score.span);
            open.excess += std::mem::take(&mut open.pending) + value - expected;
            key.past.since = key.past.since.max(at + 1);
        } else if silent >= LONGEST
            || (silent >= ORDINARY_WINDOWS.max(open.span) && !reaches(score.score, ORDINARY)?)
        {
            end = Some((open.last, Ending::Usual));
        } else {
            open.pending += value - expected;
        }
        if end.is_none() && at - open.begin >= NEW_LEVEL {
            open.excess += std::mem::take(&mut open.pending);
            let last = &open.values[open.values.len().saturating_sub(2 * LONGEST as usize)..];
            let level = last.iter().sum::<f64>() / last.len() as f64;
            key.past.restart(past, at, level);
            end = Some((at, Ending::NewLevel(level)));
        }
        let until = self.start(end.map_or(at, |(last, _)| last) + 1);
        let told = Told { at: self.start(at), until, peak: open.peak, excess: open.excess };
        let windows = at - open.begin + 1;
        let alerts = self.alerts.get_mut(name);
        let Some(alert) = alerts.and_then(|alerts| alerts.get_mut(open.place)) else { return Ok(()) };
        alert.newest = told;
        match end {
            Some((_, ending)) => alert.end = Some(End { last: told, ending }),
            None => {
                if is_further || windows <= TOLD_EACH || windows % TOLD_EACH == 0 {
                    alert.told.push(told);
                }
                key.episode = Some(open);
            }
        }
        Ok(())
    }
}

/// Whether a score reaches a bound.
fn reaches(score: f64, bound: f64) -> Result<bool, Unsure> {
    if (score - bound).abs() < ROUNDING { Err(Unsure) } else { Ok(score > bound) }
}
