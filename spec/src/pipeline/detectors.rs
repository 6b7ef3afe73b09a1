use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;
use crate::wire::Severity;

/// A rule that scores each window of a metric against the history of the same key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DetectorSpec {
    /// Name of the detector: lower-case letters, digits and `-`, e.g. `flash-crowd`.
    pub name: String,
    /// Name of the metric to watch.
    pub metric: String,
    /// Algorithm that decides whether a value is anomalous. Exactly one must be set.
    pub algorithm: AlgorithmSpec,
    /// Direction of the deviations that raise an alert.
    #[serde(default)]
    pub direction: Direction,
    /// Minimum number of events in a window for an upward alert. Windows with fewer events raise none.
    #[serde(default = "default_min_count")]
    pub min_count: u64,
    /// Minimum time between two alerts of the same key.
    #[serde(default = "default_cooldown")]
    pub cooldown: Span,
    /// Severity of the alerts of this detector.
    #[serde(default)]
    pub severity: Severity,
}

fn default_min_count() -> u64 {
    10
}
fn default_cooldown() -> Span {
    Span::secs(300)
}

/// Direction of the deviations that raise an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// Values above the expected range. The alert fires while the window is still open.
    #[default]
    Up,
    /// Values below the expected range. The alert fires when the window has closed.
    Down,
    /// Values above or below the expected range.
    Both,
}

/// Algorithm of a detector. Exactly one field must be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlgorithmSpec {
    /// Fixed bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<ThresholdSpec>,
    /// Standard deviations from the mean of the last windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zscore: Option<ZscoreSpec>,
    /// Standard deviations from an exponentially weighted moving average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ewma: Option<EwmaSpec>,
    /// Median absolute deviations from the median of the last windows. Robust against earlier outliers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mad: Option<MadSpec>,
    /// Probability of the count under a Poisson distribution with the key's past rate. Suited to rare items as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poisson: Option<PoissonSpec>,
}

/// Fixed bounds. At least one must be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThresholdSpec {
    /// Raises an alert for values above this bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Raises an alert for values below this bound, when the window has closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
}

/// Standard deviations from the mean of the last windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZscoreSpec {
    /// Number of standard deviations from which on an alert is raised: more than 0, at most 1000.
    #[serde(default = "default_sigmas")]
    pub sigmas: f64,
    /// Number of past windows of which mean and standard deviation are taken.
    #[serde(default = "default_history")]
    #[schemars(range(min = 4, max = 64))]
    pub history: u32,
    /// Number of windows a key must have been observed before it can raise an alert: from 2 to `history`.
    #[serde(default = "default_warmup")]
    pub warmup: u32,
}

/// Standard deviations from an exponentially weighted moving average.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EwmaSpec {
    /// Number of standard deviations from which on an alert is raised: more than 0, at most 1000.
    #[serde(default = "default_sigmas")]
    pub sigmas: f64,
    /// Half-life of the weights, in windows: a value this old counts half. More than 0, at most 1000.
    #[serde(default = "default_half_life")]
    pub half_life: f64,
    /// Number of windows a key must have been observed before it can raise an alert: from 2 to 1000.
    #[serde(default = "default_warmup")]
    pub warmup: u32,
}

/// Median absolute deviations from the median of the last windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MadSpec {
    /// Number of scaled median absolute deviations from which on an alert is raised. They are scaled so as to be comparable
    /// to standard deviations. More than 0, at most 1000.
    #[serde(default = "default_deviations")]
    pub deviations: f64,
    /// Number of past windows of which the median is taken.
    #[serde(default = "default_history")]
    #[schemars(range(min = 4, max = 64))]
    pub history: u32,
    /// Number of windows a key must have been observed before it can raise an alert: from 2 to `history`.
    #[serde(default = "default_warmup")]
    pub warmup: u32,
}

/// Probability of a count under a Poisson distribution with the key's past rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoissonSpec {
    /// An alert is raised if the probability of such a count is below this value: more than 0, at most 0.1.
    #[serde(default = "default_probability")]
    pub probability: f64,
    /// Half-life of the weights, in windows: a count this old counts half. More than 0, at most 1000.
    #[serde(default = "default_half_life")]
    pub half_life: f64,
    /// Number of windows a key must have been observed before it can raise an alert: from 2 to 1000.
    #[serde(default = "default_warmup")]
    pub warmup: u32,
}

fn default_sigmas() -> f64 {
    4.0
}
fn default_deviations() -> f64 {
    5.0
}
fn default_probability() -> f64 {
    1e-9
}
fn default_history() -> u32 {
    30
}
fn default_half_life() -> f64 {
    30.0
}
fn default_warmup() -> u32 {
    6
}
