//! How unusual a value is for its key: the rule `level`, for sums and means.
//!
//! The judge calls [`Level::observe`] when a window closes, in order. The window is scored against what was known before
//! it, then learnt. The state is a few dozen numbers a key, and a profile of the day and the week (about 1.5 kB) once the
//! series is old enough for one. There is no setting that a person has to find: the direction and the kind of the metric
//! are known, and the threshold follows from how many alerts are wanted.
//!
//! # How a window is scored
//!
//! Four statistics look at it:
//! 1. **level**: the distance from the *centre*, an exponentially weighted mean with a half-life of 60 windows, which an
//!    unusual time moves by little until it has lasted 60 windows: a peak does not become usual, a lasting change does;
//! 2. **pattern**: the distance from what the profile of the day or the week predicts, where that has predicted better than
//!    the centre (`profile`), smoothed over three windows, else from the centre;
//! 3. **steps**: the mean size of the last steps from window to window, half-life 12: that the series has become restless;
//!    and the reciprocal of the same with half-life 6, where both directions are watched: that it has frozen.
//!
//! Each is turned into −log10 of the probability of at least that value by its own tail (`tail`), whose scale is the
//! statistic's own 97 % quantile. So nothing is assumed to be normally distributed, and a spread of 0 cannot occur: the
//! scale is at least one step of the smallest size that the series has shown (its resolution), 10⁻⁶ (the resolution of
//! sums), and 10⁻⁹ of the centre (rounding). The largest of the scores counts, and a twentieth of the others: what two
//! find unusual is more than what one does. Of an unusual time only the first window is news, and later ones that are
//! clearly more unusual; how often the news really comes is counted and corrected (`calibration`). The result is
//! comparable between keys: 10^−score is the probability that a window raises an alert of at least this score while
//! nothing is the matter, and the expected number of false alerts a day over all keys is the number of windows a day times
//! 10^−threshold.
//!
//! # What silence is
//!
//! For a sum a window without events is worth 0, and [`Level::silence`] is the same as observing zeros one by one. After
//! [`SILENCE`] zeros in a row a further one is no news: it is only counted, and what was counted is learnt at once (means
//! decay by powers) when something happens again. Because the count is part of the state, it does not matter how a silence
//! is divided. For a mean a window without events is missing: nothing is called.

mod calibration;
mod episode;
mod profile;
mod spell;
mod tail;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use calibration::{Calibration, Novelty};
use profile::{Profile, Source};
use tail::Tail;

pub use episode::{Episode, Progress};
pub use spell::Ending;

/// Zeros in a row after which a further one is only counted.
pub const SILENCE: u32 = 1024;
/// Windows before which nothing is scored.
pub const WARMUP: u32 = 100;
/// Weight of a new window in the centre: 1 − 2^(−1/60).
const CENTRE_RATE: f64 = 0.011_486_2;
/// Windows in a row for which an unusual time counts as passing: so long a value moves the centre no more than [`CLIPPED`]
/// usual distances would.
const PASSING: u32 = 60;
/// See [`PASSING`].
const CLIPPED: f64 = 3.0;
/// Weight of a new window in the smoothed distance from the profile: 1 − 2^(−1/3).
const PATTERN_RATE: f64 = 0.206_299_5;
/// Weight of a new step in the mean of steps: 1 − 2^(−1/12).
const STEPS_RATE: f64 = 0.056_125_7;
/// Weight of a new step in the mean that tells whether the series is frozen: 1 − 2^(−1/6).
const RECENT_RATE: f64 = 0.109_101_3;
/// Windows after which that mean no longer tells that the series has only begun: five half-lives.
const STEADY: u32 = 30;
/// Share of the other statistics' scores that is added to the largest.
const AGREEMENT: f64 = 0.05;
/// The resolution of sums, which are kept in millionths.
const RESOLUTION: f64 = 1e-6;
/// The largest value whose products and differences are finite.
const LARGEST: f64 = 1e150;
/// Relative rounding of a value.
const ROUNDING: f64 = 1e-9;
/// Windows with a value other than 0 after which a profile is worth its memory.
const PROFILE_WINDOWS: u32 = 60;
/// Age of the series after which it is.
const PROFILE_AGE_MS: u64 = profile::DAY_MS / 4;

/// Which deviations are unusual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Values above what is expected.
    Up,
    /// Values below it.
    Down,
    /// Both.
    #[default]
    Both,
}

impl Direction {
    /// How far a difference goes in this direction.
    fn distance(self, difference: f64) -> f64 {
        match self {
            Self::Up => difference.max(0.0),
            Self::Down => (-difference).max(0.0),
            Self::Both => difference.abs(),
        }
    }
}

/// What is scored, and from where on it is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelRule {
    /// Which deviations are unusual. A state belongs to one direction.
    pub direction: Direction,
    /// Whether values add up over windows, as sums do and means do not: then the excess of an episode is a total, else the
    /// largest difference.
    pub additive: bool,
    /// The score from which an episode begins: −log10 of the wanted false alerts per window of a key.
    pub threshold: f64,
}

/// Which statistic found a window unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Far from the recent mean.
    Level,
    /// Far from what the time of the day or the week is usually worth.
    Pattern,
    /// Larger steps from window to window than usual, or much smaller ones: restless or frozen.
    Steps,
}

/// What is said of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelScore {
    /// −log10 of the probability that a window without anomaly raises an alert of at least this score; 0 for a usual
    /// window and for one that is no news, because it belongs to an unusual time that was reported.
    pub score: f64,
    /// The same whether or not it is news.
    pub unusual: f64,
    /// The value that was expected.
    pub expected: f64,
    /// Values below this would have reached the threshold; −∞ if none would.
    pub lower: f64,
    /// Values above this would have reached the threshold; ∞ if none would.
    pub upper: f64,
    /// Which statistic is the most unusual one; none for a usual window.
    pub cause: Option<Cause>,
    /// The episode that the window begins, continues or ends.
    pub episode: Option<(Episode, Progress)>,
}

/// What is known of one key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Windows seen.
    #[serde(rename = "n")]
    windows: u32,
    /// Of them those with another value than 0, up to [`PROFILE_WINDOWS`].
    #[serde(rename = "a")]
    active: u32,
    /// Start of the first.
    #[serde(rename = "f")]
    first_ms: u64,
    /// The centre.
    #[serde(rename = "m")]
    centre: f64,
    /// The last windows in a row that were unusually far from the centre.
    #[serde(rename = "aw")]
    away: u32,
    /// The last value.
    #[serde(rename = "l")]
    last: f64,
    /// Smoothed distance from the profile.
    #[serde(rename = "r")]
    pattern: f64,
    /// Mean size of steps.
    #[serde(rename = "s")]
    steps: f64,
    /// Mean size of the last few steps.
    #[serde(rename = "sr")]
    recent_steps: f64,
    /// Size of the smallest step; 0 before the first.
    #[serde(rename = "q")]
    resolution: f64,
    #[serde(rename = "tl")]
    level_tail: Tail,
    #[serde(rename = "tp")]
    pattern_tail: Tail,
    #[serde(rename = "ts")]
    steps_tail: Tail,
    #[serde(rename = "tf")]
    frozen_tail: Tail,
    #[serde(rename = "nv")]
    novelty: Novelty,
    #[serde(rename = "cl")]
    calibration: Calibration,
    /// The last zeros in a row, up to [`SILENCE`].
    #[serde(rename = "z")]
    zeros: u32,
    /// Zeros after those, which are not learnt yet.
    #[serde(rename = "zp")]
    pending: u32,
    /// Start and end of the pending zeros.
    #[serde(rename = "zt")]
    pending_ms: (u64, u64),
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    profile: Option<Box<Profile>>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    episode: Option<Box<episode::Running>>,
}

/// The statistics of one window, before it is learnt.
struct Statistics {
    expected: f64,
    /// What the profile predicts, where it is used.
    profile: Option<(Source, f64)>,
    floor: f64,
    level: f64,
    pattern: f64,
    steps: f64,
    recent_steps: f64,
    frozen: f64,
    /// Signed, smoothed distance from the profile.
    smoothed: f64,
}

impl Level {
    /// Windows observed so far.
    #[must_use]
    pub fn windows(&self) -> u32 {
        self.windows.saturating_add(self.pending)
    }

    /// Whether there is too little past to score a window.
    #[must_use]
    pub fn is_warming_up(&self) -> bool {
        self.windows < WARMUP
    }

    /// Bytes of memory, those on the heap included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.profile.as_ref().map_or(0, |profile| profile.bytes())
            + self.episode.as_ref().map_or(0, |_| size_of::<episode::Running>())
    }

    /// Scores the next window of `size_ms` milliseconds from `start_ms` (event time), then learns it. A value that is not
    /// finite, or beyond 10^150, is skipped.
    pub fn observe(&mut self, rule: &LevelRule, start_ms: u64, size_ms: u64, value: f64) -> LevelScore {
        let end_ms = start_ms.saturating_add(size_ms);
        if !value.is_finite() || value.abs() > LARGEST {
            return self.nothing();
        }
        if value == 0.0 && self.zeros >= SILENCE && self.episode.is_none() {
            self.pending_ms = (if self.pending == 0 { start_ms } else { self.pending_ms.0 }, end_ms);
            self.pending = self.pending.saturating_add(1);
            return self.nothing();
        }
        self.learn_pending();
        self.zeros = if value == 0.0 { self.zeros + 1 } else { 0 };
        if self.windows == 0 {
            (self.first_ms, self.centre, self.last) = (start_ms, value, value);
        }
        let middle_ms = start_ms.saturating_add(size_ms / 2);
        let statistics = self.statistics(rule, middle_ms, value);
        let mut said = self.score(rule, &statistics, value);
        if said.score >= rule.threshold && self.episode.is_none() {
            let usual = self.usual_distance(&statistics);
            self.episode = Some(Box::new(episode::Running::new(start_ms, said.expected, usual)));
        }
        self.learn(&statistics, (start_ms, middle_ms), value);
        if let Some(running) = &mut self.episode {
            let prediction = statistics.profile.map(|(_, prediction)| prediction);
            let window = episode::Window { start_ms, end_ms, value };
            let progress = running.take(&window, rule.additive, prediction);
            said.episode = Some((running.episode().clone(), progress));
            if matches!(progress, Progress::Ended(_)) {
                self.episode = None;
            }
        }
        said
    }

    /// Ends the episode that goes on, if there is one: the series has ended, and what comes after is judged anew.
    pub fn end_episode(&mut self) {
        self.episode = None;
    }

    /// Observes `windows` windows without events, each worth 0, from `start_ms` on: the same as observing them one by one,
    /// without visiting more than [`SILENCE`] of them. What is said of a window goes to `told` with its start, if it is
    /// news or part of an episode.
    pub fn silence(
        &mut self,
        rule: &LevelRule,
        start_ms: u64,
        size_ms: u64,
        windows: u32,
        mut told: impl FnMut(u64, LevelScore),
    ) {
        let mut start_ms = start_ms;
        for done in 0..windows {
            if self.zeros >= SILENCE && self.episode.is_none() {
                let left = windows - done;
                let end_ms = start_ms.saturating_add(size_ms.saturating_mul(u64::from(left)));
                self.pending_ms = (if self.pending == 0 { start_ms } else { self.pending_ms.0 }, end_ms);
                self.pending = self.pending.saturating_add(left);
                break;
            }
            let said = self.observe(rule, start_ms, size_ms, 0.0);
            if said.score > 0.0 || said.episode.is_some() {
                told(start_ms, said);
            }
            start_ms = start_ms.saturating_add(size_ms);
        }
    }

    /// What is said of a window that is not scored.
    fn nothing(&self) -> LevelScore {
        LevelScore {
            score: 0.0,
            unusual: 0.0,
            expected: self.centre,
            lower: f64::NEG_INFINITY,
            upper: f64::INFINITY,
            cause: None,
            episode: None,
        }
    }

    fn statistics(&self, rule: &LevelRule, middle_ms: u64, value: f64) -> Statistics {
        let profile = self.profile.as_ref().and_then(|profile| profile.predict(middle_ms));
        let expected = profile.map_or(self.centre, |(_, prediction)| prediction);
        let smoothed = self.pattern + PATTERN_RATE * (value - expected - self.pattern);
        let floor = self.resolution.max(RESOLUTION).max(ROUNDING * self.centre.abs());
        let step = (value - self.last).abs();
        let steps = self.steps + STEPS_RATE * (step - self.steps);
        let recent_steps = self.recent_steps + RECENT_RATE * (step - self.recent_steps);
        Statistics {
            expected,
            profile,
            floor,
            level: rule.direction.distance(value - self.centre),
            pattern: rule.direction.distance(smoothed),
            steps,
            recent_steps,
            frozen: 1.0 / (recent_steps + floor * STEPS_RATE),
            smoothed,
        }
    }

    /// How far from what is expected a window usually is.
    fn usual_distance(&self, statistics: &Statistics) -> f64 {
        match (statistics.profile, &self.profile) {
            (Some((source, _)), Some(profile)) => profile.usual_distance(source).max(statistics.floor),
            _ => self.level_tail.quantile(statistics.floor),
        }
    }

    /// The tail of the distance from what is expected.
    fn pattern_tail(&self, profile: Option<(Source, f64)>) -> &Tail {
        match (profile, &self.profile) {
            (Some((source, _)), Some(profile)) => profile.tail(source),
            _ => &self.pattern_tail,
        }
    }

    fn score(&mut self, rule: &LevelRule, statistics: &Statistics, value: f64) -> LevelScore {
        let mut said = LevelScore { expected: statistics.expected, ..self.nothing() };
        if self.is_warming_up() {
            return said;
        }
        let &Statistics { floor, expected, level, pattern, steps, frozen, .. } = statistics;
        let pattern_tail = self.pattern_tail(statistics.profile);
        // Steps have no direction of their own: they count where the value has moved in the one that is watched.
        let against = rule.direction.distance(value - expected) == 0.0;
        let both = rule.direction == Direction::Both;
        let mut sum = 0.0;
        let mut largest = 0.0;
        for (cause, score) in [
            (Cause::Level, self.level_tail.score(level, floor)),
            (Cause::Pattern, pattern_tail.score(pattern, floor * PATTERN_RATE)),
            (Cause::Steps, if against { 0.0 } else { self.steps_tail.score(steps, floor * STEPS_RATE) }),
            (Cause::Steps, if both { self.frozen_tail.score(frozen, f64::MIN_POSITIVE) } else { 0.0 }),
        ] {
            sum += score;
            if score > largest {
                largest = score;
                said.cause = Some(cause);
            }
        }
        largest += AGREEMENT * (sum - largest);
        let asked = self.calibration.score(rule.threshold);
        let level_reach = self.level_tail.value_at(asked, floor);
        let smoothed_reach = pattern_tail.value_at(asked, floor * PATTERN_RATE);
        let before = (1.0 - PATTERN_RATE) * self.pattern;
        if rule.direction != Direction::Down {
            said.upper = (self.centre + level_reach).min(expected + (smoothed_reach - before) / PATTERN_RATE);
        }
        if rule.direction != Direction::Up {
            said.lower = (self.centre - level_reach).max(expected - (smoothed_reach + before) / PATTERN_RATE);
        }
        let news = self.novelty.take(largest);
        said.unusual = self.calibration.probability(largest);
        said.score = if news { said.unusual } else { 0.0 };
        // What is left of the smoothed distance may alone reach the threshold.
        (said.lower, said.upper) = (said.lower.min(expected), said.upper.max(expected));
        self.calibration.learn(if news { largest } else { 0.0 });
        said
    }

    fn learn(&mut self, statistics: &Statistics, (start_ms, middle_ms): (u64, u64), value: f64) {
        let &Statistics { floor, level, pattern, steps, recent_steps, frozen, smoothed, .. } = statistics;
        self.windows = self.windows.saturating_add(1);
        let usual = self.level_tail.quantile(floor);
        self.level_tail.learn(level, floor);
        match (statistics.profile, &mut self.profile) {
            (Some((source, _)), Some(profile)) => profile.tail_mut(source),
            _ => &mut self.pattern_tail,
        }
        .learn(pattern, floor * PATTERN_RATE);
        self.steps_tail.learn(steps, floor * STEPS_RATE);
        if self.windows > STEADY {
            self.frozen_tail.learn(frozen, f64::MIN_POSITIVE);
        }
        if let Some(profile) = &mut self.profile {
            profile.learn(middle_ms, value, self.centre, self.level_tail.quantile(floor));
        } else if value != 0.0 {
            self.active = (self.active + 1).min(PROFILE_WINDOWS);
            if self.active >= PROFILE_WINDOWS && start_ms.saturating_sub(self.first_ms) >= PROFILE_AGE_MS {
                self.profile = Some(Box::new(Profile::new()));
            }
        }
        self.pattern = smoothed;
        self.steps = steps;
        self.recent_steps = recent_steps;
        let step = (value - self.last).abs();
        if step > 0.0 && (self.resolution == 0.0 || step < self.resolution) {
            self.resolution = step;
        }
        self.last = value;
        let difference = value - self.centre;
        self.away = if difference.abs() > usual { self.away.saturating_add(1) } else { 0 };
        let most = if self.is_warming_up() || self.away > PASSING { f64::INFINITY } else { CLIPPED * usual };
        self.centre += CENTRE_RATE.max(1.0 / f64::from(self.windows)) * difference.clamp(-most, most);
    }

    /// Learns the zeros that were only counted.
    fn learn_pending(&mut self) {
        if self.pending == 0 {
            return;
        }
        let windows = f64::from(self.pending);
        let floor = self.resolution.max(RESOLUTION);
        self.level_tail.learn_zeros(self.pending, floor);
        self.pattern_tail.learn_zeros(self.pending, floor * PATTERN_RATE);
        self.steps_tail.learn_zeros(self.pending, floor * STEPS_RATE);
        self.novelty.pass(self.pending);
        self.calibration.pass(windows);
        if let Some(profile) = &mut self.profile {
            profile.learn_zeros(self.pending_ms.0, self.pending_ms.1, self.level_tail.quantile(floor));
        }
        if let Some(running) = &mut self.episode {
            running.pass(self.pending, self.pending_ms.1);
        }
        self.centre *= (1.0 - CENTRE_RATE).powf(windows);
        self.pattern *= (1.0 - PATTERN_RATE).powf(windows);
        self.steps *= (1.0 - STEPS_RATE).powf(windows);
        self.recent_steps *= (1.0 - RECENT_RATE).powf(windows);
        self.windows = self.windows.saturating_add(self.pending);
        self.pending = 0;
    }
}
