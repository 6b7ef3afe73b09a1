//! Sinks: stores and receivers, and which topics they read.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{QuietPlan, SinkName, StagePlan, Subscription, TopicPlan, Topics, sink_group};
use crate::pipeline::{PostgresSpec, SecretRef, SinkSpec, SqliteSpec, WebhookFormat, WebhookSpec};
use crate::problem::{Invalid, SpecPath};
use crate::wire::Severity;

/// A store or receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkPlan {
    /// Its name.
    pub name: SinkName,
    /// Its consumer group, on the topics of its [`SinkPlan::subscription`].
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
    /// A database: events, windows and alerts, each as rows of a table.
    Store(StorePlan),
    /// An HTTP endpoint that receives alerts.
    Webhook(WebhookPlan),
}

/// A database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StorePlan {
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
}

/// An HTTP endpoint that receives alerts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookPlan {
    /// Its address.
    pub url: WebhookUrl,
    /// What is sent.
    pub format: WebhookFormat,
    /// The key that signs.
    pub signing_key: Option<SecretRef>,
    /// The least severity that is sent.
    pub min_severity: Severity,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Tries before the dead-letter topic.
    pub attempts: u32,
    /// When no messages about the alerts of a detector are sent, by its name. Detectors without quiet times are left out.
    #[serde(default)]
    pub quiet: BTreeMap<String, QuietPlan>,
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

impl SinkPlan {
    /// The sink of `pipeline`, whose topics begin with `prefix`.
    pub(super) fn parse(
        spec: &SinkSpec,
        pipeline: &str,
        prefix: &str,
        quiet: &BTreeMap<String, QuietPlan>,
        at: &SpecPath<'_>,
    ) -> Result<Self, Invalid> {
        let name = SinkName::parse(&spec.name, &at.child("name"));
        let kind = SinkKind::parse(spec, pipeline, quiet, at);
        let stage = StagePlan::parse(&spec.stage, &at.child("stage"));
        Ok(Self { name: name?, group: sink_group(prefix, &spec.name), kind: kind?, stage: stage? })
    }

    /// Its consumer group, and the topics that it reads.
    #[must_use]
    pub fn subscription<'a>(&'a self, topics: &'a Topics) -> Subscription<'a> {
        let topics: Vec<&TopicPlan> = match self.kind {
            SinkKind::Store(_) => vec![&topics.events, &topics.windows, &topics.alerts],
            SinkKind::Webhook(_) => vec![&topics.alerts],
        };
        Subscription { group: &self.group, topics }
    }

    /// The database, if it is one.
    #[must_use]
    pub fn store(&self) -> Option<&StorePlan> {
        match &self.kind {
            SinkKind::Store(store) => Some(store),
            SinkKind::Webhook(_) => None,
        }
    }

    /// The Secrets it takes to reach the store or receiver.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match &self.kind {
            SinkKind::Store(store) => store.secret().into_iter().collect(),
            SinkKind::Webhook(webhook) => {
                let address = match &webhook.url {
                    WebhookUrl::Secret(reference) => Some(reference),
                    WebhookUrl::Plain(_) => None,
                };
                address.into_iter().chain(&webhook.signing_key).collect()
            }
        }
    }
}

impl SinkKind {
    fn parse(
        spec: &SinkSpec,
        pipeline: &str,
        quiet: &BTreeMap<String, QuietPlan>,
        at: &SpecPath<'_>,
    ) -> Result<Self, Invalid> {
        // Destructured, so that a kind that is added to the spec cannot be forgotten here.
        let SinkSpec { name: _, stage: _, postgres, sqlite, webhook, druid } = spec;
        at.child("druid")
            .require(druid.is_none(), "is reserved and not available in this version: remove it")?;
        match (postgres, sqlite, webhook) {
            (Some(spec), None, None) => {
                StorePlan::postgres(spec, pipeline, &at.child("postgres")).map(Self::Store)
            }
            (None, Some(spec), None) => {
                StorePlan::sqlite(spec, pipeline, &at.child("sqlite")).map(Self::Store)
            }
            (None, None, Some(spec)) => {
                WebhookPlan::parse(spec, quiet, &at.child("webhook")).map(Self::Webhook)
            }
            _ => Err(at.invalid("must have exactly one of `postgres`, `sqlite`, `webhook`")),
        }
    }

    /// Its name, as a spec writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Store(StorePlan::Postgres { .. }) => "postgres",
            Self::Store(StorePlan::Sqlite { .. }) => "sqlite",
            Self::Webhook(_) => "webhook",
        }
    }
}

impl fmt::Display for SinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(StorePlan::Postgres { schema, .. }) => write!(f, "PostgreSQL, schema {schema}"),
            Self::Store(StorePlan::Sqlite { path }) => write!(f, "SQLite, {path}"),
            Self::Webhook(WebhookPlan { url: WebhookUrl::Plain(url), format, .. }) => {
                write!(f, "webhook {url}, {format:?}")
            }
            Self::Webhook(WebhookPlan { url: WebhookUrl::Secret(secret), format, .. }) => {
                write!(f, "webhook of Secret {}/{}, {format:?}", secret.name, secret.key)
            }
        }
    }
}

impl StorePlan {
    /// The schema of a pipeline's tables in PostgreSQL, if its sink names none.
    #[must_use]
    pub fn default_schema(pipeline: &str) -> String {
        format!("herd_{}", pipeline.replace('-', "_"))
    }

    fn postgres(spec: &PostgresSpec, pipeline: &str, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let schema = at.optional("schema", spec.schema.as_ref(), |schema, at| {
            at.require(is_schema(schema), format!("`{schema}` is not the name of a schema: write up to 63 lower-case letters, digits and `_`, not starting with a digit or `pg_`"))?;
            Ok(schema.clone())
        })?;
        Ok(Self::Postgres {
            url: spec.url.clone(),
            schema: schema.unwrap_or_else(|| Self::default_schema(pipeline)),
            batch_rows: spec.batch_rows,
            batch_wait: spec.batch_wait.0,
        })
    }

    fn sqlite(spec: &SqliteSpec, pipeline: &str, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let path = at.optional("path", spec.path.as_ref(), |file, at| {
            let inside =
                !file.is_empty() && !file.starts_with('/') && !file.split('/').any(|part| part == "..");
            at.require(inside, format!("`{file}` must be a file inside the data folder: write a relative path without `..`, e.g. `shop.db`"))?;
            Ok(file.clone())
        })?;
        Ok(Self::Sqlite { path: path.unwrap_or_else(|| format!("{pipeline}.db")) })
    }

    /// Where its connection URL is; none for a file.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretRef> {
        match self {
            Self::Postgres { url, .. } => Some(url),
            Self::Sqlite { .. } => None,
        }
    }
}

fn is_schema(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    matches!(name.len(), 1..=63)
        && name.chars().all(legal)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.starts_with("pg_")
}

impl WebhookPlan {
    fn parse(
        spec: &WebhookSpec,
        quiet: &BTreeMap<String, QuietPlan>,
        at: &SpecPath<'_>,
    ) -> Result<Self, Invalid> {
        let url = match (&spec.url, &spec.url_from) {
            (Some(url), None) => address(url, &at.child("url")).map(WebhookUrl::Plain),
            (None, Some(secret)) => Ok(WebhookUrl::Secret(secret.clone())),
            _ => Err(at.invalid("must have exactly one of `url` and `urlFrom`")),
        };
        let (short, long) = (Duration::from_millis(100), Duration::from_secs(120));
        let timeout = at.child("timeout").between(spec.timeout, short, long);
        Ok(Self {
            url: url?,
            format: spec.format,
            signing_key: spec.signing_key.clone(),
            min_severity: spec.min_severity,
            timeout: timeout?,
            attempts: spec.attempts,
            quiet: quiet.clone(),
        })
    }
}

fn address(url: &str, at: &SpecPath<'_>) -> Result<String, Invalid> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    at.require(
        rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(' ')),
        format!("`{url}` is not an address: write `https://host/path`"),
    )?;
    Ok(url.to_owned())
}
