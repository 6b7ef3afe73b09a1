use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;
use crate::wire::Severity;

/// A rule that scores the windows of a metric against their own history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DetectorSpec {
    /// Its name: lower-case letters, digits and `-`, e.g. `flash-crowd`.
    pub name: String,
    /// The metric it watches, by name.
    pub metric: String,
    /// How it decides. Exactly one.
    pub algorithm: AlgorithmSpec,
    /// In which direction a value must leave the usual range.
    #[serde(default)]
    pub direction: Direction,
    /// Windows with fewer events never alert (upwards).
    #[serde(default = "default_min_count")]
    pub min_count: u64,
    /// After an alert of a key, this long passes before the next of the same key.
    #[serde(default = "default_cooldown")]
    pub cooldown: Span,
    /// How much its alerts matter.
    #[serde(default)]
    pub severity: Severity,
}

fn default_min_count() -> u64 {
    10
}
fn default_cooldown() -> Span {
    Span::secs(300)
}

/// In which direction a value must leave the usual range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// Above: fires while the window is still open.
    #[default]
    Up,
    /// Below: judged when the window closes.
    Down,
    /// Either.
    Both,
}

/// How a detector decides. Exactly one of these is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlgorithmSpec {
    /// A fixed bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<ThresholdSpec>,
    /// Standard deviations from the mean of the last windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zscore: Option<ZscoreSpec>,
    /// Standard deviations from an exponentially weighted mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ewma: Option<EwmaSpec>,
    /// Median absolute deviations from the median of the last windows: past crowds do not blunt it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mad: Option<MadSpec>,
    /// A count against its own past rate, as chance would have it: right for rare items too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poisson: Option<PoissonSpec>,
}

/// A fixed bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThresholdSpec {
    /// Alerts above this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Alerts below this value (when the window closes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
}

/// Standard deviations from the mean of the last windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZscoreSpec {
    /// Alerts from this many standard deviations on.
    #[serde(default = "default_sigmas")]
    pub sigmas: f64,
    /// How many windows the mean is taken of.
    #[serde(default = "default_history")]
    #[schemars(range(min = 4, max = 64))]
    pub history: u32,
    /// Windows a key must have been seen for before it can alert.
    #[serde(default = "default_warmup")]
    pub warmup: u32,
}

/// Standard deviations from an exponentially weighted mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EwmaSpec {
    /// Alerts from this many standard deviations on.
    #[serde(default = "default_sigmas")]
    pub sigmas: f64,
    /// After this many windows an old value weighs half.
    #[serde(default = "default_half_life")]
    pub half_life: f64,
    /// Windows a key must have been seen for before it can alert.
    #[serde(default = "default_warmup")]
    pub warmup: u32,
}

/// Median absolute deviations from the median of the last windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MadSpec {
    /// Alerts from this many deviations on (scaled, so that it compares to `sigmas`).
    #[serde(default = "default_deviations")]
    pub deviations: f64,
    /// How many windows the median is taken of.
    #[serde(default = "default_history")]
    #[schemars(range(min = 4, max = 64))]
    pub history: u32,
    /// Windows a key must have been seen for before it can alert.
    #[serde(default = "default_warmup")]
    pub warmup: u32,
}

/// A count against its own past rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoissonSpec {
    /// Alerts when chance gives such a count less often than this.
    #[serde(default = "default_probability")]
    pub probability: f64,
    /// After this many windows an old count weighs half.
    #[serde(default = "default_half_life")]
    pub half_life: f64,
    /// Windows a key must have been seen for before it can alert.
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
