use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, Span};

/// The Kafka cluster and the topics of this pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSpec {
    /// Addresses to start from, `host:port`.
    pub bootstrap_servers: Vec<String>,
    /// TLS towards the brokers. Left out: plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Who we are to the brokers. Left out: nobody in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// Topics are named `<topicPrefix>.events` and so on. Left out: the pipeline's name. Cannot be changed later: a second
    /// pipeline with another name and the new prefix takes over instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_prefix: Option<String>,
    /// Partitions of `events`: the most replicas that can count or store side by side. May grow, never shrink.
    #[serde(default = "default_partitions")]
    #[schemars(range(min = 1, max = 1000))]
    pub partitions: u32,
    /// Partitions of `parts` and `baselines`, fixed when they are created. Left out: as many as `partitions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub detector_partitions: Option<u32>,
    /// Copies of each partition.
    #[serde(default = "default_replication")]
    #[schemars(range(min = 1, max = 7))]
    pub replication: u16,
    /// How long `events`, `windows`, `alerts` and `dead-letter` are kept.
    #[serde(default = "default_retention")]
    pub retention: Span,
    /// Further topic settings, by Kafka's names, e.g. `segment.bytes`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// What becomes of the topics when the pipeline is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn default_partitions() -> u32 {
    6
}
fn default_replication() -> u16 {
    1
}
fn default_retention() -> Span {
    Span::secs(7 * 24 * 3600)
}

/// TLS towards the brokers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaTls {
    /// Certificate authority, PEM. Left out: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretRef>,
    /// Our certificate, PEM, where the brokers ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<SecretRef>,
    /// The key of our certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretRef>,
}

/// Who we are to the brokers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSasl {
    /// How the password is proven.
    pub mechanism: SaslMechanism,
    /// User name.
    pub username: SecretRef,
    /// Password.
    pub password: SecretRef,
}

/// How a password is proven to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// Sent as it is: only with TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// SCRAM with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// What becomes of the topics when the pipeline is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay.
    #[default]
    Retain,
    /// They are deleted, if we created them.
    Delete,
}
