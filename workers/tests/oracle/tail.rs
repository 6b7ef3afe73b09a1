//! How rare a count is by a negative binomial distribution: −log₁₀ of the probability of as many, or as few. Where counts are
//! small probabilities are added up; else the approximation of Lugannani and Rice, as `crowd` defines its scores.

use std::f64::consts::{LN_10, PI};

/// Values up to this are added up.
const SMALL: f64 = 12.0;
/// Where less than this share is below a value, what is left of 1 is taken.
const NEARLY_ALL: f64 = 0.9999;
/// Terms that are added up beyond a value; the rest is taken for a geometric series.
const TERMS: usize = 20;
/// What a third of all windows reach is ordinary.
const ORDINARY_TAIL: f64 = 0.35;
const ORDINARY_ROOT: f64 = 0.4;

/// A negative binomial distribution of this mean and variance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Distribution {
    pub(super) mean: f64,
    /// Variance over mean, less one.
    pub(super) excess: f64,
}

impl Distribution {
    pub(super) fn deviation(self) -> f64 {
        (self.mean + self.mean * self.excess).sqrt()
    }

    /// Of at least `x`.
    pub(super) fn at_least(self, x: f64) -> f64 {
        let x = x.round();
        if x - 0.5 <= self.mean + self.deviation() {
            return 0.0;
        }
        if x > SMALL && self.mean >= 2.0 * self.excess {
            return self.approximated(x - 0.5);
        }
        let tail = self.summed(x as usize);
        if tail > ORDINARY_TAIL { 0.0 } else { -tail.log10() }
    }

    /// Of at most `x`.
    pub(super) fn at_most(self, x: f64) -> f64 {
        let x = x.round() + 0.5;
        if x < self.mean { self.approximated(x) } else { 0.0 }
    }

    fn summed(self, x: usize) -> f64 {
        let size = self.mean / self.excess;
        let odds = self.excess / (1.0 + self.excess);
        let next = |k: usize| (k as f64 + size) / (k as f64 + 1.0) * odds;
        let mut probability = (1.0 + self.excess).powf(-size);
        let mut below = 0.0;
        for k in 0..x {
            below += probability;
            probability *= next(k);
        }
        if x as f64 <= SMALL && below < NEARLY_ALL {
            return 1.0 - below;
        }
        let (mut tail, mut ratio) = (0.0, odds);
        for k in x..x + TERMS {
            tail += probability;
            ratio = next(k);
            probability *= ratio;
            if probability < tail * 1e-4 * (1.0 - odds) {
                break;
            }
        }
        // The ratio of two terms goes on towards the odds.
        tail + probability / (1.0 - (ratio + odds) / 2.0).max(1e-9)
    }

    /// The tail from `x` on, on the side away from the mean.
    fn approximated(self, x: f64) -> f64 {
        let size = self.mean / self.excess;
        // The saddlepoint, and the deviance there.
        let shrink = ((self.mean - x) / (size + x)).ln_1p();
        let saddle = (x / self.mean).ln() + shrink;
        let deviance = 2.0 * (x * saddle + size * shrink);
        let root = deviance.max(0.0).sqrt();
        if root < ORDINARY_ROOT {
            return 0.0;
        }
        let width = (2.0 * (saddle / 2.0).sinh()).abs() * (x + x * x / size).sqrt();
        let ln = -deviance / 2.0 - (2.0 * PI).ln() / 2.0 + (mills(root) + 1.0 / width - 1.0 / root).ln();
        (-ln / LN_10).max(0.0)
    }
}

/// The tail of the normal distribution from `x` on, over its density there: a series for small `x`, Laplace's continued fraction
/// beyond.
fn mills(x: f64) -> f64 {
    if x > 3.0 {
        return 1.0 / (1..200).rev().fold(x, |below, n| x + f64::from(n) / below);
    }
    // Φ(x) − ½ = φ(x) (x + x³/3 + x⁵/(3·5) + …)
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= x * x / (2.0 * f64::from(n) + 1.0);
        sum += term;
    }
    (PI / 2.0).sqrt() * (x * x / 2.0).exp() - sum
}

#[test]
fn tail_is_that_of_the_normal_distribution() {
    // 1 − Φ(x), from tables.
    for (x, tail) in [
        (0.5, 0.308_537_538_7),
        (1.0, 0.158_655_253_9),
        (2.9, 1.865_813e-3),
        (3.1, 9.676_032e-4),
        (5.0, 2.866_516e-7),
    ] {
        let density = (-x * x / 2.0_f64).exp() / (2.0 * PI).sqrt();
        assert!((mills(x) * density / tail - 1.0).abs() < 1e-6, "at {x}");
    }
}
