use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// How the JSON that trackers send becomes events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventsSpec {
    /// Which fields of the JSON are what.
    #[serde(default)]
    pub mapping: MappingSpec,
    /// The types that are accepted; others are invalid. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// A JSON Schema (draft 2020-12) that every event, as it came, must satisfy. The API server cannot check it: the operator
    /// says in the condition `Stalled` where it is not one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub schema: Option<serde_json::Value>,
    /// The event field that decides the partition: events with the same value stay in order and are deduplicated
    /// together. An event without it goes by its id.
    #[serde(default = "default_key")]
    pub key: String,
    /// How long after the newest event an older one may still come and be counted in its window.
    #[serde(default = "default_max_lateness")]
    pub max_lateness: Span,
    /// How far in the future an event's time may lie, by the collector's clock, before it is invalid.
    #[serde(default = "default_max_clock_skew")]
    pub max_clock_skew: Span,
    /// How long before its receipt an event's time may lie, by the collector's clock, before it is invalid. `0s`: without a bound, for
    /// replays of old data.
    #[serde(default = "default_max_age")]
    pub max_age: Span,
}

impl Default for EventsSpec {
    fn default() -> Self {
        Self {
            mapping: MappingSpec::default(),
            types: Vec::new(),
            schema: None,
            key: default_key(),
            max_lateness: default_max_lateness(),
            max_clock_skew: default_max_clock_skew(),
            max_age: default_max_age(),
        }
    }
}

fn default_key() -> String {
    "user_id".into()
}
fn default_max_lateness() -> Span {
    Span::secs(30)
}
fn default_max_clock_skew() -> Span {
    Span::secs(60)
}
fn default_max_age() -> Span {
    Span::secs(30 * 86_400)
}
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Which fields of the JSON are what. Each is a list of dotted paths (`product_id`, `context.user.id`): the first one
/// that is present counts. All other fields become the event's properties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MappingSpec {
    /// The event's identity. Absent in an event: a UUIDv7 is given.
    #[serde(default = "default_id")]
    pub id: Vec<String>,
    /// What was done. Required in an event.
    #[serde(default = "default_type", rename = "type")]
    pub event_type: Vec<String>,
    /// Who did it.
    #[serde(default = "default_user")]
    pub user: Vec<String>,
    /// To what.
    #[serde(default = "default_item")]
    pub item: Vec<String>,
    /// When: RFC 3339, or seconds, milliseconds, microseconds or nanoseconds since 1970. Absent in an event: the time it was received.
    #[serde(default = "default_time")]
    pub time: Vec<String>,
}

impl Default for MappingSpec {
    fn default() -> Self {
        Self {
            id: default_id(),
            event_type: default_type(),
            user: default_user(),
            item: default_item(),
            time: default_time(),
        }
    }
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
fn default_id() -> Vec<String> {
    list(&["event_id", "eventId", "id"])
}
fn default_type() -> Vec<String> {
    list(&["type", "event_type", "eventType", "event"])
}
fn default_user() -> Vec<String> {
    list(&["user_id", "userId", "user"])
}
fn default_item() -> Vec<String> {
    list(&["item_id", "itemId", "product_id", "productId", "item"])
}
fn default_time() -> Vec<String> {
    list(&["time", "timestamp"])
}
