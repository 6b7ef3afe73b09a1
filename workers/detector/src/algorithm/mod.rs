//! What is usual for a key, by its own past windows, and how far a value is from it. Pure and deterministic: a history is
//! folded one window at a time, in order, so that it does not matter when that is done.
//!
//! | algorithm | what it keeps | what it says |
//! |---|---|---|
//! | `crowd` | weighted counts and exposure | see [`herd_detection::crowd`] |
//! | `level` | see [`herd_detection::level`] | how rarely a value of this series is so far from its centre and profile |
//! | `threshold` | nothing | above or below a fixed bound |
//! | `zscore` | the last `history` values | standard deviations from their mean |
//! | `mad` | the last `history` values | scaled median absolute deviations from their median |
//! | `ewma` | weighted mean and variance | standard deviations from the mean |
//! | `poisson` | weighted counts and exposure | how rarely chance gives such a count |

mod history;
mod poisson;

use std::time::Duration;

use herd_detection::{crowd, level};
use herd_spec::pipeline::{AggregateFunction, Direction, EwmaSpec, MadSpec, PoissonSpec, ZscoreSpec};
use herd_spec::plan::{AlertLimit, Algorithm, DetectorPlan};

use crate::judge::levels;
pub use history::{History, Ring, Weighted};

/// Sums are kept in millionths: no spread of added or averaged numbers is finer.
const RESOLUTION: f64 = 1e-6;

/// Windows of silence after which `level` counts a key as never seen: a week of windows of a minute.
const LEVEL_MEMORY: u32 = 10_080;

/// A detector's rule, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    algorithm: Algorithm,
    direction: Direction,
    min_count: u64,
    /// Whether the metric counts things (so that chance alone spreads it by √n) or adds or averages numbers.
    counting: bool,
    /// Whether values of windows add up: not those of means.
    additive: bool,
}

/// What a rule takes for usual in one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    /// The value it expects.
    pub expected: f64,
    /// The usual spread around it, one standard deviation; 0 for a fixed bound.
    pub spread: f64,
    /// Values below this are unusual.
    pub lower: f64,
    /// Values above this are unusual.
    pub upper: f64,
}

/// Which way a value left the usual range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// Above it.
    Up,
    /// Below it.
    Down,
}

impl Rule {
    /// The rule of `detector` on a metric of this kind.
    #[must_use]
    pub fn of(detector: &DetectorPlan, function: AggregateFunction) -> Self {
        let counting = matches!(function, AggregateFunction::Count | AggregateFunction::Unique);
        let &DetectorPlan { ref algorithm, direction, min_count, .. } = detector;
        let additive = function != AggregateFunction::Mean;
        Self { algorithm: algorithm.clone(), direction, min_count, counting, additive }
    }

    /// The history of a key never seen.
    #[must_use]
    pub fn fresh(&self) -> History {
        match &self.algorithm {
            Algorithm::Crowd(_) => History::Crowd(None),
            Algorithm::Level(_) => History::Level(None),
            Algorithm::Threshold(_) => History::None,
            Algorithm::Zscore(_) | Algorithm::Mad(_) => History::Ring(Ring::default()),
            Algorithm::Ewma(_) | Algorithm::Poisson(_) => History::Weighted(Weighted::default()),
        }
    }

    /// How a history of this rule is learnt: a history read back from a store is of use only if it was learnt like this.
    /// Bounds are no part of it: what was learnt can be held against new ones.
    #[must_use]
    pub fn learning(&self) -> String {
        match &self.algorithm {
            Algorithm::Crowd(_) => "crowd".into(),
            Algorithm::Level(_) => "level".into(),
            Algorithm::Threshold(_) => "threshold".into(),
            Algorithm::Zscore(ZscoreSpec { history, .. }) => format!("zscore {history}"),
            Algorithm::Mad(MadSpec { history, .. }) => format!("mad {history}"),
            Algorithm::Ewma(EwmaSpec { half_life, .. }) => format!("ewma {half_life}"),
            Algorithm::Poisson(PoissonSpec { half_life, .. }) => format!("poisson {half_life}"),
        }
    }

    /// Windows of silence after which a key counts as never seen.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // validated to be small and positive
    pub fn memory(&self) -> u32 {
        match &self.algorithm {
            Algorithm::Crowd(_) => crowd::MEMORY,
            Algorithm::Level(_) => LEVEL_MEMORY,
            Algorithm::Threshold(_) => 0,
            Algorithm::Zscore(ZscoreSpec { history, .. }) | Algorithm::Mad(MadSpec { history, .. }) => {
                history.saturating_mul(4)
            }
            Algorithm::Ewma(EwmaSpec { half_life, .. })
            | Algorithm::Poisson(PoissonSpec { half_life, .. }) => {
                (6.0 * half_life).min(1000.0).ceil() as u32
            }
        }
    }

    /// Whether a key that falls silent can alert.
    #[must_use]
    pub fn watches_drops(&self) -> bool {
        match &self.algorithm {
            Algorithm::Crowd(_) | Algorithm::Level(_) => false, // they judge windows without an event by themselves
            Algorithm::Threshold(bounds) => bounds.below().is_some(),
            _ => self.direction != Direction::Up,
        }
    }

    /// Adds the next window.
    pub fn fold(&self, history: &mut History, value: f64) {
        match (&self.algorithm, history) {
            (
                Algorithm::Zscore(ZscoreSpec { history, .. }) | Algorithm::Mad(MadSpec { history, .. }),
                History::Ring(ring),
            ) => {
                ring.push(value, *history as usize);
            }
            (Algorithm::Ewma(EwmaSpec { half_life, .. }), History::Weighted(weighted)) => {
                weighted.push_ewma(value, *half_life)
            }
            (Algorithm::Poisson(PoissonSpec { half_life, .. }), History::Weighted(weighted)) => {
                weighted.push_decayed(value, *half_life);
            }
            _ => {}
        }
    }

    /// Adds `windows` windows without an event, each worth 0: the same as adding them one by one, without doing what changes
    /// nothing any more.
    pub fn fold_silence(&self, history: &mut History, windows: u32) {
        let length = match &self.algorithm {
            Algorithm::Zscore(ZscoreSpec { history, .. }) | Algorithm::Mad(MadSpec { history, .. }) => {
                *history as usize
            }
            _ => 0,
        };
        let mut left = windows;
        while left > 0 && !history.is_silent(length) {
            let before =
                if let History::Weighted(weighted) = history { Some(weighted.clone()) } else { None };
            self.fold(history, 0.0);
            left -= 1;
            if let (Some(before), History::Weighted(now)) = (before, &*history)
                && now.is_like(&before)
            {
                break;
            }
        }
        history.count_silence(left);
    }

    /// Whether windows without an event, however many follow, can never be out of the usual range. Not true where that is not
    /// certain.
    #[must_use]
    pub fn takes_silence_for_usual(&self, history: &History) -> bool {
        // Only where negative numbers are added could 0 be much.
        let is_never_much = self.counting || self.min_count > 0;
        is_never_much
            && match (&self.algorithm, history) {
                (Algorithm::Threshold(bounds), _) => bounds.below().is_none_or(|below| below <= 0.0),
                _ if !self.watches_drops() => true,
                // The expected value only falls in silence. A spread is at least 1 where things are counted, and at least a
                // twentieth of the expected value where numbers are added.
                (
                    Algorithm::Zscore(ZscoreSpec { sigmas: width, .. })
                    | Algorithm::Mad(MadSpec { deviations: width, .. }),
                    History::Ring(ring),
                ) => self.silence_is_within(ring.largest(), *width),
                (Algorithm::Ewma(EwmaSpec { sigmas: width, .. }), History::Weighted(weighted)) => {
                    self.silence_is_within(weighted.first, *width)
                }
                // A count of 0 is never rarer than e^−mean.
                (Algorithm::Poisson(PoissonSpec { probability, .. }), History::Weighted(weighted)) => {
                    weighted.first == 0.0
                        || (weighted.first + 0.5) / weighted.exposure.max(1.0) <= -probability.ln()
                }
                _ => false,
            }
    }

    fn silence_is_within(&self, expected: f64, width: f64) -> bool {
        expected <= 0.0 || (self.counting && expected <= width) || 0.05 * width >= 1.0
    }

    /// What is usual after `history`; none while the key is still warming up.
    #[must_use]
    pub fn expectation(&self, history: &History) -> Option<Expectation> {
        match (&self.algorithm, history) {
            (Algorithm::Threshold(bounds), _) => Some(Expectation {
                expected: bounds.above().or(bounds.below()).unwrap_or(0.0),
                spread: 0.0,
                lower: bounds.below().unwrap_or(f64::NEG_INFINITY),
                upper: bounds.above().unwrap_or(f64::INFINITY),
            }),
            (Algorithm::Zscore(ZscoreSpec { sigmas, warmup, .. }), History::Ring(ring)) => {
                let (mean, deviation) = ring.mean_and_deviation();
                (ring.seen >= *warmup).then(|| self.around(mean, deviation, *sigmas))
            }
            (Algorithm::Mad(MadSpec { deviations, warmup, .. }), History::Ring(ring)) => {
                let (median, deviation) = ring.median_and_deviation();
                (ring.seen >= *warmup).then(|| self.around(median, deviation, *deviations))
            }
            (Algorithm::Ewma(EwmaSpec { sigmas, warmup, .. }), History::Weighted(weighted)) => {
                let (mean, deviation) = weighted.mean_and_deviation();
                (weighted.seen >= *warmup).then(|| self.around(mean, deviation, *sigmas))
            }
            (Algorithm::Poisson(PoissonSpec { probability, warmup, .. }), History::Weighted(weighted)) => {
                (weighted.seen >= *warmup).then(|| poisson::expectation(weighted, *probability))
            }
            _ => None,
        }
    }

    /// A range of `width` spreads. The spread is never taken for less than chance or rounding would give: a key that had
    /// exactly 3 events in each of its windows is not a wonder at 4.
    fn around(&self, expected: f64, deviation: f64, width: f64) -> Expectation {
        let chance = if self.counting { expected.max(1.0).sqrt() } else { 0.0 };
        let spread = deviation.max(chance).max(0.05 * expected.abs()).max(RESOLUTION);
        Expectation { expected, spread, lower: expected - width * spread, upper: expected + width * spread }
    }

    /// Whether a window of `count` events and this value is out of the usual range, and which way.
    #[must_use]
    pub fn crossing(&self, expectation: &Expectation, value: f64, count: u64) -> Option<Crossing> {
        let up = self.direction != Direction::Down || matches!(self.algorithm, Algorithm::Threshold(_));
        if up && value > expectation.upper && count >= self.min_count {
            return Some(Crossing::Up);
        }
        (self.watches_drops() && value < expectation.lower).then_some(Crossing::Down)
    }

    /// How unusual a value is: spreads from the expected value; for `poisson` −log₁₀ of the chance; for a threshold the
    /// value over the bound. Always a number: JSON knows no infinity.
    #[must_use]
    pub fn score(&self, expectation: &Expectation, value: f64) -> f64 {
        let score = match &self.algorithm {
            Algorithm::Threshold(_) if expectation.expected == 0.0 => value,
            Algorithm::Threshold(_) => value / expectation.expected,
            Algorithm::Poisson(_) => poisson::score(expectation, value),
            _ => (value - expectation.expected) / expectation.spread,
        };
        score.clamp(f64::MIN, f64::MAX)
    }

    /// When `crowd` or `level` alerts, if that is the algorithm.
    #[must_use]
    pub fn limit(&self) -> Option<AlertLimit> {
        match self.algorithm {
            Algorithm::Crowd(limit) | Algorithm::Level(limit) => Some(limit),
            _ => None,
        }
    }

    /// The settings of `crowd`, if that is the algorithm, for the keys of one of `partitions`, which have this share of a budget.
    #[must_use]
    pub fn crowd(&self, size: Duration, lag: u32, partitions: u32, share: f64) -> Option<crowd::Settings> {
        let Algorithm::Crowd(limit) = &self.algorithm else { return None };
        Some(crowd::Settings {
            size_ms: u64::try_from(size.as_millis()).unwrap_or(u64::MAX),
            lag: lag.clamp(1, crowd::LONGEST_LAG),
            limit: match limit {
                AlertLimit::Budget(budget) => {
                    crowd::Limit::Budget(share * budget.alerts_per_day() / f64::from(partitions.max(1)))
                }
                AlertLimit::Probability(probability) => crowd::Limit::Probability(*probability),
            },
            direction: match self.direction {
                Direction::Up => crowd::Direction::Up,
                Direction::Down => crowd::Direction::Down,
                Direction::Both => crowd::Direction::Both,
            },
        })
    }

    /// The settings of `level`, if that is the algorithm, for the keys of one of `partitions`, which have this share of a budget.
    #[must_use]
    pub fn level(&self, size: Duration, partitions: u32, share: f64) -> Option<levels::Settings> {
        let Algorithm::Level(limit) = self.algorithm else { return None };
        Some(levels::Settings {
            size_ms: u64::try_from(size.as_millis()).unwrap_or(u64::MAX),
            direction: match self.direction {
                Direction::Up => level::Direction::Up,
                Direction::Down => level::Direction::Down,
                Direction::Both => level::Direction::Both,
            },
            additive: self.additive,
            limit,
            share,
            partitions,
        })
    }

    /// Whether this is a fixed bound, which expects nothing.
    #[must_use]
    pub fn is_threshold(&self) -> bool {
        matches!(self.algorithm, Algorithm::Threshold(_))
    }
}

#[cfg(test)]
mod tests;
