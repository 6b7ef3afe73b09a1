//! Tail probabilities of the negative binomial distribution by the saddlepoint approximation.
//!
//! With mean `m` and size `r` (variance `m + m²/r`) the cumulant generating function is `K(s) = −r ln(1 − (m/r)(eˢ − 1))`. Its saddlepoint
//! for a value `x` is `s = ln(x (r + m) / (m (r + x)))`, and the tail from `x` on is, by Lugannani and Rice (1980) with the second
//! continuity correction for lattices of Daniels (1987), taken at `x − ½`:
//!
//! `P(X ≥ x) ≈ 1 − Φ(w) + φ(w) (1/u − 1/w)`, `w = sgn(s) √(2 (s x − K(s)))`, `u = 2 sinh(s/2) √K''(s)`.
//!
//! `w` is the signed root of half the deviance. The relative error is below a few percent down to the smallest probabilities, where an
//! incomplete beta function costs many times as much.

use std::f64::consts::{LN_10, PI};

/// Windows below this signed root are ordinary: their tail is more than a third.
const ORDINARY: f64 = 0.4;

/// Up to this value probabilities are added up: for rare keys the approximation is poor, and the sum is short.
const EXACT: f64 = 12.0;
/// Below this size the distribution is far from normal even where its logarithm is smooth: probabilities are added up as well.
const SMALL_SIZE: f64 = 2.0;
/// Terms of a sum beyond a value; the rest is a geometric series but for little.
const TERMS: u32 = 20;
/// 1/(k + 1) for the terms of small values: dividing costs more than all else.
const INVERSE: [f64; 16] = {
    let mut inverse = [0.0; 16];
    let mut k = 0;
    while k < inverse.len() {
        inverse[k] = 1.0 / (k as f64 + 1.0);
        k += 1;
    }
    inverse
};

/// A negative binomial distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NegativeBinomial {
    /// The mean; above 0.
    pub mean: f64,
    /// Variance over mean, less one: 0 is a Poisson distribution.
    pub excess: f64,
}

impl NegativeBinomial {
    /// −log₁₀ P(X ≥ x); 0 for ordinary values, up to a third of which are as high.
    #[must_use]
    pub fn upper(&self, x: f64) -> f64 {
        let x = x.round();
        let above = x - 0.5 - self.mean;
        // Within a standard deviation: most windows.
        if above <= 0.0 || above * above <= self.mean * (1.0 + self.excess) {
            0.0
        } else if x <= EXACT || self.mean < SMALL_SIZE * self.excess {
            self.exact(x)
        } else {
            self.score(x - 0.5)
        }
    }

    /// −log₁₀ P(X ≤ x); 0 for ordinary values, up to a third of which are as low.
    #[must_use]
    pub fn lower(&self, x: f64) -> f64 {
        let at = x.round() + 0.5;
        if at >= self.mean { 0.0 } else { self.score(at) }
    }

    /// The smallest whole number whose upper score reaches `score`.
    #[must_use]
    pub fn upper_bound(&self, score: f64) -> f64 {
        let reaches = |x: f64| self.upper(x) >= score;
        let mut low = self.mean.floor().max(0.0); // never reaches: it is not above the mean
        // The root of the deviance grows at least as slowly as a normal distribution's: start there, and double.
        let deviation = (self.mean * (1.0 + self.excess)).sqrt();
        let mut step = ((2.0 * score * LN_10).sqrt() * deviation).ceil().max(1.0);
        while !reaches(low + step) {
            low += step;
            step *= 2.0;
            if !low.is_finite() || step > 1e15 {
                return f64::INFINITY;
            }
        }
        while step > 1.0 {
            let half = (step / 2.0).floor();
            if reaches(low + half) {
                step = half;
            } else {
                low += half;
                step -= half;
            }
        }
        low + step
    }

    /// The largest whole number whose lower score reaches `score`; none if not even 0 does.
    #[must_use]
    pub fn lower_bound(&self, score: f64) -> Option<f64> {
        if self.lower(0.0) < score {
            return None;
        }
        let (mut low, mut high) = (0.0, self.mean.ceil());
        while high - low > 1.0 {
            let middle = ((low + high) / 2.0).floor();
            if self.lower(middle) >= score {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(low)
    }

    /// The upper tail from a whole number on, by adding up: what is below it, or where that is nearly all, what is above.
    fn exact(&self, x: f64) -> f64 {
        let (m, d) = (self.mean.max(1e-12), self.excess.max(1e-9));
        let (r, q) = (m / d, d / (1.0 + d));
        let mut term = if x > EXACT { self.probability(r, q, x) } else { (-r * d.ln_1p()).exp() };
        let mut k = if x > EXACT { x } else { 0.0 };
        let (mut below, mut tail) = (0.0, 0.0);
        for inverse in INVERSE.iter().take_while(|_| x <= EXACT) {
            if k >= x {
                break;
            }
            below += term;
            term *= (k + r) * q * inverse;
            k += 1.0;
        }
        // What is left of 1 is exact enough unless it is tiny.
        if x <= EXACT && below < 0.9999 {
            tail = 1.0 - below;
        } else {
            let mut ratio = q;
            for _ in 0..TERMS {
                tail += term;
                ratio = (k + r) / (k + 1.0) * q;
                term *= ratio;
                k += 1.0;
                if term < tail * 1e-4 * (1.0 - q) {
                    break;
                }
            }
            // The ratio of two terms goes on towards q.
            tail += term / (1.0 - f64::midpoint(ratio, q)).max(1e-9);
        }
        if tail > 0.35 { 0.0 } else { -tail.max(1e-300).log10() }
    }

    /// The probability of a whole number above [`EXACT`]; the size `r` is small.
    fn probability(&self, r: f64, q: f64, x: f64) -> f64 {
        // Γ(r) = Γ(r + 8) / (r (r + 1) … (r + 7)), and Stirling's series above 8.
        let mut product = 1.0;
        for i in 0..8 {
            product *= r + f64::from(i);
        }
        let ln = stirling(x + r) - stirling(x + 1.0) - stirling(r + 8.0) + product.ln();
        (ln + x * q.ln() + r * (1.0 - q).ln()).exp()
    }

    /// The tail on the side of `at`, which is not the mean and is above 0.
    fn score(&self, at: f64) -> f64 {
        let (m, d) = (self.mean.max(1e-12), self.excess.max(1e-9));
        let r = m / d;
        // ln((r + m)/(r + x)), exact where r is large.
        let shrink = ((m - at) / (r + at)).ln_1p();
        let grow = (at / m).ln();
        let s = grow + shrink;
        let deviance = 2.0 * (at * s + r * shrink);
        let w = deviance.max(0.0).sqrt();
        if w < ORDINARY {
            return 0.0;
        }
        let u = (2.0 * (s / 2.0).sinh() * (at * (1.0 + at / r)).sqrt()).abs();
        let ratio = mills(w) + 1.0 / u - 1.0 / w;
        let ln = -deviance / 2.0 - (2.0 * PI).sqrt().ln() + ratio.max(1e-300).ln();
        (-ln / LN_10).max(0.0)
    }
}

/// (1 − Φ(w)) / φ(w) for `w ≥ 0`, by the Chebyshev fit of Press et al. (Numerical Recipes, erfc) with a relative error of 1.2e-7.
fn mills(w: f64) -> f64 {
    const C: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let z = w / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let p = C.iter().rev().fold(0.0, |sum, c| sum * t + c);
    (PI / 2.0).sqrt() * t * p.exp()
}

/// ln Γ(z) for `z ≥ 8`, to 1e-6.
fn stirling(z: f64) -> f64 {
    (z - 0.5) * z.ln() - z + 0.5 * (2.0 * PI).ln() + 1.0 / (12.0 * z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// −log₁₀ of the sum of all probabilities from `x` on.
    fn summed(distribution: NegativeBinomial, x: u32) -> f64 {
        let (m, d) = (distribution.mean, distribution.excess);
        let (r, q) = (m / d, d / (1.0 + d));
        let mut ln = -r * d.ln_1p();
        let mut sum = 0.0;
        for k in 0..200_000u32 {
            if k >= x {
                sum += ln.exp();
            }
            ln += ((f64::from(k) + r) / f64::from(k + 1) * q).ln();
        }
        -sum.log10()
    }

    #[rstest]
    #[case(0.03, 0.01, 1)]
    #[case(0.03, 1.5, 1)]
    #[case(0.03, 1.5, 5)]
    #[case(0.03, 3.0, 12)]
    #[case(0.03, 3.0, 13)]
    #[case(0.01, 20.0, 40)]
    #[case(2.9, 1.5, 40)]
    #[case(3.1, 1.5, 40)]
    #[case(100.0, 200.0, 3000)]
    #[case(0.5, 0.2, 6)]
    #[case(5.0, 0.1, 13)]
    #[case(5.0, 0.1, 25)]
    #[case(5.0, 4.0, 60)]
    #[case(200.0, 0.5, 260)]
    #[case(200.0, 30.0, 500)]
    #[case(1000.0, 0.01, 1100)]
    fn upper_is_the_summed_tail(#[case] mean: f64, #[case] excess: f64, #[case] x: u32) {
        let distribution = NegativeBinomial { mean, excess };
        let (summed, score) = (summed(distribution, x), distribution.upper(f64::from(x)));
        assert!((summed - score).abs() < 0.03 + 0.01 * summed, "{score}, but {summed}");
    }

    proptest! {
        #[test]
        fn upper_rises_with_the_value_and_falls_with_the_mean(
            mean in 0.001f64..300.0, excess in 0.0001f64..20.0, x in 1u32..600, more in 1.0f64..3.0,
        ) {
            let distribution = NegativeBinomial { mean, excess };
            let score = distribution.upper(f64::from(x));
            prop_assert!(distribution.upper(f64::from(x + 1)) >= score - 0.004 - 0.01 * score);
            let higher = NegativeBinomial { mean: mean * more, excess };
            prop_assert!(higher.upper(f64::from(x)) <= score * 1.01 + 0.004);
        }

        #[test]
        fn upper_bound_is_the_first_value_that_reaches_the_score(
            mean in 0.001f64..300.0, excess in 0.0001f64..20.0, score in 1.0f64..12.0,
        ) {
            let distribution = NegativeBinomial { mean, excess };
            let bound = distribution.upper_bound(score);
            prop_assert!(distribution.upper(bound) >= score);
            prop_assert!(distribution.upper(bound - 1.0) < score);
        }

        #[test]
        fn lower_bound_is_the_last_value_that_reaches_the_score(
            mean in 0.001f64..300.0, excess in 0.0001f64..20.0, score in 1.0f64..12.0,
        ) {
            let distribution = NegativeBinomial { mean, excess };
            match distribution.lower_bound(score) {
                None => prop_assert!(distribution.lower(0.0) < score),
                Some(bound) => {
                    prop_assert!(distribution.lower(bound) >= score);
                    prop_assert!(distribution.lower(bound + 1.0) < score);
                }
            }
        }
    }

    #[rstest]
    #[case(5.0, 0.1, 0)]
    #[case(20.0, 0.5, 4)]
    #[case(200.0, 2.0, 120)]
    #[case(40.0, 30.0, 0)]
    fn lower_is_the_summed_tail(#[case] mean: f64, #[case] excess: f64, #[case] x: u32) {
        let distribution = NegativeBinomial { mean, excess };
        let summed = -(1.0 - 10f64.powf(-summed(distribution, x + 1))).log10();
        let score = distribution.lower(f64::from(x));
        assert!((summed - score).abs() < 0.03 + 0.01 * summed, "{score}, but {summed}");
    }
}
