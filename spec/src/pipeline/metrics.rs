use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// An aggregate of events per key and window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricSpec {
    /// Name of the metric: lower-case letters, digits and `-`, e.g. `views`.
    pub name: String,
    /// Filter of the events that are aggregated. Omitted: all events.
    #[serde(default)]
    pub events: FilterSpec,
    /// Event field, or fields, whose value is the key. The values of several fields are joined by `|`; a `|` or `\` inside a
    /// value is escaped as `\|` or `\\`, so that different values never give the same key.
    #[serde(default = "default_key")]
    pub key: Vec<String>,
    /// Aggregate function and the field it is computed from.
    #[serde(default)]
    pub aggregate: AggregateSpec,
    /// Length of a window, from 1s to 10m in whole seconds. Windows are tumbling and aligned to UTC.
    #[serde(default = "default_window")]
    pub window: Span,
    /// Interval at which provisional values of open windows are published: the delay of early alerts and of the charts.
    /// `adaptive`: every second, and within 100 ms for the keys that grow faster than the rest.
    #[serde(default)]
    pub emit: Emit,
    /// Maximum number of distinct keys in each open window and source partition. Events of further keys are aggregated under
    /// the key `(other)`, which no detector watches.
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
fn default_max_keys() -> u32 {
    1_000_000
}

/// When provisional values of open windows are published, as written in a spec: a duration or `adaptive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Those of all keys at this interval.
    Every(Span),
    /// Those of all keys every second, and sooner those of the keys that grow fastest.
    Adaptive,
}

const ADAPTIVE: &str = "adaptive";

impl Emit {
    /// The schema's pattern.
    pub(crate) const PATTERN: &str = "^(([0-9]+(ms|s|m|h|d))+|adaptive)$";
}

impl Default for Emit {
    fn default() -> Self {
        Self::Every(Span::secs(1))
    }
}

impl FromStr for Emit {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        match written {
            ADAPTIVE => Ok(Self::Adaptive),
            interval => {
                interval.parse().map(Self::Every).map_err(|error: String| format!("{error}; or `{ADAPTIVE}`"))
            }
        }
    }
}

impl fmt::Display for Emit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => interval.fmt(f),
            Self::Adaptive => f.write_str(ADAPTIVE),
        }
    }
}

impl Serialize for Emit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Emit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Emit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Emit".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": Self::PATTERN,
        })
    }
}

/// Filter of events: an event matches if it has one of the types and satisfies all conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterSpec {
    /// Event types. Empty: all types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Conditions on fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "where")]
    pub conditions: Vec<ConditionSpec>,
}

/// Condition on one field. Exactly one operator must be set. An event without the field satisfies only `exists: false` and
/// `notIn`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConditionSpec {
    /// Field: `event_id`, `type`, `user_id`, `item_id`, or a dotted path into the properties.
    pub field: String,
    /// The value is one of these. Numbers and booleans are compared by their JSON text.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<String>>,
    /// The value is none of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_in: Option<Vec<String>>,
    /// The value is a number greater than or equal to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The value is a number less than or equal to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// `true`: the field is present. `false`: the field is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
}

/// Aggregate function and the field it is computed from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AggregateSpec {
    /// Aggregate function.
    #[serde(default)]
    pub function: AggregateFunction,
    /// Field that is aggregated. Required for `sum`, `mean` and `unique`, not allowed for `count`. Events in which it is not
    /// a number (for `unique`: not present) are skipped. Numbers with an absolute value above 1e21 cannot be added exactly:
    /// they are skipped and counted by `herd_fold_too_large_values_total`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Aggregate function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AggregateFunction {
    /// Number of events.
    #[default]
    Count,
    /// Sum of a field, exact to six decimals.
    Sum,
    /// Mean of a field.
    Mean,
    /// Number of distinct values of a field: exact for small numbers, above that estimated with an error of about 2 %.
    Unique,
}

impl AggregateFunction {
    /// Whether the value of a window is a number of events or users, and not made of numbers in the events.
    #[must_use]
    pub fn counts(self) -> bool {
        matches!(self, Self::Count | Self::Unique)
    }
}
