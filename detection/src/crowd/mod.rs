//! The rule `crowd`, for counts and unique counts: how improbable the last windows of a key are, given its own past and the traffic of
//! the whole metric.
//!
//! # Where it stands
//! Judge closes the windows of a metric in order. Of each window it tells every key's count and the total of all partitions:
//! [`Population::begin`], [`KeyState::take`] for each key, [`Population::close`], then [`KeyState::score`] and [`Episode::observe`] for each
//! key. While a window is open, [`KeyState::peek`] scores what is known of it. A window is scored with what was known `lag` windows before
//! it, early and at its close. Whatever keys have in common is gathered in whole numbers and folded once a window, so the order
//! in which keys are visited changes no bit.
//!
//! # Model
//! A key's count in a window is Poisson with mean `ρ e`, where `e` is the exposure of the key in that window: the events of all other
//! keys and a constant (`population.rs`). So a newsletter, a night and an outage change the exposure and surprise nobody, and a single key,
//! whose exposure is constant, is compared with its own past. The rate `ρ` is Gamma distributed: `S` decayed counts in `N` decayed
//! exposure, on a prior of shape 2 and the mean of all keys, so a key without a past is compared with what keys are like. The count is
//! then negative binomial (the Gamma-Poisson mixture: Greenwood and Yule 1920; as a predictive distribution with discounted
//! counts: West and Harrison, Bayesian Forecasting and Dynamic Models, 1997; Harvey and Fernandes,
//! Time series models for count or qualitative observations, 1989). With `m = (S + 2)/(N + b) e`
//! its variance is `m (1 + e/(N + b))`; counts vary more than that, by `V`, the ratio of their squared deviations to their sum (quasi-Poisson:
//! Wedderburn 1974), shrunk towards that of keys with as many events. Scored are the last 1, 2, 4 and 8 windows together, and the
//! smallest probability counts (`tail.rs`); spans that double are those of elastic burst detection (Zhu and Shasha, Efficient elastic
//! burst detection in data streams, 2003).
//!
//! # Learning
//! Sums fade by `e^(−1/200)` a window. With `C` the decayed exposure of the metric, kept once, a key's exposure is `C` less what came before it
//! was first seen and less its own part; both fade alike, so one number a key is enough and a key costs nothing while it is silent.
//! A window enters `S` up to three standard deviations above its mean, so a crowd does not become usual. What counts in the exposure is
//! bounded alike: own keys by that limit, and no key by more than a quarter of all others; other partitions by what the traffic of
//! this one makes credible. A crowd is therefore no traffic, and neither is the fall of a large key silence.
//!
//! # Alerts
//! [`Limit`] says from which score on a window alerts (`threshold.rs`); an [`Episode`] is one alert from its first window to the time the
//! key is usual again, or its new level is.

mod decay;
mod episode;
mod key;
mod population;
mod tail;
mod threshold;

pub use episode::{Change, Ending, Episode};
pub use key::{KeyState, LONGEST, OpenWindow, SPANS, Score};
pub use population::{Closing, HISTORY, LONGEST_LAG, MEMORY, Population, Settings};
pub use tail::NegativeBinomial;
pub use threshold::Limit;

/// Which way a count must leave its usual range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// More than usual.
    #[default]
    Up,
    /// Less than usual.
    Down,
    /// Either.
    Both,
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)] // counts are small
mod tests;
