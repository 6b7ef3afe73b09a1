//! What is usual for a key, by its own past windows, and how far a value is from it. Pure and deterministic: a history is
//! folded one window at a time, in order, so that it does not matter when that is done.
//!
//! | algorithm | what it keeps | what it says |
//! |---|---|---|
//! | `threshold` | nothing | above or below a fixed bound |
//! | `zscore` | the last `history` values | standard deviations from their mean |
//! | `mad` | the last `history` values | scaled median absolute deviations from their median |
//! | `ewma` | weighted mean and variance | standard deviations from the mean |
//! | `poisson` | weighted counts and exposure | how rarely chance gives such a count |

mod history;
mod poisson;

use herd_spec::pipeline::{AggregateFunction, Direction, EwmaSpec, MadSpec, PoissonSpec, ZscoreSpec};
use herd_spec::plan::{Algorithm, DetectorPlan};

pub use history::{History, Ring, Weighted};

/// Sums are kept in millionths: no spread of added or averaged numbers is finer.
const RESOLUTION: f64 = 1e-6;

/// A detector's rule, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    kind: Kind,
    direction: Direction,
    min_count: u64,
    /// Whether the metric counts things (so that chance alone spreads it by √n) or adds or averages numbers.
    counting: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Threshold { above: Option<f64>, below: Option<f64> },
    Zscore { sigmas: f64, history: usize, warmup: u32 },
    Mad { deviations: f64, history: usize, warmup: u32 },
    Ewma { sigmas: f64, half_life: f64, warmup: u32 },
    Poisson { probability: f64, half_life: f64, warmup: u32 },
}

/// What a rule takes for usual in one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
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
        let kind = match detector.algorithm.clone() {
            Algorithm::Threshold(bounds) => Kind::Threshold { above: bounds.above(), below: bounds.below() },
            Algorithm::Zscore(ZscoreSpec { sigmas, history, warmup }) => {
                Kind::Zscore { sigmas, history: history as usize, warmup }
            }
            Algorithm::Mad(MadSpec { deviations, history, warmup }) => {
                Kind::Mad { deviations, history: history as usize, warmup }
            }
            Algorithm::Ewma(EwmaSpec { sigmas, half_life, warmup }) => {
                Kind::Ewma { sigmas, half_life, warmup }
            }
            Algorithm::Poisson(PoissonSpec { probability, half_life, warmup }) => {
                Kind::Poisson { probability, half_life, warmup }
            }
        };
        let counting = matches!(function, AggregateFunction::Count | AggregateFunction::Unique);
        Self { kind, direction: detector.direction, min_count: detector.min_count, counting }
    }

    /// The history of a key never seen.
    #[must_use]
    pub fn fresh(&self) -> History {
        match self.kind {
            Kind::Threshold { .. } => History::None,
            Kind::Zscore { .. } | Kind::Mad { .. } => History::Ring(Ring::default()),
            Kind::Ewma { .. } | Kind::Poisson { .. } => History::Weighted(Weighted::default()),
        }
    }

    /// How a history of this rule is learnt: a history read back from a store is of use only if it was learnt like this.
    /// Bounds are no part of it: what was learnt can be held against new ones.
    #[must_use]
    pub fn learning(&self) -> String {
        match self.kind {
            Kind::Threshold { .. } => "threshold".into(),
            Kind::Zscore { history, .. } => format!("zscore {history}"),
            Kind::Mad { history, .. } => format!("mad {history}"),
            Kind::Ewma { half_life, .. } => format!("ewma {half_life}"),
            Kind::Poisson { half_life, .. } => format!("poisson {half_life}"),
        }
    }

    /// Windows of silence after which a key counts as never seen.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // validated to be small and positive
    pub fn memory(&self) -> u32 {
        match self.kind {
            Kind::Threshold { .. } => 0,
            Kind::Zscore { history, .. } | Kind::Mad { history, .. } => {
                u32::try_from(4 * history).unwrap_or(256)
            }
            Kind::Ewma { half_life, .. } | Kind::Poisson { half_life, .. } => {
                (6.0 * half_life).min(1000.0).ceil() as u32
            }
        }
    }

    /// Whether a key that falls silent can alert.
    #[must_use]
    pub fn watches_drops(&self) -> bool {
        match self.kind {
            Kind::Threshold { below, .. } => below.is_some(),
            _ => self.direction != Direction::Up,
        }
    }

    /// Adds the next window.
    pub fn fold(&self, history: &mut History, value: f64) {
        match (&self.kind, history) {
            (
                Kind::Zscore { history: length, .. } | Kind::Mad { history: length, .. },
                History::Ring(ring),
            ) => {
                ring.push(value, *length);
            }
            (Kind::Ewma { half_life, .. }, History::Weighted(weighted)) => {
                weighted.push_ewma(value, *half_life)
            }
            (Kind::Poisson { half_life, .. }, History::Weighted(weighted)) => {
                weighted.push_decayed(value, *half_life);
            }
            _ => {}
        }
    }

    /// Adds `windows` windows without an event, each worth 0: the same as adding them one by one, without doing what changes
    /// nothing any more.
    pub fn fold_silence(&self, history: &mut History, windows: u32) {
        let length = match self.kind {
            Kind::Zscore { history, .. } | Kind::Mad { history, .. } => history,
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
            && match (&self.kind, history) {
                (Kind::Threshold { below, .. }, _) => below.is_none_or(|below| below <= 0.0),
                _ if !self.watches_drops() => true,
                // The expected value only falls in silence. A spread is at least 1 where things are counted, and at least a
                // twentieth of the expected value where numbers are added.
                (
                    Kind::Zscore { sigmas: width, .. } | Kind::Mad { deviations: width, .. },
                    History::Ring(ring),
                ) => self.silence_is_within(ring.largest(), *width),
                (Kind::Ewma { sigmas: width, .. }, History::Weighted(weighted)) => {
                    self.silence_is_within(weighted.first, *width)
                }
                // A count of 0 is never rarer than e^−mean.
                (Kind::Poisson { probability, .. }, History::Weighted(weighted)) => {
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
    pub fn usual(&self, history: &History) -> Option<Usual> {
        match (&self.kind, history) {
            (Kind::Threshold { above, below }, _) => Some(Usual {
                expected: above.or(*below).unwrap_or(0.0),
                spread: 0.0,
                lower: below.unwrap_or(f64::NEG_INFINITY),
                upper: above.unwrap_or(f64::INFINITY),
            }),
            (Kind::Zscore { sigmas, warmup, .. }, History::Ring(ring)) => {
                let (mean, deviation) = ring.mean_and_deviation();
                (ring.seen >= *warmup).then(|| self.around(mean, deviation, *sigmas))
            }
            (Kind::Mad { deviations, warmup, .. }, History::Ring(ring)) => {
                let (median, deviation) = ring.median_and_deviation();
                (ring.seen >= *warmup).then(|| self.around(median, deviation, *deviations))
            }
            (Kind::Ewma { sigmas, warmup, .. }, History::Weighted(weighted)) => {
                let (mean, deviation) = weighted.mean_and_deviation();
                (weighted.seen >= *warmup).then(|| self.around(mean, deviation, *sigmas))
            }
            (Kind::Poisson { probability, warmup, .. }, History::Weighted(weighted)) => {
                (weighted.seen >= *warmup).then(|| poisson::usual(weighted, *probability))
            }
            _ => None,
        }
    }

    /// A range of `width` spreads. The spread is never taken for less than chance or rounding would give: a key that had
    /// exactly 3 events in each of its windows is not a wonder at 4.
    fn around(&self, expected: f64, deviation: f64, width: f64) -> Usual {
        let chance = if self.counting { expected.max(1.0).sqrt() } else { 0.0 };
        let spread = deviation.max(chance).max(0.05 * expected.abs()).max(RESOLUTION);
        Usual { expected, spread, lower: expected - width * spread, upper: expected + width * spread }
    }

    /// Whether a window of `count` events and this value is out of the usual range, and which way.
    #[must_use]
    pub fn crossing(&self, usual: &Usual, value: f64, count: u64) -> Option<Crossing> {
        let up = self.direction != Direction::Down || matches!(self.kind, Kind::Threshold { .. });
        if up && value > usual.upper && count >= self.min_count {
            return Some(Crossing::Up);
        }
        (self.watches_drops() && value < usual.lower).then_some(Crossing::Down)
    }

    /// How unusual a value is: spreads from the expected value; for `poisson` −log₁₀ of the chance; for a threshold the
    /// value over the bound. Always a number: JSON knows no infinity.
    #[must_use]
    pub fn score(&self, usual: &Usual, value: f64) -> f64 {
        let score = match self.kind {
            Kind::Threshold { .. } if usual.expected == 0.0 => value,
            Kind::Threshold { .. } => value / usual.expected,
            Kind::Poisson { .. } => poisson::score(usual, value),
            _ => (value - usual.expected) / usual.spread,
        };
        score.clamp(f64::MIN, f64::MAX)
    }

    /// Whether this is a fixed bound, which expects nothing.
    #[must_use]
    pub fn is_threshold(&self) -> bool {
        matches!(self.kind, Kind::Threshold { .. })
    }
}

#[cfg(test)]
mod tests;
