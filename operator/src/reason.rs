//! The reasons of conditions: one word each, by which a person and an alert rule tell causes apart. `docs/kubernetes.md` says what
//! to do about each.

use std::fmt;

use herd_spec::health::Trouble as Reported;

/// Why a condition is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// All stages are ready.
    AllReady,
    /// Detectors and sinks are stopped by the spec.
    Paused,
    /// A stage is ready.
    Ready,
    /// A stage is ready, and has not yet as many replicas as scaling asks for, or still more.
    Scaling,
    /// No replicas are asked for.
    NoReplicas,
    /// The spec has none of these stages.
    None,
    /// Pods of a new version, or the first ones, are not ready yet.
    Rolling,
    /// A stage fails for a reason that has no word of its own.
    StageFailing,
    /// Kubernetes finds no node for a pod.
    Unschedulable,
    /// The image of a pod cannot be pulled.
    ImageUnavailable,
    /// A container was ended because it took more memory than its limit.
    OomKilled,
    /// A container ends with an error again and again.
    Crashing,
    /// A pod cannot be made or started.
    PodRefused,
    /// No broker of Kafka can be reached.
    KafkaUnreachable,
    /// Kafka answers and refuses: credentials, rights, settings.
    KafkaRefused,
    /// A topic was deleted.
    TopicMissing,
    /// Kafka answers and takes no record.
    DeliveryFailing,
    /// PostgreSQL cannot be reached.
    DatabaseUnreachable,
    /// PostgreSQL answers and refuses: no such database, credentials, rights.
    DatabaseRefused,
    /// A webhook's receiver cannot be reached, or refuses.
    WebhookFailing,
    /// A part of a stage stopped with an error of another kind.
    StageFailed,
    /// Topics are as the spec asks.
    AsAsked,
    /// Topics differ from the spec, and can be used.
    Differ,
    /// `parts` and `baselines` have different numbers of partitions.
    PartitionsDiffer,
    /// The spec cannot be carried out.
    Invalid,
    /// A Secret or one of its keys is missing.
    SecretMissing,
    /// The name of an object belongs to another owner.
    NameTaken,
    /// Another pipeline has the same topics.
    TopicsTaken,
    /// The API server forbids it.
    Forbidden,
    /// The API server refuses it.
    Refused,
    /// Somebody else changed an object at the same time.
    Conflict,
    /// The API server asks for fewer requests.
    Throttled,
    /// The API server does not answer.
    ApiServerUnavailable,
    /// Another field manager sets fields of our objects.
    FieldsContested,
    /// A fault of the operator.
    Defect,
    /// What scaling says: `herd_spec::scale` has the words.
    OfScaling(&'static str),
}

impl Reason {
    /// The word, as it stands in a condition.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllReady => "AllReady",
            Self::Paused => "Paused",
            Self::Ready => "Ready",
            Self::Scaling => "Scaling",
            Self::NoReplicas => "NoReplicas",
            Self::None => "None",
            Self::Rolling => "Rolling",
            Self::StageFailing => "StageFailing",
            Self::Unschedulable => "Unschedulable",
            Self::ImageUnavailable => "ImageUnavailable",
            Self::OomKilled => "OOMKilled",
            Self::Crashing => "Crashing",
            Self::PodRefused => "PodRefused",
            Self::KafkaUnreachable => "KafkaUnreachable",
            Self::KafkaRefused => "KafkaRefused",
            Self::TopicMissing => "TopicMissing",
            Self::DeliveryFailing => "DeliveryFailing",
            Self::DatabaseUnreachable => "DatabaseUnreachable",
            Self::DatabaseRefused => "DatabaseRefused",
            Self::WebhookFailing => "WebhookFailing",
            Self::StageFailed => "StageFailed",
            Self::AsAsked => "AsAsked",
            Self::Differ => "Differ",
            Self::PartitionsDiffer => "PartitionsDiffer",
            Self::Invalid => "Invalid",
            Self::SecretMissing => "SecretMissing",
            Self::NameTaken => "NameTaken",
            Self::TopicsTaken => "TopicsTaken",
            Self::Forbidden => "Forbidden",
            Self::Refused => "Refused",
            Self::Conflict => "Conflict",
            Self::Throttled => "Throttled",
            Self::ApiServerUnavailable => "ApiServerUnavailable",
            Self::FieldsContested => "FieldsContested",
            Self::Defect => "Defect",
            Self::OfScaling(word) => word,
        }
    }
}

impl From<Reported> for Reason {
    /// The reason that a pod gives in its health report. A word of a newer worker is [`Reason::StageFailing`].
    fn from(reported: Reported) -> Self {
        match reported {
            Reported::KafkaUnreachable => Self::KafkaUnreachable,
            Reported::KafkaRefused => Self::KafkaRefused,
            Reported::TopicMissing => Self::TopicMissing,
            Reported::DeliveryFailing => Self::DeliveryFailing,
            Reported::DatabaseUnreachable => Self::DatabaseUnreachable,
            Reported::DatabaseRefused => Self::DatabaseRefused,
            Reported::WebhookFailing => Self::WebhookFailing,
            Reported::StageFailed => Self::StageFailed,
            Reported::Unknown => Self::StageFailing,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In one word.
    pub reason: Reason,
    /// For a person: where, what happened, and what to do.
    pub message: String,
}

impl Trouble {
    /// A trouble with its words.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
