//! A count against its own rate, corrected for exposure.
//!
//! With weighted counts C over weighted exposure E, the rate has the posterior Gamma(C + ½, E) (Jeffreys' prior), so the
//! next window is negative binomial with mean μ = (C + ½) / E and variance μ·(1 + 1/E): wide while little was seen, Poisson
//! in the end. Where the past counts themselves spread more than Poisson's (a weighted index of dispersion φ > 1, as real
//! traffic has it), the variance is multiplied by φ.
//!
//! The chance of a count is bounded, not computed: Chernoff's bound for the negative binomial with mean μ and shape r,
//! P(X ≥ k) ≤ exp(−D(k)), D(k) = k·ln(k/μ) − (k + r)·ln((k + r)/(μ + r)), costs two logarithms and errs on the silent side.

use super::{Expectation, Weighted};

/// What the past makes usual, where counts that chance gives less often than `probability` are not.
pub(super) fn expectation(past: &Weighted, probability: f64) -> Expectation {
    let exposure = past.exposure.max(1.0);
    let mean = (past.first + 0.5) / exposure;
    let average = past.first / exposure;
    let variance_seen = (past.second / exposure - average * average).max(0.0);
    let dispersion = if average > 0.0 { (variance_seen / average).max(1.0) } else { 1.0 };
    let spread = (mean * dispersion * (1.0 + 1.0 / exposure)).sqrt();
    let unusual = -probability.ln();
    let shape = shape(mean, spread);
    Expectation {
        expected: mean,
        spread,
        lower: solve(mean, shape, unusual, Side::Below),
        upper: solve(mean, shape, unusual, Side::Above),
    }
}

/// −log₁₀ of the (bounded) chance of a value so far from the mean, negative below it; at most ±300.
pub(super) fn score(expectation: &Expectation, value: f64) -> f64 {
    let bound = rarity(value, expectation.expected, shape(expectation.expected, expectation.spread))
        / std::f64::consts::LN_10;
    bound.min(300.0).copysign(value - expectation.expected)
}

/// The shape r of a negative binomial with this mean and standard deviation: variance = μ + μ²/r.
fn shape(mean: f64, spread: f64) -> f64 {
    mean * mean / (spread * spread - mean).max(1e-9)
}

/// D(k).
fn rarity(k: f64, mean: f64, shape: f64) -> f64 {
    let k = k.max(0.0);
    let gain = if k == 0.0 { 0.0 } else { k * (k / mean).ln() };
    (gain - (k + shape) * ((k + shape) / (mean + shape)).ln()).max(0.0)
}

enum Side {
    Above,
    Below,
}

/// The k on one side of the mean with D(k) = `unusual`; below, 0 where no count is that rare. D is convex with its minimum
/// 0 at the mean, so bisection cannot miss; 24 halvings of the bracket leave an error of less than a millionth of it.
fn solve(mean: f64, shape: f64, unusual: f64, side: Side) -> f64 {
    let (mut near, mut far) = match side {
        Side::Below if rarity(0.0, mean, shape) <= unusual => return 0.0,
        Side::Below => (mean, 0.0),
        Side::Above => {
            let mut far = 2.0 * mean + 1.0;
            // A negative binomial of tiny shape has a long tail; 2^60 counts are beyond every stream.
            for _ in 0..60 {
                if rarity(far, mean, shape) > unusual {
                    break;
                }
                far *= 2.0;
            }
            (mean, far)
        }
    };
    for _ in 0..24 {
        let middle = f64::midpoint(near, far);
        if rarity(middle, mean, shape) > unusual {
            far = middle;
        } else {
            near = middle;
        }
    }
    far
}
