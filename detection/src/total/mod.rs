//! The rule for the traffic of a whole metric: whether the total of all keys leaves what the last windows let expect, as in a
//! newsletter, or when a tracker fails.
//!
//! `crowd` compares a key with the traffic of the whole metric, so what moves all keys surprises none of them. It is told here, once.
//!
//! # Model
//! The expected total of a window is the rate: an exponentially weighted mean of the totals with a half-life of [`HALF_LIFE`] windows, which
//! follows days and nights (simple exponential smoothing: Brown 1959; it is the optimal forecast of a random walk observed with noise,
//! Muth 1960). A forecast is held against the sum of the last 1, 2, 4 and 8 windows, from before the first of them. The sum is negative
//! binomial with the forecast as its mean; its variance over its mean is what the squared errors of such forecasts were over the
//! forecasts, decayed with a half-life of [`SPREAD_HALF_LIFE`] windows (quasi-Poisson: Wedderburn 1974). It contains the noise of the
//! totals and what the forecast misses of days and nights. Errors count up to four standard deviations, so one event does not
//! make the next one usual.
//!
//! # All keys or one
//! A crowd on a single key moves the total as well, and is no news about the metric. So the winsorized total is followed beside it: of the
//! keys of one partition, the two largest counts of a window taken for no more than the third ([`winsorized`]). It is forecast in the same
//! way, and must have left its own forecast over the same windows with a probability of less than one in a thousand, by at least half as
//! much, in proportion, as the total, and by at least two fifths; unless there is hardly any
//! event at all. What is improbable and not confirmed is a crowd on a few keys: it is not learnt, unless it lasts.
//!
//! # Alerts
//! A sum alerts if it is improbable *and* differs by at least half of what was expected ([`EFFECT`]): with much traffic, a change of some
//! percent is improbable soon, and no news. While an episode lasts nothing is learnt, but that its first window was so far from the
//! forecast. It is over after [`ORDINARY_WINDOWS`] windows near
//! what was expected at its beginning, or when the total has been elsewhere for [`NEW_LEVEL_WINDOWS`] windows, which then is
//! the new level; silence becomes usual only after [`SILENCE_WINDOWS`].

use serde::{Deserialize, Serialize};

use crate::crowd::{Ending, NegativeBinomial};

#[cfg(test)]
mod tests;

/// Lengths of the sums that are scored, in windows.
pub const SPANS: [usize; 4] = [1, 2, 4, 8];
/// The longest of them.
const LONGEST: usize = 8;
/// Windows before which nothing alerts.
pub const WARMUP: u32 = 30;
/// Half-life of the rate, in windows.
pub const HALF_LIFE: f64 = 10.0;
/// Weight of a new total: 1 − 2^(−1/10).
const RATE_WEIGHT: f64 = 0.066_967_008;
/// Half-life of the squared errors, in windows.
pub const SPREAD_HALF_LIFE: f64 = 300.0;
/// Weight of a new squared error: 1 − 2^(−1/300).
const SPREAD_WEIGHT: f64 = 0.002_307_82;
/// Windows that the first assumption of the spread is worth.
const SPREAD_PRIOR: f64 = 10.0;
/// That assumption: variance over mean.
const FIRST_SPREAD: f64 = 2.0;
/// Errors count up to so many standard deviations.
const CLIPPED: f64 = 4.0;
/// The least change that is told, as a part of what was expected.
pub const EFFECT: f64 = 0.5;
/// The fewest events, expected or seen, that a change is told of: of a few, little is known of all.
pub const MIN_EVENTS: f64 = 30.0;
/// Up to this part of what was expected a window of an episode is ordinary.
const ORDINARY: f64 = 0.25;
/// So many ordinary windows in a row end an episode: within two standard deviations of what was expected, at most half of it and at least
/// a quarter.
pub const ORDINARY_WINDOWS: u32 = 3;
/// What lasts for this many windows has become usual.
pub const NEW_LEVEL_WINDOWS: u32 = 60;
/// Silence that lasts for this many windows has.
pub const SILENCE_WINDOWS: u32 = 4_096;
/// After this many windows without an event nothing is known of the metric any more.
pub const MEMORY: u32 = 8_192;
/// Less than this part of what was expected is silence.
const SILENCE: f64 = 0.05;
/// −log₁₀ of the probability below which the winsorized total has left its forecast.
const CONFIRMED: f64 = 3.0;
/// At least this part of the change must be in the winsorized total.
const ALIKE: f64 = 0.5;
/// And at least this change: a little less than that of the total, because it has fewer events.
const LEAST_ALIKE: f64 = 0.4;
/// Sides and spans that are looked at: each may be improbable by chance.
const TESTS: f64 = 8.0;

/// What is known of the total of a metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// Windows that were learnt.
    #[serde(rename = "n")]
    learnt: u32,
    /// The newest window taken in.
    #[serde(rename = "i")]
    newest: u32,
    /// The last windows in a row without an event.
    #[serde(rename = "z")]
    zeros: u32,
    /// Sums begin with this window at the earliest: what was told is not told again.
    #[serde(rename = "f")]
    first: u32,
    /// The last windows in a row that were improbable, but not of all keys.
    #[serde(rename = "k")]
    of_few: u32,
    #[serde(rename = "t")]
    all: Series,
    #[serde(rename = "w")]
    winsorized: Series,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    episode: Option<Episode>,
}

/// A number of events that is forecast.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Series {
    /// The rate after the last windows, the newest first.
    #[serde(rename = "r")]
    rates: [f64; LONGEST],
    /// The last values, the newest first.
    #[serde(rename = "v")]
    values: [f64; LONGEST],
    /// Squared errors over forecasts, for each of [`SPANS`].
    #[serde(rename = "s")]
    spreads: [f64; SPANS.len()],
}

/// The sum of counts of which the two largest are taken for no more than the third.
#[must_use]
pub fn winsorized(counts: impl IntoIterator<Item = u64>) -> u64 {
    let (mut sum, mut largest) = (0_u64, [0_u64; 3]);
    for count in counts {
        sum = sum.saturating_add(count);
        let mut count = count;
        for place in &mut largest {
            if count > *place {
                std::mem::swap(place, &mut count);
            }
        }
    }
    let [first, second, third] = largest;
    sum - (first - third) - (second - third)
}

/// The time in which the total is out of its usual range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// The window that alerted.
    #[serde(rename = "b")]
    pub begin: u32,
    /// The first window that contributed to it: up to seven before.
    #[serde(rename = "s")]
    pub since: u32,
    /// The newest window that was taken in.
    #[serde(rename = "u")]
    pub until: u32,
    /// The newest window that was not ordinary.
    #[serde(rename = "l")]
    pub last: u32,
    /// What was expected in a window when it began.
    #[serde(rename = "x")]
    pub expected: f64,
    /// Whether it is more than usual, not less.
    #[serde(rename = "d")]
    pub is_up: bool,
    /// The total furthest from what was expected.
    #[serde(rename = "p")]
    pub peak: f64,
    /// Its window.
    #[serde(rename = "w")]
    pub peak_at: u32,
    /// How much more than expected its windows hold together; negative if less.
    #[serde(rename = "e")]
    pub excess: f64,
    /// The same of the ordinary windows since `last`, which count only if it goes on.
    #[serde(rename = "q")]
    pending: f64,
}

/// What a window means.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The total is as expected.
    None,
    /// It left what was expected: alert.
    Began(Finding),
    /// It is still away.
    Continued(Episode),
    /// It is back, or at a new level.
    Ended(Episode, Ending),
}

/// What began an episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The episode.
    pub episode: Episode,
    /// Of how many windows value and expected value are.
    pub span: u32,
    /// The sum of these windows.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// Standard deviation of that.
    pub spread: f64,
    /// −log₁₀ of the probability that a window without anything unusual alerts.
    pub score: f64,
}

impl Total {
    /// The newest window taken in; 0 before the first.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// The episode that goes on.
    #[must_use]
    pub fn episode(&self) -> Option<&Episode> {
        self.episode.as_ref()
    }

    /// Takes the closed window `index` in, with the total of all keys and the [`winsorized`] total of some of them. Windows come in order,
    /// those without an event as well. `threshold`: the score from which on a window alerts.
    pub fn observe(&mut self, threshold: f64, index: u32, total: u64, winsorized: u64) -> Change {
        self.newest = index;
        self.zeros = if total == 0 { self.zeros + 1 } else { 0 };
        if self.zeros >= MEMORY {
            *self = Self { newest: index, ..Self::default() };
            return Change::None;
        }
        self.all.push(total);
        self.winsorized.push(winsorized);
        let spans = self.spans(index);
        let change = if self.episode.is_some() {
            self.go_on(index)
        } else {
            let (finding, is_of_few) = self.finding(threshold, index);
            self.of_few = if is_of_few { self.of_few + 1 } else { 0 };
            match finding {
                Some(finding) => {
                    self.episode = Some(finding.episode.clone());
                    // What happens again and again becomes less of a surprise, though it is no new rate.
                    self.all.learn_spreads(self.learnt, spans);
                    self.winsorized.learn_spreads(self.learnt, spans);
                    Change::Began(finding)
                }
                // A crowd on a few keys is no rate, unless it stays.
                None if (1..NEW_LEVEL_WINDOWS).contains(&self.of_few) => Change::None,
                None => {
                    for series in [&mut self.all, &mut self.winsorized] {
                        series.learn_spreads(self.learnt, spans);
                        series.learn_rate(self.learnt);
                    }
                    self.learnt = self.learnt.saturating_add(1);
                    return Change::None;
                }
            }
        };
        // The rate stands still while an episode lasts.
        self.all.stand();
        self.winsorized.stand();
        change
    }

    /// How many of [`SPANS`] end with the window `index` and begin after what was told.
    fn spans(&self, index: u32) -> usize {
        #[allow(clippy::cast_possible_truncation)] // at most 8
        let is_new = |span: &&usize| (index + 1).saturating_sub(**span as u32) >= self.first;
        SPANS.iter().take_while(is_new).count()
    }

    /// Takes the windows up to `index` in that were not, as windows without an event; what is told goes to `told` with its window. It does
    /// not matter how a silence is divided into calls, and no call looks at more than [`MEMORY`] windows.
    pub fn silence(&mut self, threshold: impl Fn(u32) -> f64, index: u32, mut told: impl FnMut(u32, Change)) {
        while self.newest < index {
            if self.learnt == 0 && self.episode.is_none() {
                self.newest = index; // nothing is known that silence could change
                return;
            }
            let at = self.newest + 1;
            match self.observe(threshold(at), at, 0, 0) {
                Change::None => {}
                change => told(at, change),
            }
        }
    }

    /// The most improbable of the sums that end with the newest window, if it alerts; and whether one would that is not of all keys.
    fn finding(&self, threshold: f64, index: u32) -> (Option<Finding>, bool) {
        let mut most: Option<Finding> = None;
        let mut is_of_few = false;
        for (place, span) in SPANS.into_iter().enumerate().take(self.spans(index)) {
            #[allow(clippy::cast_possible_truncation)] // at most 8
            let windows = span as u32;
            if self.learnt < WARMUP + windows {
                break;
            }
            let (expected, value) = self.all.forecast(span);
            let difference = value - expected;
            if expected.max(value) < MIN_EVENTS || difference.abs() < EFFECT * expected {
                continue;
            }
            let is_up = difference > 0.0;
            let score = (self.all.tail(place, is_up) - TESTS.log10()).max(0.0);
            if score < threshold || most.as_ref().is_some_and(|most| most.score >= score) {
                continue;
            }
            // When there is hardly any event, no key can have many.
            let is_silent = value < SILENCE * expected;
            if !is_silent
                && (self.winsorized.tail(place, is_up) < CONFIRMED
                    || self.winsorized.change(span).abs()
                        < LEAST_ALIKE.max(ALIKE * self.all.change(span).abs()))
            {
                is_of_few = true;
                continue;
            }
            let values = self.all.values[..span].iter().copied().enumerate();
            let further =
                |one: &f64, other: &f64| if is_up { one.total_cmp(other) } else { other.total_cmp(one) };
            // The newest of the furthest.
            let furthest = values.rev().max_by(|(_, one), (_, other)| further(one, other));
            let Some((age, peak)) = furthest else { continue };
            #[allow(clippy::cast_possible_truncation)] // at most 7
            let peak_at = index - age as u32;
            most = Some(Finding {
                episode: Episode {
                    begin: index,
                    since: (index + 1).saturating_sub(windows),
                    until: index,
                    last: index,
                    expected: self.all.rates[span - 1],
                    is_up,
                    peak,
                    peak_at,
                    excess: difference,
                    pending: 0.0,
                },
                span: windows,
                value,
                expected,
                spread: (expected * self.all.spread(place)).sqrt(),
                score,
            });
        }
        (most, is_of_few)
    }

    /// Takes the newest window into the episode.
    fn go_on(&mut self, index: u32) -> Change {
        let (values, spread) = (self.all.values, self.all.spread(0));
        let Some(episode) = &mut self.episode else { return Change::None };
        let [value, ..] = values;
        let difference = value - episode.expected;
        episode.until = index;
        let is_further = if episode.is_up { value > episode.peak } else { value < episode.peak };
        if is_further {
            (episode.peak, episode.peak_at) = (value, index);
        }
        let away = if episode.is_up { difference } else { -difference };
        let deviation = (episode.expected * spread).sqrt();
        let ordinary = (2.0 * deviation).min(EFFECT * episode.expected).max(ORDINARY * episode.expected);
        if away > ordinary {
            episode.last = index;
            episode.excess += std::mem::take(&mut episode.pending) + difference;
        } else {
            episode.pending += difference;
            if index - episode.last >= ORDINARY_WINDOWS {
                let ended = episode.clone();
                self.first = ended.last + 1;
                self.episode = None;
                return Change::Ended(ended, Ending::Usual);
            }
        }
        let is_silent = values.iter().any(|value| *value < SILENCE * episode.expected);
        let lasts = if is_silent { SILENCE_WINDOWS } else { NEW_LEVEL_WINDOWS };
        if index - episode.begin >= lasts {
            episode.excess += std::mem::take(&mut episode.pending);
            let ended = episode.clone();
            self.episode = None;
            self.first = index + 1;
            self.winsorized.settle();
            return Change::Ended(ended, Ending::NewLevel(self.all.settle()));
        }
        Change::Continued(episode.clone())
    }
}

impl Series {
    fn push(&mut self, value: u64) {
        #[allow(clippy::cast_precision_loss)] // far fewer events than 2^53
        let value = value as f64;
        self.values.rotate_right(1);
        self.values[0] = value;
    }

    /// What was expected of the last `span` windows before the first of them, and their sum; before the newest window is learnt.
    fn forecast(&self, span: usize) -> (f64, f64) {
        #[allow(clippy::cast_precision_loss)] // at most 8
        let windows = span as f64;
        (windows * self.rates[span - 1], self.values[..span].iter().sum())
    }

    /// By which part of what was expected the last `span` windows differ from it.
    fn change(&self, span: usize) -> f64 {
        let (expected, value) = self.forecast(span);
        (value - expected) / expected.max(1.0)
    }

    /// Variance over mean of the sums of the span at this place.
    fn spread(&self, place: usize) -> f64 {
        self.spreads[place].max(1.0)
    }

    /// −log₁₀ of the probability of so much, or so little, in the span at this place.
    fn tail(&self, place: usize, is_up: bool) -> f64 {
        let (expected, value) = self.forecast(SPANS[place]);
        // Where nothing came before, the forecast is 0, and one event is no wonder.
        let model = NegativeBinomial { mean: expected.max(1.0), excess: self.spread(place) - 1.0 };
        if is_up { model.upper(value) } else { model.lower(value) }
    }

    /// Takes the errors of the sums that end with the newest window in, of so many spans, after `learnt` windows.
    fn learn_spreads(&mut self, learnt: u32, spans: usize) {
        for (place, span) in SPANS.into_iter().enumerate() {
            #[allow(clippy::cast_possible_truncation)] // at most 8
            let seen = learnt.saturating_sub(span as u32);
            if seen < 3 {
                self.spreads[place] = FIRST_SPREAD;
            } else if place < spans {
                let (expected, sum) = self.forecast(span);
                let spread = &mut self.spreads[place];
                let error = (sum - expected).powi(2) / expected.max(1.0);
                let weight = (1.0 / (SPREAD_PRIOR + f64::from(seen))).max(SPREAD_WEIGHT);
                *spread += weight * (error.min(CLIPPED * CLIPPED * spread.max(1.0)) - *spread);
            }
        }
    }

    /// Takes the newest window into the rate, after `learnt` others.
    fn learn_rate(&mut self, learnt: u32) {
        let ([rate, ..], [value, ..]) = (self.rates, self.values);
        let weight = (1.0 / f64::from(learnt.saturating_add(1))).max(RATE_WEIGHT);
        let limit = CLIPPED * (rate.max(1.0) * self.spread(0)).sqrt();
        let clipped = if learnt < WARMUP { value } else { value.clamp(rate - limit, rate + limit) };
        self.rates.rotate_right(1);
        self.rates[0] = rate + weight * (clipped - rate);
    }

    /// The rate stays as it is.
    fn stand(&mut self) {
        let [rate, ..] = self.rates;
        self.rates.rotate_right(1);
        self.rates[0] = rate;
    }

    /// The mean of the last windows becomes the rate.
    fn settle(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss)] // 8
        let level = self.values.iter().sum::<f64>() / LONGEST as f64;
        self.rates = [level; LONGEST];
        level
    }
}
