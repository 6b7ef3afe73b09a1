use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, Span, StageSpec};
use crate::wire::Severity;

/// A store or webhook. Exactly one of `postgres`, `sqlite`, `webhook` must be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SinkSpec {
    /// Name of the sink: lower-case letters, digits and `-`.
    pub name: String,
    /// PostgreSQL: stores events, windows, alerts and user statistics, each exactly once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresSpec>,
    /// SQLite: stores the same tables in one file. Only under `herd up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<SqliteSpec>,
    /// Webhook: sends alerts to an HTTP endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
    /// Apache Druid, which ingests the topics itself. Reserved: not available in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub druid: Option<DruidSpec>,
    /// Replicas, scaling and resources of the sink stage.
    #[serde(default)]
    pub stage: StageSpec,
}

/// PostgreSQL sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostgresSpec {
    /// Secret with the connection URL, `postgres://user:password@host:5432/database`.
    pub url: SecretRef,
    /// Schema of the tables, created if missing. Omitted: `herd_` followed by the name of the pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Maximum number of rows in one transaction.
    #[serde(default = "default_batch_rows")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_rows: u32,
    /// Maximum time a batch waits to be filled.
    #[serde(default = "default_batch_wait")]
    pub batch_wait: Span,
}

fn default_batch_rows() -> u32 {
    20_000
}
fn default_batch_wait() -> Span {
    Span(std::time::Duration::from_millis(250))
}

/// SQLite sink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqliteSpec {
    /// Path of the database file, relative to the data directory of `herd up`. Omitted: `<pipeline>.db`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Webhook sink: an HTTP endpoint that receives alerts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookSpec {
    /// URL of the endpoint. Exactly one of `url` and `urlFrom` must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Secret with the URL of the endpoint, for URLs that are secret (e.g. Slack).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretRef>,
    /// Format of the requests.
    #[serde(default)]
    pub format: WebhookFormat,
    /// Secret with the key that signs the requests: `X-Herd-Signature: sha256=<hex of HMAC-SHA256(key, timestamp + "." +
    /// body)>`, where `timestamp` is the value of `X-Herd-Timestamp`. Omitted: requests are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SecretRef>,
    /// Minimum severity of the alerts that are sent.
    #[serde(default = "default_min_severity")]
    pub min_severity: Severity,
    /// Time within which the endpoint must answer.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// Maximum number of attempts per delivery, with exponential backoff. After the last one the alert goes to the
    /// dead-letter topic.
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

/// Format of the requests of a webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WebhookFormat {
    /// The alert as JSON.
    #[default]
    Json,
    /// A Slack message.
    Slack,
    /// Alertmanager API v2, `POST /api/v2/alerts`.
    Alertmanager,
}

/// Apache Druid. Reserved: not available in this version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DruidSpec {
    /// URL of the Overlord or Router, `http://host:8888`.
    pub url: String,
}
