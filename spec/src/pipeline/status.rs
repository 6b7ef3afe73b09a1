use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator sees of a pipeline. Conditions follow the kstatus contract: `Ready`, `Reconciling`, `Stalled`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HerdPipelineStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// `collector`, `detector`, `api`, or `sink-` and the sink's name.
    pub name: String,
    /// Replicas that are wanted.
    pub desired: u32,
    /// Replicas that are ready.
    pub ready: u32,
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
