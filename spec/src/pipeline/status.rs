use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Observed state of a pipeline. The conditions `Ready`, `Reconciling` and `Stalled` follow the kstatus conventions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HerdPipelineStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Time at which an operator last confirmed this status, RFC 3339. It is refreshed at least every 15 minutes; if it is
    /// older, no operator manages the pipeline and the rest of the status may be outdated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time")]
    pub last_observed: Option<String>,
    /// Conditions of the pipeline, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<StatusCondition>,
    /// The stages of the pipeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageStatus>,
    /// The topics as they exist in Kafka.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<TopicStatus>,
    /// URLs of the pipeline inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<UrlsStatus>,
    /// Events received per second, averaged over 30 seconds and rounded to two significant digits. Absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_per_second: Option<u64>,
    /// Consumer lag of the detector and sink stages, in records. Absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Open alerts (early or firing), as reported by the api stage. Absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<u64>,
    /// Ready and desired detector replicas, e.g. `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectors: Option<String>,
    /// Ready and desired sink replicas, summed over all sinks, e.g. `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks: Option<String>,
}

/// A condition of the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusCondition {
    /// Type of the condition, e.g. `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Status of the condition: `True`, `False` or `Unknown`.
    pub status: String,
    /// Reason for the last transition, as a CamelCase word.
    pub reason: String,
    /// Human-readable explanation, and what to do.
    pub message: String,
    /// Time of the last change of `status`, RFC 3339.
    pub last_transition_time: String,
    /// Generation of the spec that this condition describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Observed state of a stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Name of the stage: `collector`, `detector`, `api`, or `sink-` followed by the name of the sink.
    pub name: String,
    /// Desired number of replicas.
    pub desired: u32,
    /// Number of ready replicas.
    pub ready: u32,
    /// Consumer lag of the stage, in records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Estimated time until a record that arrives now is processed, in seconds. Absent while the stage makes no progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<u64>,
    /// Input rate in records (collector: requests) per second, rounded to two significant digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_rate: Option<u64>,
    /// Estimated capacity of one replica in records per second, rounded to two significant digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Number of replicas that mode `Auto` would apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended: Option<u32>,
    /// Last scaling decision and its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Problems that scaling cannot solve: hot or stuck partitions, or a bottleneck behind the stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// Last change of the number of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scaling: Option<ScalingStatus>,
    /// Internal state of scaling, kept across restarts of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub memory: Option<Value>,
}

fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A change of the number of replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingStatus {
    /// Number of replicas before the change.
    pub from: u32,
    /// Number of replicas after the change.
    pub to: u32,
    /// Human-readable reason.
    pub reason: String,
    /// Time of the change, RFC 3339.
    pub time: String,
}

/// Observed state of a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// Full name of the topic.
    pub name: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Replication factor.
    pub replication: u32,
    /// Whether the operator created the topic. Topics that it did not create are never deleted.
    #[serde(default)]
    pub created: bool,
}

/// URLs of the pipeline inside the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UrlsStatus {
    /// URL for sending events.
    pub collector: String,
    /// URL of REST, WebSocket and the dashboard.
    pub api: String,
}
