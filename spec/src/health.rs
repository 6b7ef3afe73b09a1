//! What a running stage says of its health: the answer of `/readyz` and `/statusz` on its `ops` port. The operator makes conditions
//! of it. Readiness means "can answer"; what is unwell is said beside it, as [`Complaint`]s.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::WallTime;

/// What kind of trouble a step of a stage is in: one word, stable, fit for the reason of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Trouble {
    /// No broker answers.
    KafkaUnreachable,
    /// A broker answers, and refuses: credentials, permissions, settings.
    KafkaRefused,
    /// A topic of the pipeline is not there.
    TopicMissing,
    /// The broker answers, and acknowledges no record.
    DeliveryFailing,
    /// The database does not answer, or cannot do it now.
    DatabaseUnreachable,
    /// The database refuses for good: permissions, a table that is not there, a schema of a newer version.
    DatabaseRefused,
    /// The receiver of a webhook does not take messages.
    WebhookFailing,
    /// A part of the stage stopped with an error of its own.
    StageFailed,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

impl Trouble {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KafkaUnreachable => "KafkaUnreachable",
            Self::KafkaRefused => "KafkaRefused",
            Self::TopicMissing => "TopicMissing",
            Self::DeliveryFailing => "DeliveryFailing",
            Self::DatabaseUnreachable => "DatabaseUnreachable",
            Self::DatabaseRefused => "DatabaseRefused",
            Self::WebhookFailing => "WebhookFailing",
            Self::StageFailed => "StageFailed",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A step of a stage that is unwell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// The step, e.g. `broker`.
    pub step: String,
    /// What kind of trouble.
    pub reason: Trouble,
    /// What was tried, on what, and what the other side said.
    pub message: String,
    /// Since when the step has been in this kind of trouble.
    pub since: WallTime,
}

/// What a stage says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// Whether it can answer requests.
    pub ready: bool,
    /// Whether it was told to stop and answers what still comes.
    #[serde(default)]
    pub draining: bool,
    /// Steps that have not begun yet, and what each waits for. While there is one, the stage is not ready.
    #[serde(default)]
    pub starting: BTreeMap<String, String>,
    /// Steps that are unwell, at most one complaint each. The stage may be ready all the same.
    #[serde(default)]
    pub troubles: Vec<Complaint>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = HealthReport {
            ready: true,
            draining: false,
            starting: BTreeMap::from([("windows".into(), "reading".into())]),
            troubles: vec![Complaint {
                step: "broker".into(),
                reason: Trouble::KafkaUnreachable,
                message: "no answer".into(),
                since: WallTime(1_700_000_000_000),
            }],
        };
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "ready": true, "draining": false, "starting": {"windows": "reading"},
                "troubles": [{"step": "broker", "reason": "KafkaUnreachable", "message": "no answer", "since": 1_700_000_000_000_i64}]
            })
        );
        assert_eq!(serde_json::from_value::<HealthReport>(json).unwrap(), report);
    }

    #[test]
    fn a_reason_of_a_newer_version_is_unknown_and_not_an_error() {
        let json = r#"{"step":"broker","reason":"MoonInTheWay","message":"","since":0}"#;
        assert_eq!(serde_json::from_str::<Complaint>(json).unwrap().reason, Trouble::Unknown);
    }

    #[test]
    fn a_reason_prints_the_word_it_is_written_as() {
        for trouble in [
            Trouble::KafkaUnreachable,
            Trouble::KafkaRefused,
            Trouble::TopicMissing,
            Trouble::DeliveryFailing,
            Trouble::DatabaseUnreachable,
            Trouble::DatabaseRefused,
            Trouble::WebhookFailing,
            Trouble::StageFailed,
        ] {
            assert_eq!(serde_json::to_value(trouble).unwrap(), trouble.to_string());
        }
    }
}
