//! The reasons of conditions, Events and metrics: one word each, by which people and alert rules distinguish causes.
//! `docs/kubernetes.md` says what to do about each.

use std::fmt;

use herd_spec::health::Trouble;
use herd_spec::scale::{FindingKind, ReasonKind};

/// Why a condition has its status, an Event was published, or a reconcile failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// All stages are ready.
    AllReady,
    /// Detectors and sinks are stopped by `spec.paused`.
    Paused,
    /// A stage is ready.
    Ready,
    /// A stage is ready, and scaling is adding or removing replicas.
    Scaling,
    /// A stage has no replicas.
    NoReplicas,
    /// The spec has no stage of this kind.
    None,
    /// Pods of a new version, or the first ones, are not ready yet.
    Rolling,
    /// A stage fails for a reason that a newer worker reported.
    StageFailing,
    /// Kubernetes finds no node for a pod.
    Unschedulable,
    /// The image of a pod cannot be pulled.
    ImageUnavailable,
    /// A container exceeded its memory limit.
    OomKilled,
    /// A container exits with an error repeatedly.
    Crashing,
    /// A pod cannot be created or started.
    PodRefused,
    /// A stage reports this in its health report, or the operator finds it about Kafka.
    Trouble(Trouble),
    /// Topics match the spec.
    MatchesSpec,
    /// Topics differ from the spec, and can be used.
    Differ,
    /// `parts` and `baselines` have different numbers of partitions.
    PartitionsDiffer,
    /// The spec is invalid.
    Invalid,
    /// A Secret or one of its keys is missing.
    SecretMissing,
    /// The name of an object belongs to another owner.
    NameTaken,
    /// Another pipeline has the same topics.
    TopicsTaken,
    /// The API server denies permission.
    Forbidden,
    /// The API server rejects a request.
    Refused,
    /// An object was changed at the same time.
    Conflict,
    /// The API server asks for fewer requests.
    Throttled,
    /// The API server does not answer.
    ApiServerUnavailable,
    /// Another field manager sets fields of the operator's objects.
    FieldsContested,
    /// A bug of the operator.
    Defect,
    /// No stage has scaling enabled.
    ScalingNotRequested,
    /// Scaling works.
    ScalingWorks,
    /// Scaling is inactive, because the newest decision has this reason.
    ScalingDecision(ReasonKind),
    /// Scaling works, and found a problem that it cannot solve.
    ScalingFinding(FindingKind),
    /// An Event: topics were created.
    TopicsCreated,
    /// An Event: topics that are no longer used remain in Kafka.
    TopicsLeft,
    /// An Event: topics can be used again.
    TopicsReady,
    /// An Event: replicas were added.
    ScaledUp,
    /// An Event: replicas were removed.
    ScaledDown,
    /// An Event: scaling works again.
    ScalingActive,
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
            Self::Trouble(trouble) => trouble.as_str(),
            Self::MatchesSpec => "MatchesSpec",
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
            Self::ScalingNotRequested => "NotConfigured",
            Self::ScalingWorks => "Active",
            Self::ScalingDecision(kind) => kind.name(),
            Self::ScalingFinding(kind) => kind.name(),
            Self::TopicsCreated => "TopicsCreated",
            Self::TopicsLeft => "TopicsLeft",
            Self::TopicsReady => "TopicsReady",
            Self::ScaledUp => "ScaledUp",
            Self::ScaledDown => "ScaledDown",
            Self::ScalingActive => "ScalingActive",
        }
    }

    /// Whether a condition of a status has this reason.
    #[must_use]
    pub fn is_of(self, condition: &herd_spec::pipeline::StatusCondition) -> bool {
        condition.reason == self.name()
    }
}

impl From<Trouble> for Reason {
    /// The reason that a pod gives in its health report. One of a newer worker is [`Reason::StageFailing`].
    fn from(reported: Trouble) -> Self {
        match reported {
            Trouble::Unknown => Self::StageFailing,
            known => Self::Trouble(known),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// All stages and topics can be used (kstatus).
    Ready,
    /// The operator is still working on it (kstatus).
    Reconciling,
    /// The operator cannot continue before something changes (kstatus).
    Stalled,
    /// All topics can be used.
    TopicsReady,
    /// The collectors are ready.
    CollectorReady,
    /// The detectors are ready.
    DetectorReady,
    /// All sinks are ready.
    SinksReady,
    /// The api is ready.
    ApiReady,
    /// Replicas are decided from fresh data.
    ScalingActive,
    /// Another field manager sets fields of the operator's objects.
    FieldsContested,
}

impl ConditionType {
    /// The word, as it stands in the status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::TopicsReady => "TopicsReady",
            Self::CollectorReady => "CollectorReady",
            Self::DetectorReady => "DetectorReady",
            Self::SinksReady => "SinksReady",
            Self::ApiReady => "ApiReady",
            Self::ScalingActive => "ScalingActive",
            Self::FieldsContested => "FieldsContested",
        }
    }
}

/// A failure of a stage, or of Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub reason: Reason,
    /// For a person: where it happened, what happened, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with its message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
