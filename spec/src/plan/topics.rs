//! The topics of a pipeline, and the consumer groups that read them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pipeline::KafkaSpec;
use crate::problem::{Invalid, SpecPath};
use crate::units::millis;

/// Partitions of a topic on the embedded bus: enough for its members to share, few enough to be light.
const EMBEDDED_PARTITIONS: u32 = 4;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// The topics of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Topics {
    /// Accepted events.
    pub events: TopicPlan,
    /// Values and watermarks from fold to judge.
    pub parts: TopicPlan,
    /// Window values, provisional and final.
    pub windows: TopicPlan,
    /// Verdicts.
    pub alerts: TopicPlan,
    /// Events and records that were refused.
    pub dead_letter: TopicPlan,
    /// The judge's memory, compacted; as many partitions as `parts`.
    pub baselines: TopicPlan,
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

/// The consumer groups of a pipeline. A sink has one of its own: [`super::SinkPlan::group`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Groups {
    /// On `events`.
    pub fold: String,
    /// On `parts`.
    pub judge: String,
    /// On `alerts`: the step that explains them.
    #[serde(default)]
    pub explain: String,
}

impl Groups {
    pub(super) fn of(prefix: &str) -> Self {
        Self {
            fold: format!("{prefix}.fold"),
            judge: format!("{prefix}.judge"),
            explain: format!("{prefix}.explain"),
        }
    }
}

/// The consumer group of the sink `name` of a pipeline whose topics begin with `prefix`.
#[must_use]
pub fn sink_group(prefix: &str, name: &str) -> String {
    format!("{prefix}.sink.{name}")
}

/// A consumer group, and the topics it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription<'a> {
    /// The group.
    pub group: &'a str,
    /// Its topics.
    pub topics: Vec<&'a TopicPlan>,
}

impl Topics {
    /// All six.
    pub fn all(&self) -> [&TopicPlan; 6] {
        [&self.events, &self.parts, &self.windows, &self.alerts, &self.dead_letter, &self.baselines]
    }

    /// The topics of a pipeline: on `kafka`, or on the embedded bus.
    pub(super) fn parse(kafka: Option<&KafkaSpec>, prefix: &str, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let legal = |kafka: &KafkaSpec| {
            let prefix = kafka.topic_prefix.as_deref().map_or(Ok(()), |prefix| is_prefix(prefix, at));
            let config = is_config(&kafka.config, &at.child("config"));
            let retention = at.child("retention").between(kafka.retention, HOUR, 3650 * DAY);
            prefix.and(config).and(retention)
        };
        let retention = kafka.map_or(Ok(WEEK), legal)?;
        let partitions = kafka.map_or(EMBEDDED_PARTITIONS, |kafka| kafka.partitions);
        let judges = kafka.and_then(|kafka| kafka.detector_partitions).unwrap_or(partitions);
        let replication = kafka.map_or(1, |kafka| kafka.replication);
        let topic = |name: &str, partitions: u32, own: &[(&str, String)]| {
            let mut config: BTreeMap<String, String> =
                own.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            if replication >= 3 {
                config.insert("min.insync.replicas".into(), "2".into());
            }
            config.extend(kafka.map(|kafka| kafka.config.clone()).unwrap_or_default());
            TopicPlan { name: format!("{prefix}.{name}"), partitions, replication, config }
        };
        let expiring = |retention: Duration| {
            [("cleanup.policy", "delete".to_owned()), ("retention.ms", millis(retention).to_string())]
        };
        // What judge may still have to read again is younger than the longest window and its lateness; a day lets a stage be
        // down over night.
        let parts = expiring(retention.min(DAY));
        let compacted = [
            ("cleanup.policy", "compact".to_owned()),
            // A predecessor that was taken for dead may write after its successor: readers take the newest of both, so both
            // must still be there.
            ("min.compaction.lag.ms", "600000".to_owned()),
            ("segment.ms", "3600000".to_owned()),
            ("min.cleanable.dirty.ratio", "0.2".to_owned()),
        ];
        Ok(Self {
            events: topic("events", partitions, &expiring(retention)),
            parts: topic("parts", judges, &parts),
            windows: topic("windows", judges, &expiring(retention)),
            alerts: topic("alerts", judges, &expiring(retention)),
            dead_letter: topic("dead-letter", 1, &expiring(retention)),
            baselines: topic("baselines", judges, &compacted),
        })
    }
}

fn is_prefix(prefix: &str, at: &SpecPath<'_>) -> Result<(), Invalid> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    at.child("topicPrefix").require(
        matches!(prefix.len(), 1..=200) && prefix.chars().all(legal) && !prefix.starts_with('.'),
        format!(
            "`{prefix}` cannot begin the name of a topic: write 1 to 200 letters, digits, `.`, `_` and `-`"
        ),
    )
}

/// Settings that are not for the user to choose.
fn is_config(config: &BTreeMap<String, String>, at: &SpecPath<'_>) -> Result<(), Invalid> {
    let free =
        |setting: &str, message: &str| at.child(setting).require(!config.contains_key(setting), message);
    let policy = free("cleanup.policy", "differs from topic to topic, and counting relies on it: remove it");
    policy.and(free("retention.ms", "is set by `retention`: write it there, e.g. `retention: 7d`"))
}
