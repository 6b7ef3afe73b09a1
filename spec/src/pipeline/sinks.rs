use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, Span, StageSpec};
use crate::wire::Severity;

/// A store or receiver. Exactly one of `postgres`, `sqlite`, `webhook` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SinkSpec {
    /// Its name: lower-case letters, digits and `-`.
    pub name: String,
    /// PostgreSQL: events, windows, alerts and user statistics, each exactly once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresSpec>,
    /// SQLite: the same tables in one file, for `herd up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<SqliteSpec>,
    /// Alerts to an HTTP endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
    /// Apache Druid reads the topics itself. Reserved: not available in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub druid: Option<DruidSpec>,
    /// Replicas, scaling and resources.
    #[serde(default)]
    pub stage: StageSpec,
}

/// PostgreSQL as a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostgresSpec {
    /// Connection URL, `postgres://user:password@host:5432/database`, in a Secret.
    pub url: SecretRef,
    /// Schema of the tables, created if missing. Left out: `herd_` and the pipeline's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Rows of one transaction, at most.
    #[serde(default = "default_batch_rows")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_rows: u32,
    /// How long a batch may wait to fill.
    #[serde(default = "default_batch_wait")]
    pub batch_wait: Span,
}

fn default_batch_rows() -> u32 {
    20_000
}
fn default_batch_wait() -> Span {
    Span(std::time::Duration::from_millis(250))
}

/// SQLite as a store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqliteSpec {
    /// The file, relative to the data folder of `herd up`. Left out: `<pipeline>.db`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// An HTTP endpoint that receives alerts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookSpec {
    /// Its address. Exactly one of `url` and `urlFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its address, where that is a secret (Slack).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretRef>,
    /// What is sent.
    #[serde(default)]
    pub format: WebhookFormat,
    /// Signs the body: header `X-Herd-Signature: sha256=<hex of HMAC-SHA256(secret, timestamp + "." + body)>` with
    /// `X-Herd-Timestamp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SecretRef>,
    /// Alerts of at least this severity are sent.
    #[serde(default = "default_min_severity")]
    pub min_severity: Severity,
    /// How long the endpoint may take to answer.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How often a delivery is tried, with growing pauses, before it goes to the dead-letter topic.
    #[serde(default = "default_attempts")]
    #[schemars(range(min = 1, max = 20))]
    pub attempts: u32,
}

fn default_min_severity() -> Severity {
    Severity::Info
}
fn default_timeout() -> Span {
    Span::secs(5)
}
fn default_attempts() -> u32 {
    6
}

/// What a webhook sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WebhookFormat {
    /// The alert as JSON.
    #[default]
    Json,
    /// A Slack message.
    Slack,
    /// Alertmanager's API v2, `POST /api/v2/alerts`.
    Alertmanager,
}

/// Apache Druid. Reserved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DruidSpec {
    /// Address of the Overlord or Router, `http://host:8888`.
    pub url: String,
}
