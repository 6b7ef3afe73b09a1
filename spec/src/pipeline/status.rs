use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the operator sees of a pipeline. Conditions follow the kstatus contract: `Ready`, `Reconciling`, `Stalled`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HerdPipelineStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When an operator last looked at the pipeline and found this status right, RFC 3339. It is refreshed at least every 15 minutes;
    /// if it is older, no operator looks after the pipeline, and the rest of the status may be wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time")]
    pub last_observed: Option<String>,
    /// What holds and what does not, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<StatusCondition>,
    /// The stages that run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageStatus>,
    /// The topics, as they are in Kafka.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<TopicStatus>,
    /// Where the pipeline is reached inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<UrlsStatus>,
    /// Events that come in, a second, over the last 30 s; two digits of it. Left out while it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_per_second: Option<u64>,
    /// Records that wait for detectors and sinks. Left out while it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Alerts that are open: early or firing, by the api stage. Left out while it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<u64>,
    /// Ready detectors of those wanted, `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectors: Option<String>,
    /// Ready sink replicas of those wanted, over all sinks, `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks: Option<String>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusCondition {
    /// What it is about, e.g. `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, for a person, and what to do.
    pub message: String,
    /// Since when `status` is as it is, RFC 3339.
    pub last_transition_time: String,
    /// The generation of the spec that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// A stage as it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// `collector`, `detector`, `api`, or `sink-` and the sink's name.
    pub name: String,
    /// Replicas that are wanted.
    pub desired: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// Records that wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// How long a record that comes in now will wait, in seconds; none while nothing moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<u64>,
    /// Records (of a collector: requests) that come in, a second; two digits of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_rate: Option<u64>,
    /// Records a second that one replica can do, as far as it has been seen; two digits of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Replicas it would have if `mode` were `Auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended: Option<u32>,
    /// What was decided last, and why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// What scaling cannot put right: hot and stuck partitions, a limit behind the stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// The last change of the number of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scaling: Option<ScalingStatus>,
    /// What scaling has learnt and keeps over a restart of the operator. For nobody else.
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
    /// From how many.
    pub from: u32,
    /// To how many.
    pub to: u32,
    /// Why, for a person.
    pub reason: String,
    /// When, RFC 3339.
    pub time: String,
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// Full name.
    pub name: String,
    /// Partitions it has.
    pub partitions: u32,
    /// Copies of each that it has.
    pub replication: u32,
    /// Whether the operator created it. Others are never deleted.
    #[serde(default)]
    pub created: bool,
}

/// Where the pipeline is reached inside the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UrlsStatus {
    /// Where events go in.
    pub collector: String,
    /// REST, WebSocket and the dashboard.
    pub api: String,
}
