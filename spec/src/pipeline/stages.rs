use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IngressSpec, SecretRef, Span};

/// Replicas, scaling and resources of one stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageSpec {
    /// How many run, where scaling is off or left out. Under `herd up`: how many members in one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<u32>,
    /// Scaling from consumer lag. Left out: `replicas` run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ScalingSpec>,
    /// CPU and memory of a pod, as in a Pod's container. What is left out keeps its default: requests of 100m CPU and 256Mi
    /// memory, and a limit of 1Gi memory (or the request, if that is more).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
}

/// Scaling from consumer lag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalingSpec {
    /// Whether decisions are carried out.
    #[serde(default)]
    pub mode: ScalingMode,
    /// Fewest replicas; 0 lets an idle stage sleep.
    #[serde(default = "default_min")]
    #[schemars(range(min = 0, max = 1000))]
    pub min: u32,
    /// Most replicas; more than the topic has partitions are never started.
    #[serde(default = "default_max")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
    /// A backlog should be worked off within this time.
    #[serde(default = "default_catch_up")]
    pub catch_up: Span,
    /// Share of its capacity that a replica is meant to use, 0.1 to 1.
    #[serde(default = "default_utilisation")]
    #[schemars(range(min = 0.1, max = 1.0))]
    pub utilisation: f64,
    /// Replicas are taken away only down to the highest need of this long, and not before it has been watched for this
    /// long. An idle stage with `min: 0` sleeps after the same time.
    #[serde(default = "default_stabilisation")]
    pub stabilisation: Span,
    /// Only counts that give the busiest replica fewer partitions: for 12 partitions 1, 2, 3, 4, 6, 12. A fifth replica
    /// would leave three partitions with another one, as four do.
    #[serde(default = "default_align")]
    pub align: bool,
    /// No replicas are added (below `min` they still are).
    #[serde(default)]
    pub pause_up: bool,
    /// No replicas are taken away (above `max` they still are).
    #[serde(default)]
    pub pause_down: bool,
    /// Times at which more than `min` are kept running, e.g. before a sale begins. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<FloorSpec>,
}

/// A time at which more than `min` replicas are kept running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FloorSpec {
    /// When it begins, as in a crontab: minute, hour, day of the month, month, day of the week; `45 7 * * mon-fri`.
    pub schedule: String,
    /// How long it lasts, at most a day.
    #[serde(rename = "for")]
    pub lasts: Span,
    /// Fewest replicas meanwhile.
    #[schemars(range(min = 1, max = 1000))]
    pub min: u32,
    /// The clock the schedule goes by, by its IANA name: `Europe/Berlin`.
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

/// Whether scaling decisions are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingMode {
    /// They are.
    #[default]
    Auto,
    /// They are made and reported only.
    Recommend,
    /// None are made: `replicas` run. On Kubernetes write `"Off"`, with quotes: to kubectl a bare `Off` is `false`.
    Off,
}

/// CPU and memory of a pod: `{requests: {cpu: 250m}, limits: {memory: 512Mi}}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourcesSpec {
    /// What is set aside for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, String>,
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
}

/// REST, WebSocket and the dashboard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiSpec {
    /// A token that readers must show, in `Authorization: Bearer TOKEN` or `?token=TOKEN`. Left out: everybody who can
    /// reach it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// The sink whose store answers questions about the past, by name. Left out: the first `postgres` or `sqlite` sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Whether `POST /api/v1/simulate/…` is there.
    #[serde(default)]
    pub simulate: bool,
    /// A door from outside the cluster. Left out: it is reached from inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// Replicas and resources.
    #[serde(default)]
    pub stage: StageSpec,
}
