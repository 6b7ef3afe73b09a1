use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IngressSpec, SecretRef, Span};

/// Replicas, scaling and resources of a stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageSpec {
    /// Number of replicas, if `scaling` is omitted or `Off`. Under `herd up`: number of members in the process. Omitted: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<u32>,
    /// Scaling by consumer lag and load. Omitted: the number of replicas is fixed to `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ScalingSpec>,
    /// CPU and memory of a pod. Omitted resources have these defaults: requests of `cpu: 100m` and `memory: 256Mi`, and a
    /// limit of `memory: 1Gi` (or the request, if that is higher).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
}

/// Scaling by consumer lag and load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalingSpec {
    /// Mode of scaling.
    #[serde(default)]
    pub mode: ScalingMode,
    /// Minimum number of replicas. 0 allows an idle stage to be scaled to zero.
    #[serde(default = "default_min")]
    #[schemars(range(min = 0, max = 1000))]
    pub min: u32,
    /// Maximum number of replicas. A stage never gets more replicas than its topic has partitions.
    #[serde(default = "default_max")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
    /// Time within which a backlog should be processed. A shorter time adds more replicas.
    #[serde(default = "default_catch_up")]
    pub catch_up: Span,
    /// Target utilisation of a replica, as a fraction of its measured capacity, from 0.1 to 1.
    #[serde(default = "default_utilisation")]
    #[schemars(range(min = 0.1, max = 1.0))]
    pub utilisation: f64,
    /// Stabilisation window of scaling down: replicas are removed only down to the highest number required within this time,
    /// and not before the stage has been observed for this time. A stage with `min: 0` is scaled to zero after it has been
    /// idle for the same time.
    #[serde(default = "default_stabilisation")]
    pub stabilisation: Span,
    /// Uses only replica counts that lower the number of partitions of the busiest replica: for 12 partitions 1, 2, 3, 4, 6
    /// and 12. With 5 replicas one of them would still have three partitions, as with 4.
    #[serde(default = "default_align")]
    pub align: bool,
    /// Disables scaling up. Replicas below `min` are still added.
    #[serde(default)]
    pub pause_up: bool,
    /// Disables scaling down. Replicas above `max` are still removed.
    #[serde(default)]
    pub pause_down: bool,
    /// Scheduled minimums: times at which more than `min` replicas are kept, e.g. before a sale begins. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<FloorSpec>,
}

/// A scheduled minimum: a time at which more than `min` replicas are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FloorSpec {
    /// Start of the period, as a cron expression: minute, hour, day of the month, month, day of the week; e.g. `45 7 * *
    /// mon-fri`.
    pub schedule: String,
    /// Length of the period, at most one day.
    #[serde(rename = "for")]
    pub lasts: Span,
    /// Minimum number of replicas during the period.
    #[schemars(range(min = 1, max = 1000))]
    pub min: u32,
    /// Time zone of `schedule`, as an IANA name, e.g. `Europe/Berlin`.
    #[serde(default = "default_time_zone")]
    pub time_zone: String,
}

fn default_min() -> u32 {
    1
}
fn default_max() -> u32 {
    12
}
fn default_catch_up() -> Span {
    Span::secs(60)
}
fn default_utilisation() -> f64 {
    0.7
}
fn default_stabilisation() -> Span {
    Span::secs(300)
}
fn default_align() -> bool {
    true
}
fn default_time_zone() -> String {
    "UTC".to_owned()
}

impl Default for ScalingSpec {
    fn default() -> Self {
        Self {
            mode: ScalingMode::default(),
            min: default_min(),
            max: default_max(),
            catch_up: default_catch_up(),
            utilisation: default_utilisation(),
            stabilisation: default_stabilisation(),
            align: default_align(),
            pause_up: false,
            pause_down: false,
            floors: Vec::new(),
        }
    }
}

/// Mode of scaling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingMode {
    /// Scaling decisions are applied.
    #[default]
    Auto,
    /// Scaling decisions are reported in the status, but not applied.
    Recommend,
    /// No scaling decisions are made: the number of replicas is `replicas`. On Kubernetes write `"Off"` in quotes, because
    /// kubectl reads a bare `Off` as `false`.
    Off,
}

/// CPU and memory of a pod: `{requests: {cpu: 250m}, limits: {memory: 512Mi}}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourcesSpec {
    /// Resource requests of the container, as Kubernetes quantities.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, String>,
    /// Resource limits of the container, as Kubernetes quantities.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
}

/// The api stage: REST, WebSocket and the dashboard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiSpec {
    /// Secret with the token that clients must send, as `Authorization: Bearer TOKEN` or `?token=TOKEN`. Omitted: every
    /// client that can reach the API may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// Name of the sink whose store serves queries of the past. Omitted: the first `postgres` or `sqlite` sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Enables `POST /api/v1/simulate/…`, which sends synthetic events.
    #[serde(default)]
    pub simulate: bool,
    /// Exposes the API and the dashboard through an Ingress. Omitted: they are reachable inside the cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// Replicas and resources of the api stage.
    #[serde(default)]
    pub stage: StageSpec,
}
