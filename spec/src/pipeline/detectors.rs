use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AggregateFunction, Budget, MuteSpec, QuietHoursSpec, Span};
use crate::wire::Severity;

/// A rule that scores each window of a metric against the history of the same key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DetectorSpec {
    /// Name of the detector: lower-case letters, digits and `-`, e.g. `flash-crowd`.
    pub name: String,
    /// Name of the metric to watch.
    pub metric: String,
    /// Algorithm that decides whether a value is anomalous. Exactly one must be set. Omitted: `crowd` for a metric that is a
    /// `count` or `unique`, `level` for a `sum` or `mean`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<AlgorithmSpec>,
    /// Which deviations raise an alert, and how many alerts are raised.
    #[serde(default)]
    pub alerts: AlertsSpec,
    /// Same as `alerts.direction`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Same as `alerts.minCount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_count: Option<u64>,
    /// Same as `alerts.cooldown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Span>,
    /// Severity of the alerts of this detector.
    #[serde(default)]
    pub severity: Severity,
    /// Fields by which its alerts are explained: an alert says which of their values make up the excess. At most 8. Omitted: `country`,
    /// `device`, `referrer` and `campaign`. `[]`: alerts are not explained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<Vec<String>>,
}

/// Which deviations raise an alert, and how many alerts are raised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlertsSpec {
    /// Number of false alerts that the detector may raise, over all keys of the metric: `5 per day`, `2 per hour`, `10 per week`, or
    /// an integer, which is a number per day. From 0.01 to 100000 per day. Only for `crowd` and `level`. Omitted: `5 per day`,
    /// unless `probability` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Probability that a window of a key raises an alert although nothing is unusual, instead of a budget: more than 0, at most
    /// 0.1. Only for `crowd` and `level`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Minimum number of events in a window for an upward alert. Windows with fewer events raise none. Omitted: 3 for `crowd`, 1
    /// for `level`, 10 for other algorithms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_count: Option<u64>,
    /// Minimum number of different users (`user_id`) in a window for an upward alert of a key: a few users who send many events, e.g. a
    /// crawler, then raise none. From 129 users on their number is an estimate with a standard error of 2.3 %. Omitted: no minimum. Not for
    /// metrics that are `unique` in another field, and not for alerts about the whole metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_users: Option<u64>,
    /// Direction of the deviations that raise an alert. Omitted: `up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Minimum time between two alerts of the same key. Omitted: `0s` for `crowd` and `level`, `5m` for other algorithms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Span>,
    /// Hours in which webhooks are sent no messages about alerts of this detector. Alerts are raised, stored and shown all the same;
    /// each webhook is sent one summary when the hours end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quiet_hours: Vec<QuietHoursSpec>,
    /// Keys about which webhooks are sent no messages for some time, like a silence of Alertmanager. Alerts are raised, stored and
    /// shown all the same; each webhook is sent one summary when the time ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mute: Vec<MuteSpec>,
}

/// Direction of the deviations that raise an alert. Omitted: `up`.
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
    /// Probability of a count, given the past of the key, of similar keys and of the metric as a whole. For metrics that are a `count`
    /// or `unique`. Alerts as often as `alerts.budget` or `alerts.probability` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowd: Option<CrowdSpec>,
    /// Probability of a value, given the past of the key, with daily and weekly cycles. For all metrics. Alerts as often as
    /// `alerts.budget` or `alerts.probability` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<LevelSpec>,
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

impl AlgorithmSpec {
    /// The algorithm of a detector that names none, on a metric of this function.
    #[must_use]
    pub fn default_for(function: AggregateFunction) -> Self {
        if function.counts() {
            Self { crowd: Some(CrowdSpec {}), ..Self::default() }
        } else {
            Self { level: Some(LevelSpec {}), ..Self::default() }
        }
    }
}

/// Probability of a count, given the past of the key, of similar keys and of the metric as a whole. It has no parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CrowdSpec {}

/// Probability of a value, given the past of the key, with daily and weekly cycles. It has no parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LevelSpec {}

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
