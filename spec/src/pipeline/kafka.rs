use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, Span};

/// Kafka cluster and topics of the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSpec {
    /// Bootstrap servers, each as `host:port`.
    pub bootstrap_servers: Vec<String>,
    /// TLS to the brokers. Omitted: plaintext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// SASL credentials. Omitted: unauthenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// Prefix of the topic names, `<topicPrefix>.events` and so on. Omitted: the name of the pipeline. Immutable: to change
    /// it, create a second pipeline with another name and the new prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_prefix: Option<String>,
    /// Number of partitions of `events`, and therefore the maximum number of useful replicas of the detector and sink
    /// stages. Can be increased, but not decreased.
    #[serde(default = "default_partitions")]
    #[schemars(range(min = 1, max = 1000))]
    pub partitions: u32,
    /// Number of partitions of `parts` and `baselines`. Immutable once the topics exist. Omitted: the value of `partitions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub detector_partitions: Option<u32>,
    /// Replication factor of the topics.
    #[serde(default = "default_replication")]
    #[schemars(range(min = 1, max = 7))]
    pub replication: u16,
    /// Retention time of `events`, `windows`, `alerts` and `dead-letter`.
    #[serde(default = "default_retention")]
    pub retention: Span,
    /// Additional topic configuration, with Kafka's names, e.g. `segment.bytes`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Treatment of the topics when the pipeline is deleted.
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

/// TLS to the brokers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaTls {
    /// Certificate authority, PEM. Omitted: the certificate authorities of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretRef>,
    /// Client certificate, PEM, if the brokers require one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<SecretRef>,
    /// Private key of the client certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretRef>,
}

/// SASL credentials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSasl {
    /// SASL mechanism.
    pub mechanism: SaslMechanism,
    /// User name.
    pub username: SecretRef,
    /// Password.
    pub password: SecretRef,
}

/// SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// PLAIN: the password is sent in clear text. Requires `tls`.
    #[serde(rename = "PLAIN")]
    Plain,
    /// SCRAM with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// Treatment of the topics when the pipeline is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The topics are kept.
    #[default]
    Retain,
    /// The topics that the operator created are deleted.
    Delete,
}
