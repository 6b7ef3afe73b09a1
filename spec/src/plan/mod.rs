//! Everything that will run, resolved: names, defaults, numbers. Made from a valid spec only ([`crate::validate`]), so that
//! executing it cannot fail for a reason the spec could have told. The operator writes it into a ConfigMap for the worker
//! images; `herd up` executes the same one in a single process.

mod definition;
mod make;
mod secrets;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pipeline::{
    AggregateFunction, AlgorithmSpec, DeletionPolicy, Direction, KafkaSasl, KafkaTls, LimitsSpec,
    ResourcesSpec, ScalingSpec, SecretRef, WebhookFormat,
};
use crate::units::millis;
use crate::wire::{FieldPath, Severity};

/// A pipeline, ready to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The pipeline's name: a DNS label.
    pub pipeline: String,
    /// The Kafka to use; none: the embedded bus.
    pub kafka: Option<KafkaPlan>,
    /// Its topics.
    pub topics: Topics,
    /// Its consumer groups.
    pub groups: Groups,
    /// How JSON becomes events.
    pub events: EventsPlan,
    /// The collector stage.
    pub collector: CollectorPlan,
    /// What is counted.
    pub metrics: Vec<MetricPlan>,
    /// What is watched.
    pub detectors: Vec<DetectorPlan>,
    /// The detector stage's size.
    pub detection: StagePlan,
    /// Where things go.
    pub sinks: Vec<SinkPlan>,
    /// The api stage.
    pub api: ApiPlan,
    /// Whether detectors and sinks stand still.
    pub paused: bool,
}

/// How to reach Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaPlan {
    /// `host:port`, at least one.
    pub bootstrap_servers: Vec<String>,
    /// TLS, where asked for.
    pub tls: Option<KafkaTls>,
    /// Credentials, where asked for.
    pub sasl: Option<KafkaSasl>,
    /// What becomes of our topics in the end.
    pub deletion_policy: DeletionPolicy,
}

/// The topics of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Topics {
    /// Accepted events.
    pub events: TopicPlan,
    /// Values and watermarks from fold to judge.
    pub parts: TopicPlan,
    /// Window values, running and final.
    pub windows: TopicPlan,
    /// Verdicts.
    pub alerts: TopicPlan,
    /// What was refused.
    pub dead_letter: TopicPlan,
    /// The judge's memory, compacted; as many partitions as `parts`.
    pub baselines: TopicPlan,
}

impl Topics {
    /// All six.
    pub fn all(&self) -> [&TopicPlan; 6] {
        [&self.events, &self.parts, &self.windows, &self.alerts, &self.dead_letter, &self.baselines]
    }
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicPlan {
    /// Full name.
    pub name: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Copies of each.
    pub replication: u16,
    /// Settings, by Kafka's names: at least `cleanup.policy`, and `retention.ms` where records expire.
    pub config: BTreeMap<String, String>,
}

/// The consumer groups of a pipeline. A sink has one of its own: [`SinkPlan::group`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Groups {
    /// On `events`.
    pub fold: String,
    /// On `parts`.
    pub judge: String,
}

/// The consumer group of the sink `name` of a pipeline whose topics begin with `prefix`.
#[must_use]
pub fn sink_group(prefix: &str, name: &str) -> String {
    format!("{prefix}.sink.{name}")
}

/// How JSON becomes events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventsPlan {
    /// Dotted paths in the JSON that was sent, first present counts; each split at its dots.
    pub mapping: MappingPlan,
    /// Accepted types; empty: all.
    pub types: Vec<String>,
    /// The JSON Schema events must satisfy as they came; it compiles.
    pub schema: Option<serde_json::Value>,
    /// The field that decides the partition.
    pub key: FieldPath,
    /// See [`crate::pipeline::EventsSpec::max_lateness`].
    pub max_lateness: Duration,
    /// See [`crate::pipeline::EventsSpec::max_clock_skew`].
    pub max_clock_skew: Duration,
    /// See [`crate::pipeline::EventsSpec::max_age`]; none: without a bound.
    #[serde(default)]
    pub max_age: Option<Duration>,
}

/// Where the parts of an event are in the JSON that was sent: alternatives, each a path of object keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MappingPlan {
    /// The event's identity.
    pub id: Vec<Vec<String>>,
    /// What was done.
    #[serde(rename = "type")]
    pub event_type: Vec<Vec<String>>,
    /// Who did it.
    pub user: Vec<Vec<String>>,
    /// To what.
    pub item: Vec<Vec<String>>,
    /// When.
    pub time: Vec<Vec<String>>,
}

/// A range of addresses: `10.0.0.0/8`.
pub type AddressRange = ipnet::IpNet;

/// The collector stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorPlan {
    /// Write keys; empty: no key is asked for.
    pub keys: Vec<WriteKeyPlan>,
    /// Origins of web pages that may send; `*` is all.
    pub origins: Vec<String>,
    /// Addresses of proxies whose word about their clients is taken.
    #[serde(default)]
    pub trusted_proxies: Vec<AddressRange>,
    /// What one collector takes at once.
    pub limits: LimitsSpec,
    /// Its size.
    pub stage: StagePlan,
}

/// A write key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteKeyPlan {
    /// What logs and metrics call it.
    pub name: String,
    /// Where its value is.
    pub secret: SecretRef,
    /// Events a second; none: no limit.
    pub events_per_second: Option<u32>,
}

/// One thing that is counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricPlan {
    /// Its name.
    pub name: String,
    /// Event types that count; empty: all.
    pub types: Vec<String>,
    /// Conditions, all of which must hold.
    pub conditions: Vec<Condition>,
    /// Fields whose values make the key, joined by `|` where there are several (and `|` and `\\` inside them escaped by `\\`).
    /// An event without one of them is not counted.
    pub key: Vec<FieldPath>,
    /// What is computed.
    pub aggregate: AggregatePlan,
    /// Length of a window: whole seconds, at least one, at most ten minutes.
    pub window: Duration,
    /// How often running values go on.
    pub emit: Duration,
    /// Keys of an open window and source that are counted one by one; the rest is counted as [`OTHER_KEY`].
    pub max_keys: u32,
}

/// The key under which events are counted whose own key came after the limit was reached.
pub const OTHER_KEY: &str = "(other)";

/// Joins the values of a metric's key fields.
pub const KEY_SEPARATOR: char = '|';

/// Written before a [`KEY_SEPARATOR`] or another escape inside one of several values, and before a value that reads like
/// [`OTHER_KEY`]: different values always make different keys.
pub const KEY_ESCAPE: char = '\\';

/// What is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "function", content = "field")]
pub enum AggregatePlan {
    /// How many events.
    Count,
    /// The sum of a field.
    Sum(FieldPath),
    /// The mean of a field.
    Mean(FieldPath),
    /// How many different values of a field.
    Unique(FieldPath),
}

impl AggregatePlan {
    /// The function without its field.
    #[must_use]
    pub fn function(&self) -> AggregateFunction {
        match self {
            Self::Count => AggregateFunction::Count,
            Self::Sum(_) => AggregateFunction::Sum,
            Self::Mean(_) => AggregateFunction::Mean,
            Self::Unique(_) => AggregateFunction::Unique,
        }
    }
}

/// A condition on a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The field.
    pub field: FieldPath,
    /// What must hold.
    pub test: Test,
}

/// What must hold of a field's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is", content = "value")]
pub enum Test {
    /// One of these (JSON text for numbers and booleans).
    In(Vec<String>),
    /// None of these, or absent.
    NotIn(Vec<String>),
    /// A number of at least this.
    AtLeast(f64),
    /// A number of at most this.
    AtMost(f64),
    /// Present, or not.
    Exists(bool),
}

/// One thing that is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DetectorPlan {
    /// Its name.
    pub name: String,
    /// The metric it watches; present in [`Plan::metrics`].
    pub metric: String,
    /// How it decides: exactly one field is set, its numbers are in range.
    pub algorithm: AlgorithmSpec,
    /// Which way a value must leave the usual range.
    pub direction: Direction,
    /// Windows with fewer events do not alert upwards.
    pub min_count: u64,
    /// Pause between alerts of a key.
    pub cooldown: Duration,
    /// How much its alerts matter.
    pub severity: Severity,
}

/// A store or receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkPlan {
    /// Its name.
    pub name: String,
    /// Its consumer group, on `events`, `windows` and `alerts`.
    pub group: String,
    /// What it is.
    pub kind: SinkKind,
    /// Its size.
    pub stage: StagePlan,
}

/// What a sink is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SinkKind {
    /// PostgreSQL.
    #[serde(rename_all = "camelCase")]
    Postgres {
        /// Where the connection URL is.
        url: SecretRef,
        /// The schema of the tables.
        schema: String,
        /// Rows of a transaction.
        batch_rows: u32,
        /// How long a batch may wait to fill.
        batch_wait: Duration,
    },
    /// SQLite.
    Sqlite {
        /// The file, relative to the data folder.
        path: String,
    },
    /// Alerts to an HTTP endpoint.
    #[serde(rename_all = "camelCase")]
    Webhook {
        /// Its address.
        url: WebhookUrl,
        /// What is sent.
        format: WebhookFormat,
        /// The key that signs.
        signing_key: Option<SecretRef>,
        /// The least severity that is sent.
        min_severity: Severity,
        /// How long an answer may take.
        timeout: Duration,
        /// Tries before the dead-letter topic.
        attempts: u32,
    },
}

/// The address of a webhook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WebhookUrl {
    /// As it stands.
    Plain(String),
    /// In a Secret.
    Secret(SecretRef),
}

/// The api stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiPlan {
    /// The token that readers must show.
    pub token: Option<SecretRef>,
    /// The sink whose store answers questions about the past; none: there is no store.
    pub store: Option<String>,
    /// Whether bursts may be simulated.
    pub simulate: bool,
    /// Its size.
    pub stage: StagePlan,
}

/// Size of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StagePlan {
    /// How many run where nothing scales them.
    pub replicas: u32,
    /// How it scales, if it does.
    pub scaling: Option<ScalingSpec>,
    /// What a pod gets.
    pub resources: ResourcesSpec,
}

impl Plan {
    /// The metric of that name.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<&MetricPlan> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    /// How often fold speaks: the shortest emit interval of any metric, one second if there is none.
    #[must_use]
    pub fn emit_interval(&self) -> Duration {
        self.metrics.iter().map(|metric| metric.emit).min().unwrap_or(Duration::from_secs(1))
    }

    /// The lag of baselines, in windows of `metric`: window `w` is scored against the baseline after `w − L`.
    ///
    /// `L = 1 + ⌈(maxLateness + 2·emit) / size⌉`: by the time a window has its first events, the one `L` before it is
    /// closed (its sources have passed it by `maxLateness`, and have had two emit intervals to say so), whatever the
    /// phase. Hence an open window can be scored from its first moment, with the same result as when it closes.
    #[must_use]
    pub fn baseline_lag(&self, metric: &MetricPlan) -> u32 {
        let wait = millis(self.events.max_lateness) + 2 * millis(self.emit_interval());
        let size = millis(metric.window).max(1);
        u32::try_from(wait.unsigned_abs().div_ceil(size.unsigned_abs()))
            .unwrap_or(u32::MAX - 1)
            .saturating_add(1)
    }
}
