use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// Mapping and validation of the JSON that clients send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventsSpec {
    /// Mapping of JSON fields to the attributes of an event.
    #[serde(default)]
    pub mapping: MappingSpec,
    /// Accepted event types; events of other types are refused as invalid. Empty: all types are accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// JSON Schema (draft 2020-12) that every event must satisfy in the form it was sent. The API server does not validate
    /// the schema itself: if it is not a JSON Schema, the operator sets the condition `Stalled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub schema: Option<serde_json::Value>,
    /// Event field used as partition key. Events with the same value keep their order and are deduplicated against each
    /// other. Events without the field are partitioned by their id.
    #[serde(default = "default_key")]
    pub key: String,
    /// Maximum time by which an event may be older than the newest event of its partition and still be counted in its
    /// window. Later events are stored by the sinks, but not counted.
    #[serde(default = "default_max_lateness")]
    pub max_lateness: Span,
    /// Maximum time by which an event may lie in the future, by the collector's clock. Events beyond it are refused as
    /// invalid.
    #[serde(default = "default_max_clock_skew")]
    pub max_clock_skew: Span,
    /// Maximum age of an event at receipt, by the collector's clock. Older events are refused as invalid. `0s` disables the
    /// check, for replays of old data.
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

/// Mapping of JSON fields to the attributes of an event. Each attribute has a list of dotted paths (`product_id`,
/// `context.user.id`), of which the first one present in an event is used. All other JSON fields become properties of the
/// event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MappingSpec {
    /// Id of the event. If an event has none, a UUIDv7 is assigned.
    #[serde(default = "default_id")]
    pub id: Vec<String>,
    /// Type of the event. Every event must have one.
    #[serde(default = "default_type", rename = "type")]
    pub event_type: Vec<String>,
    /// Id of the user.
    #[serde(default = "default_user")]
    pub user: Vec<String>,
    /// Id of the item.
    #[serde(default = "default_item")]
    pub item: Vec<String>,
    /// Time of the event: RFC 3339, or seconds, milliseconds, microseconds or nanoseconds since 1970-01-01T00:00:00Z. If an
    /// event has none, the time of receipt is used.
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
