use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// One thing that is counted per key and window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricSpec {
    /// Its name: lower-case letters, digits and `-`, e.g. `views`.
    pub name: String,
    /// Which events count. Left out: all.
    #[serde(default)]
    pub events: FilterSpec,
    /// The field, or fields, whose value is the key. The values of several fields are joined by `|`; a `|` or `\` inside one of
    /// them is written `\|` or `\\`, so that different values never make the same key.
    #[serde(default = "default_key")]
    pub key: Vec<String>,
    /// What is computed.
    #[serde(default)]
    pub aggregate: AggregateSpec,
    /// Length of a window, from 1 s to 10 min, aligned to the clock in UTC.
    #[serde(default = "default_window")]
    pub window: Span,
    /// How often running values are sent on: the delay of early alerts and of the charts.
    #[serde(default = "default_emit")]
    pub emit: Span,
    /// Keys counted one by one in each open window and source partition; what comes after them is counted together
    /// under the key `(other)`, which no detector watches.
    #[serde(default = "default_max_keys")]
    #[schemars(range(min = 1))]
    pub max_keys: u32,
}

fn default_key() -> Vec<String> {
    vec!["item_id".into()]
}
fn default_window() -> Span {
    Span::secs(10)
}
fn default_emit() -> Span {
    Span::secs(1)
}
fn default_max_keys() -> u32 {
    1_000_000
}

/// Which events count: those of one of the types that meet all conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterSpec {
    /// Event types. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Conditions on fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "where")]
    pub conditions: Vec<ConditionSpec>,
}

/// A condition on one field. An event without the field meets none but `exists: false` and `notIn`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConditionSpec {
    /// `event_id`, `type`, `user_id`, `item_id`, or a dotted path into the properties.
    pub field: String,
    /// The value is one of these (numbers and booleans by their JSON text).
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<String>>,
    /// The value is none of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_in: Option<Vec<String>>,
    /// The value is a number of at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The value is a number of at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// Whether the field is there at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
}

/// What is computed of the events of a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AggregateSpec {
    /// The function.
    #[serde(default)]
    pub function: AggregateFunction,
    /// The field it is computed of; not for `count`. Events without a number (or, for `unique`, a value) there do not
    /// count. Numbers larger than 1e21, without their sign, cannot be added up exactly: they are left out, and the
    /// detector's metric `herd_fold_too_large_values_total` counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// What is computed of the events of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AggregateFunction {
    /// How many events.
    #[default]
    Count,
    /// The sum of a field, exact to six decimals.
    Sum,
    /// The mean of a field.
    Mean,
    /// How many different values of a field: exact for small numbers, then estimated to about 2 %.
    Unique,
}
