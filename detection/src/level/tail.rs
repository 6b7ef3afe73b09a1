//! How rarely a non-negative statistic is as large as it is: a decayed quantile, and a heavy tail beyond it.
//!
//! Up to its 97 % quantile `u` a value is usual and scores 0. Beyond it the excess is taken to be Pareto distributed, the
//! probability of more than `z` being `π (z / u)^(−1/γ)`: the peaks-over-threshold method with Hill's estimator.
//!
//! * `u` follows the series by stochastic approximation: a step up for a value beyond it, a smaller one down for others.
//! * `π` is the measured share of values beyond `u`, which corrects what the steps miss.
//! * `γ` is the mean of the largest `ln(z / u)` of the last clusters of exceedances. A cluster is learnt when it is over,
//!   so that an unusual time that lasts does not become usual while it does.
//!
//! Because `γ` comes from few clusters, the probability is the predictive one under a Gamma prior on `1 / γ`,
//! `π (1 + ln(z / u) / (α γ))^(−α)` with `α` = 10 + the clusters seen: close to Pareto's near `u` and more careful far
//! beyond it, so that no score is arbitrarily large on the evidence of a handful of values. In addition, what a tail with
//! few exceedances has never seen is given the probability of the rule of succession: the first purchase after a thousand
//! windows without one is not more unusual than one in a thousand.
//!
//! Sources: B. M. Hill, "A simple general approach to inference about the tail of a distribution", Annals of Statistics 3
//! (1975); M. R. Leadbetter, "On a basis for 'peaks over threshold' modeling", Statistics & Probability Letters 12 (1991),
//! for clusters; A. Siffer et al., "Anomaly detection in streams with extreme value theory" (SPOT), KDD 2017; H. Robbins
//! and S. Monro, "A stochastic approximation method", Annals of Mathematical Statistics 22 (1951).

use serde::{Deserialize, Serialize};

/// Share of values beyond the quantile.
const BEYOND: f64 = 0.03;
/// Weight of a new value once as many have been seen: a memory of about a thousand windows.
const RATE: f64 = 0.001;
/// Gain of the quantile's steps while few values were seen: the best one is 1 over the density of `ln z` at the quantile,
/// which is `share / exponent`.
const GAIN: f64 = PRIOR_EXPONENT / BEYOND;
/// Values up to this multiple of the quantile are equal to it: where one value is common, the quantile moves around it.
const TIE: f64 = 1.01;
/// Values that only set the quantile: it starts at the second largest of them.
const FIRST: u32 = 60;
/// The exponent `γ` before any exceedance: that of a normal distribution beyond its 97 % quantile.
const PRIOR_EXPONENT: f64 = 0.2;
/// Clusters that the prior is worth.
const PRIOR_WEIGHT: f64 = 10.0;
/// Clusters that are remembered.
const REMEMBERED: f64 = 100.0;
/// Exceedances in a row after which a cluster is learnt although it lasts.
const LONGEST: u32 = 64;
/// The lightest tail: below it a slightly larger value would be a sensation.
const LEAST_EXPONENT: f64 = 0.1;
/// The largest `ln(z / u)` that is learnt from: one value must not teach the tail more than that.
const MOST_EXCESS: f64 = 8.0;
/// Least ratio of `u` to the usual size of an exceedance. Where nearly all values are 0, the quantile is too; the sizes of
/// the few others are then what the next one is compared with.
const OF_PEAK: f64 = 0.05;

/// The tail of one statistic of a series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tail {
    /// Values seen.
    #[serde(rename = "k")]
    seen: u32,
    /// The quantile.
    #[serde(rename = "u")]
    quantile: f64,
    /// Share of values beyond it.
    #[serde(rename = "p")]
    share: f64,
    /// Hill's exponent.
    #[serde(rename = "g")]
    exponent: f64,
    /// Clusters of exceedances learnt, up to [`REMEMBERED`].
    #[serde(rename = "x")]
    exceedances: f64,
    /// The largest `ln(z / u)` of the cluster of exceedances that lasts.
    #[serde(rename = "l")]
    largest: f64,
    /// Its length.
    #[serde(rename = "c")]
    length: u32,
    /// Mean size of recent exceedances.
    #[serde(rename = "m")]
    peak: f64,
}

impl Tail {
    /// The quantile, but at least `floor`.
    pub(super) fn quantile(&self, floor: f64) -> f64 {
        self.quantile.max(floor)
    }

    /// −log10 of the probability of a value of at least `z`; 0 for what is usual. `floor` (positive) is the smallest scale
    /// that is told from 0.
    pub(super) fn score(&self, z: f64, floor: f64) -> f64 {
        let u = self.quantile(floor);
        if self.seen < FIRST || z <= u * TIE {
            return 0.0;
        }
        let alpha = PRIOR_WEIGHT + self.exceedances;
        let beyond = alpha * ((z / u).ln() / (alpha * self.exponent)).ln_1p();
        -(self.share * (-beyond).exp() + self.unheard_of()).log10()
    }

    /// The probability of a value of a kind not seen before: by the rule of succession one in the values seen, as far as
    /// the tail is not known from exceedances of its own.
    fn unheard_of(&self) -> f64 {
        let unknown = PRIOR_WEIGHT / (PRIOR_WEIGHT + self.exceedances);
        unknown.powi(4) / f64::from(self.seen.saturating_add(2))
    }

    /// The value that scores `score`: the inverse of [`Tail::score`] beyond the quantile. ∞ if none does.
    pub(super) fn value_at(&self, score: f64, floor: f64) -> f64 {
        let u = self.quantile(floor);
        let alpha = PRIOR_WEIGHT + self.exceedances;
        let probability = 10f64.powf(-score) - self.unheard_of();
        if self.seen < FIRST || probability <= 0.0 {
            return f64::INFINITY;
        }
        let beyond = ((self.share / probability).ln() / alpha).max(0.0);
        u * (alpha * self.exponent * beyond.exp_m1()).min(700.0).exp()
    }

    /// Adds a value.
    pub(super) fn learn(&mut self, z: f64, floor: f64) {
        self.seen = self.seen.saturating_add(1);
        if self.seen <= FIRST {
            // The second largest of 60 is beyond 97 % of them.
            self.quantile = self.quantile.max(z.min(self.largest));
            self.largest = if self.seen < FIRST { self.largest.max(z) } else { 0.0 };
            self.peak = self.quantile;
            self.share = BEYOND;
            self.exponent = PRIOR_EXPONENT;
            return;
        }
        let rate = RATE.max(1.0 / f64::from(self.seen));
        let u = self.quantile(floor);
        let beyond = z > u;
        if beyond {
            self.largest = self.largest.max((z / u).ln().min(MOST_EXCESS));
            self.length += 1;
            self.peak += (z.min(20.0 * u) - self.peak) / (self.exceedances + 1.0).min(10.0);
        }
        if self.length > 0 && (!beyond || self.length >= LONGEST) {
            self.learn_cluster();
        }
        let gain = RATE.max(GAIN / f64::from(self.seen));
        let step = if beyond { 1.0 - BEYOND } else { -BEYOND };
        self.quantile = (u * (gain * step).exp()).max(OF_PEAK * self.peak);
        let share = self.share + rate * (f64::from(u8::from(beyond)) - self.share);
        self.share = share.clamp(BEYOND / 3.0, BEYOND * 10.0);
    }

    /// Ends a cluster of exceedances.
    fn learn_cluster(&mut self) {
        self.exceedances = (self.exceedances + 1.0).min(REMEMBERED);
        let weight = PRIOR_WEIGHT + self.exceedances;
        self.exponent = (self.exponent + (self.largest - self.exponent) / weight).max(LEAST_EXPONENT);
        self.largest = 0.0;
        self.length = 0;
    }

    /// Adds `windows` values of 0; only for a tail whose memory is full.
    pub(super) fn learn_zeros(&mut self, windows: u32, floor: f64) {
        self.seen = self.seen.saturating_add(windows);
        let windows = f64::from(windows);
        let u = self.quantile(floor);
        self.quantile = (u * (-RATE * BEYOND * windows).exp()).max(OF_PEAK * self.peak);
        self.share = (self.share * (1.0 - RATE).powf(windows)).max(BEYOND / 3.0);
    }
}
