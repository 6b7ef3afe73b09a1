//! What the series is usually worth at this time of the day and of the week.
//!
//! The day has 96 bins of a quarter of an hour, the week 168 of an hour. A pass of the time through a bin is a visit,
//! whose mean is one observation of it; a bin holds the mean of its visits, the older ones fading (a visit weighs at least
//! a sixth). A bin predicts once two visits agreed, interpolated between the middles of neighbouring bins. Whether a
//! prediction is used is decided by how well it did: its mean absolute error must be at most nine tenths of the centre's.
//!
//! A visit that disagrees with its bin, by more than what is usual for a single window, counts only up to that limit and
//! makes the bin forget two of its visits; a bin that has none left starts anew with the next. So an outage does not come
//! back as an alert a day or a week later, whether it is a gap or zeros, and a lasting change is learnt after three
//! periods.

use serde::{Deserialize, Serialize};

use super::tail::Tail;

/// Bins of a day.
const DAY_BINS: usize = 96;
/// Bins of a week.
const WEEK_BINS: usize = 168;
/// Milliseconds of a day.
pub(super) const DAY_MS: u64 = 86_400_000;
/// Milliseconds of a week.
const WEEK_MS: u64 = 7 * DAY_MS;
/// Visits that a bin remembers.
const VISITS: u8 = 6;
/// Visits that agreed, after which a bin predicts.
const KNOWN: u8 = 2;
/// Visits that a bin forgets, the new one not counted, at a visit that disagrees with them.
const FORGOTTEN: u8 = 3;
/// Predictions after which their error means something.
const TRIED: u32 = 50;
/// Weight of a new error once enough were seen.
const RATE: f64 = 0.002;
/// Share of the centre's error below which a profile is better.
const BETTER: f64 = 0.9;
/// The largest error that is learnt from, in mean errors of the centre: one window must not disqualify a profile.
const MOST_ERROR: f64 = 5.0;

/// A mean of the last absolute errors of a prediction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct MeanError {
    #[serde(rename = "n")]
    seen: u32,
    #[serde(rename = "e")]
    mean: f64,
}

impl MeanError {
    fn learn(&mut self, error: f64) {
        self.seen = self.seen.saturating_add(1);
        self.mean += RATE.max(1.0 / f64::from(self.seen)) * (error - self.mean);
    }
}

/// The usual course of one period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Periodic {
    /// Mean of each bin.
    #[serde(rename = "m")]
    means: Vec<f32>,
    /// Visits of each bin, up to [`VISITS`].
    #[serde(rename = "v")]
    visits: Vec<u8>,
    /// The bin that is being visited.
    #[serde(rename = "b")]
    bin: usize,
    /// Sum of the windows of this visit.
    #[serde(rename = "s")]
    sum: f64,
    /// Windows of this visit.
    #[serde(rename = "n")]
    count: u32,
    /// Error of its predictions.
    #[serde(rename = "e")]
    error: MeanError,
    /// Tail of the distance from its predictions, where they were used.
    #[serde(rename = "t")]
    tail: Tail,
}

impl Periodic {
    fn new(bins: usize) -> Self {
        Self {
            means: vec![0.0; bins],
            visits: vec![0; bins],
            bin: 0,
            sum: 0.0,
            count: 0,
            error: MeanError::default(),
            tail: Tail::default(),
        }
    }

    /// The bin of a time, and how far the time is from its middle, in bins.
    #[allow(clippy::cast_precision_loss)] // a week of milliseconds is exact
    fn position(&self, time_ms: u64, period_ms: u64) -> (usize, f64) {
        let bins = self.means.len() as u64;
        let within = time_ms % period_ms * bins;
        let bin = usize::try_from(within / period_ms).unwrap_or(0);
        (bin, (within % period_ms) as f64 / period_ms as f64 - 0.5)
    }

    fn known(&self, bin: usize) -> Option<f64> {
        (*self.visits.get(bin)? >= KNOWN).then(|| self.means.get(bin).copied().map(f64::from))?
    }

    /// What the time is usually worth.
    fn predict(&self, time_ms: u64, period_ms: u64) -> Option<f64> {
        let (bin, offset) = self.position(time_ms, period_ms);
        let here = self.known(bin)?;
        let bins = self.means.len();
        let beside = if offset > 0.0 { (bin + 1) % bins } else { (bin + bins - 1) % bins };
        let beside = self.known(beside).unwrap_or(here);
        Some(here + offset.abs() * (beside - here))
    }

    /// Ends the visit of another bin than that of `time_ms`, then adds the value to the visit.
    fn visit(&mut self, time_ms: u64, period_ms: u64, value: f64, usual: f64) {
        let (bin, _) = self.position(time_ms, period_ms);
        if bin != self.bin {
            self.end_visit(usual);
            self.bin = bin;
        }
        self.sum += value;
        self.count = self.count.saturating_add(1);
    }

    fn end_visit(&mut self, usual: f64) {
        if self.count > 0 {
            let mean = self.sum / f64::from(self.count);
            self.add(self.bin, mean, usual);
        }
        self.sum = 0.0;
        self.count = 0;
    }

    #[allow(clippy::cast_possible_truncation)] // the mean of many values needs no more digits
    fn add(&mut self, bin: usize, value: f64, usual: f64) {
        if let (Some(mean), Some(visits)) = (self.means.get_mut(bin), self.visits.get_mut(bin)) {
            let difference = value - f64::from(*mean);
            if *visits > 0 && difference.abs() > usual {
                *visits = visits.saturating_sub(FORGOTTEN);
            }
            if *visits == 0 {
                *mean = value as f32;
                *visits = 1;
            } else {
                *visits = (*visits + 1).min(VISITS);
                *mean += (difference.clamp(-usual, usual) / f64::from(*visits)) as f32;
            }
        }
    }
}

/// Where a prediction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Day,
    Week,
}

/// The usual course of the day and of the week.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Profile {
    #[serde(rename = "d")]
    day: Periodic,
    #[serde(rename = "w")]
    week: Periodic,
    /// Error of the centre, which the profile has to beat.
    #[serde(rename = "c")]
    centre: MeanError,
}

impl Profile {
    pub(super) fn new() -> Self {
        Self { day: Periodic::new(DAY_BINS), week: Periodic::new(WEEK_BINS), centre: MeanError::default() }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let heap = |periodic: &Periodic| 4 * periodic.means.capacity() + periodic.visits.capacity();
        size_of::<Self>() + heap(&self.day) + heap(&self.week)
    }

    /// What the window is usually worth, where that is known and has predicted better than the centre.
    pub(super) fn predict(&self, middle_ms: u64) -> Option<(Source, f64)> {
        let mut best = BETTER * self.centre.mean;
        let mut prediction = None;
        for (source, periodic, period_ms) in
            [(Source::Day, &self.day, DAY_MS), (Source::Week, &self.week, WEEK_MS)]
        {
            if periodic.error.seen > TRIED
                && periodic.error.mean < best
                && let Some(value) = periodic.predict(middle_ms, period_ms)
            {
                best = periodic.error.mean;
                prediction = Some((source, value));
            }
        }
        prediction
    }

    /// How far a window usually is from the predictions of `source`: three mean errors, 98 % of a normal distribution.
    pub(super) fn usual_distance(&self, source: Source) -> f64 {
        3.0 * match source {
            Source::Day => self.day.error.mean,
            Source::Week => self.week.error.mean,
        }
    }

    /// The tail of the distance from the predictions of `source`.
    pub(super) fn tail(&self, source: Source) -> &Tail {
        match source {
            Source::Day => &self.day.tail,
            Source::Week => &self.week.tail,
        }
    }

    /// The same, to learn.
    pub(super) fn tail_mut(&mut self, source: Source) -> &mut Tail {
        match source {
            Source::Day => &mut self.day.tail,
            Source::Week => &mut self.week.tail,
        }
    }

    /// Takes in a window: how well it was predicted by each, and its value. `usual` is how far from the centre a window
    /// usually is.
    pub(super) fn learn(&mut self, middle_ms: u64, value: f64, centre: f64, usual: f64) {
        self.centre.learn((value - centre).abs());
        let most = MOST_ERROR * self.centre.mean;
        for (periodic, period_ms) in [(&mut self.day, DAY_MS), (&mut self.week, WEEK_MS)] {
            if let Some(prediction) = periodic.predict(middle_ms, period_ms) {
                periodic.error.learn((value - prediction).abs().min(most));
            }
            periodic.visit(middle_ms, period_ms, value, usual);
        }
    }

    /// Learns that the series was 0 from `from_ms` (inclusive) to `until_ms` (exclusive): a visit for every bin entered.
    pub(super) fn learn_zeros(&mut self, from_ms: u64, until_ms: u64, usual: f64) {
        for (periodic, period_ms) in [(&mut self.day, DAY_MS), (&mut self.week, WEEK_MS)] {
            periodic.end_visit(usual);
            let bin_ms = period_ms / periodic.means.len() as u64;
            // After as many periods as a bin remembers visits, the means are close to 0; the rest is left out.
            let from_ms = from_ms.max(until_ms.saturating_sub(4 * u64::from(VISITS) * period_ms));
            let mut time_ms = from_ms;
            while time_ms < until_ms {
                let (bin, _) = periodic.position(time_ms, period_ms);
                periodic.add(bin, 0.0, usual);
                time_ms = (time_ms / bin_ms + 1) * bin_ms;
            }
        }
    }
}
