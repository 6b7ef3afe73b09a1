//! What a change of a field means: for the windows that are open, for what has been learnt, for alerts that are open.

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// A metric has a new definition.
    MetricDefinition,
    /// A metric counts more or fewer keys one by one.
    MetricKeys,
    /// Running values are sent more or less often.
    MetricEmit,
    /// A metric is new.
    MetricAdded,
    /// A metric is gone.
    MetricRemoved,
    /// A detector is new.
    DetectorAdded,
    /// A detector is gone.
    DetectorRemoved,
    /// A detector watches another metric.
    DetectorMetric,
    /// A detector demands another number of users, which are counted for that.
    DetectorUsers,
    /// A detector learns in another way.
    DetectorAlgorithm,
    /// A detector judges by another bound.
    DetectorBound,
    /// Windows wait a longer or shorter time for late events.
    Lateness,
    /// Other events are accepted, or read in another way.
    Accepted,
    /// Events go to partitions by another field.
    EventKey,
    /// More partitions.
    Partitions,
    /// The topics that are there keep their number of partitions.
    DetectorPartitions,
    /// The API server refuses the change.
    Refused,
    /// Other brokers, or another broker of another kind.
    Brokers,
    /// Other credentials or certificates.
    Credentials,
    /// Other settings of the topics.
    TopicSettings,
    /// Copies of each partition.
    Replication,
    /// What becomes of the topics at the end.
    DeletionPolicy,
    /// How collectors take requests.
    Collector,
    /// The way in from outside.
    Ingress,
    /// Number and size of pods.
    Size,
    /// A sink is new.
    SinkAdded,
    /// A sink is gone.
    SinkRemoved,
    /// A sink stores somewhere else.
    SinkPlace,
    /// A webhook goes to another address.
    WebhookAddress,
    /// How a sink delivers.
    SinkDelivery,
    /// A sink is of another kind.
    SinkKind,
    /// What the api serves.
    Api,
    /// Detectors and sinks stop or go on.
    Paused,
    /// The two are different pipelines.
    OtherPipeline,
}

/// An effect in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Meaning {
    /// What happens.
    pub what: &'static str,
    /// To windows that are open; empty: nothing.
    pub windows: &'static str,
    /// To baselines; empty: nothing.
    pub baselines: &'static str,
    /// To alerts that are open; empty: nothing.
    pub alerts: &'static str,
}

const PARTIAL: &str = "Events processed before the change are counted in windows of the old definition, which close with their current values; later events are counted in windows of the new definition. Windows that are open at the change are therefore partial. No event is lost, and none is counted twice unless a detector is killed during the change.";
const ANEW: &str = "Discarded: no alerts until the warmup is complete.";
const KEPT: &str = "Kept.";
const GO_ON: &str = "Stay open.";

const fn meaning(
    what: &'static str,
    windows: &'static str,
    baselines: &'static str,
    alerts: &'static str,
) -> Meaning {
    Meaning { what, windows, baselines, alerts }
}

impl Effect {
    /// All of them, in the order of the page.
    pub const ALL: [Self; 34] = [
        Self::MetricDefinition,
        Self::MetricKeys,
        Self::MetricEmit,
        Self::MetricAdded,
        Self::MetricRemoved,
        Self::DetectorAdded,
        Self::DetectorRemoved,
        Self::DetectorMetric,
        Self::DetectorUsers,
        Self::DetectorAlgorithm,
        Self::DetectorBound,
        Self::Lateness,
        Self::Accepted,
        Self::EventKey,
        Self::Partitions,
        Self::DetectorPartitions,
        Self::Refused,
        Self::Brokers,
        Self::Credentials,
        Self::TopicSettings,
        Self::Replication,
        Self::DeletionPolicy,
        Self::Collector,
        Self::Ingress,
        Self::Size,
        Self::SinkAdded,
        Self::SinkRemoved,
        Self::SinkPlace,
        Self::WebhookAddress,
        Self::SinkDelivery,
        Self::SinkKind,
        Self::Api,
        Self::Paused,
        Self::OtherPipeline,
    ];

    /// The effect in words.
    #[must_use]
    pub fn meaning(self) -> Meaning {
        match self {
            Self::MetricDefinition => meaning(
                "The metric has a new definition; detectors are restarted one after the other.",
                PARTIAL,
                "Those of all detectors of the metric are discarded: no alerts until the warmup is complete.",
                "Resolved, with the reason that the definition of the metric changed.",
            ),
            Self::MetricKeys => meaning(
                "The maximum number of keys changes; detectors are restarted one at a time.",
                PARTIAL,
                KEPT,
                GO_ON,
            ),
            Self::DetectorUsers => meaning(
                "The detector applies the new value from the next window on. The users of a metric are counted from when a first detector \
                 demands a number of them, until none does; detectors are restarted one at a time.",
                PARTIAL,
                KEPT,
                GO_ON,
            ),
            Self::MetricEmit => meaning(
                "Running values are published more or less often: the delay of early alerts and of the charts.",
                "Go on; nothing is lost.",
                KEPT,
                GO_ON,
            ),
            Self::MetricAdded => {
                meaning("The metric counts the events that are processed from then on.", "", "", "")
            }
            Self::MetricRemoved => meaning(
                "The metric is no longer computed. Renaming a metric removes it and adds a new one.",
                "Closed with what they hold.",
                "Deleted.",
                "Resolved, with the reason that the metric was removed.",
            ),
            Self::DetectorAdded => meaning(
                "The detector learns from the windows that close from then on, and alerts after its warm-up.",
                "",
                "",
                "",
            ),
            Self::DetectorRemoved => meaning(
                "The detector no longer scores windows. Renaming a detector removes it and adds a new one.",
                "Unaffected.",
                "Deleted.",
                "Resolved, with the reason that the detector was removed.",
            ),
            Self::DetectorMetric => meaning(
                "The detector watches another metric, and learns it from its beginning.",
                "Unaffected.",
                ANEW,
                "Resolved, with the reason that the detector changed.",
            ),
            Self::DetectorAlgorithm => meaning(
                "The detector learns in another way.",
                "Unaffected.",
                ANEW,
                "Resolved, with the reason that the detector changed.",
            ),
            Self::DetectorBound => meaning(
                "The detector applies the new value from the next window on.",
                "Unaffected.",
                KEPT,
                GO_ON,
            ),
            Self::Lateness => meaning(
                "A shorter `maxLateness` closes windows earlier, a longer one later. With a longer one, windows are scored against baselines that are a few windows older.",
                "Stay open longer or shorter; one that is closed is not opened again.",
                KEPT,
                GO_ON,
            ),
            Self::Accepted => meaning(
                "Collectors accept, refuse and read events by the new rule from then on. Events that were accepted before stay as they are.",
                "Go on, with what is accepted from then on.",
                "Kept; they follow if fewer or more events are counted.",
                GO_ON,
            ),
            Self::EventKey => meaning(
                "Later events go to partitions by the new field. An event sent before the change and sent again after it may go to another partition, where it is not recognised: it may count twice.",
                "Unaffected.",
                KEPT,
                GO_ON,
            ),
            Self::Partitions => meaning(
                "`events` gets more partitions at once; the other topics keep theirs. Later events of a user may go to another partition: an event sent before and sent again after may count twice.",
                "Go on; they close when the new partitions have been read too.",
                KEPT,
                GO_ON,
            ),
            Self::DetectorPartitions => meaning(
                "Applies only to topics that do not exist yet; existing topics keep their number of partitions, which the condition `TopicsReady` reports.",
                "Unaffected.",
                KEPT,
                GO_ON,
            ),
            Self::Refused => meaning(
                "The API server refuses this change: create a second pipeline with another name instead, and delete this one when its lag is 0. (Under `herd up` it is not refused: the pipeline starts with new topics, and what waits in the old ones is not counted.)",
                "",
                "",
                "",
            ),
            Self::Brokers => meaning(
                "All stages are restarted. If these are other brokers of the same Kafka, nothing else changes. In another Kafka, or from the embedded broker to a Kafka, the pipeline starts with new topics: events that wait in the old ones are neither counted nor stored.",
                "Unaffected in the same Kafka cluster; in another cluster they are never closed.",
                "Kept in the same Kafka cluster; empty in another cluster: no alerts until the warmup is complete.",
                "Stay open. After a change to another Kafka cluster they are never resolved.",
            ),
            Self::Credentials => meaning(
                "All stages are restarted, one pod after the other, and use the new credentials.",
                "Unaffected.",
                KEPT,
                GO_ON,
            ),
            Self::TopicSettings => meaning(
                "The topics get the new setting, and nothing is restarted. With a shorter retention, Kafka deletes older records, including those that a lagging stage has not read yet.",
                "Unaffected.",
                KEPT,
                GO_ON,
            ),
            Self::Replication => meaning(
                "Applies only to topics that do not exist yet. Existing topics keep their replication factor until it is changed with `kafka-reassign-partitions`; the condition `TopicsReady` reports the difference.",
                "Unaffected.",
                KEPT,
                GO_ON,
            ),
            Self::DeletionPolicy => meaning(
                "Takes effect when the pipeline is deleted: its topics are then kept or deleted.",
                "Unaffected.",
                KEPT,
                GO_ON,
            ),
            Self::Collector => meaning(
                "Collectors are restarted one at a time; later requests are handled with the new settings.",
                "Unaffected.",
                KEPT,
                GO_ON,
            ),
            Self::Ingress => meaning(
                "The Ingress is created, changed or removed; no pod is restarted. Clients that use an old address get no answer.",
                "Unaffected.",
                KEPT,
                GO_ON,
            ),
            Self::Size => meaning(
                "Pods are added, removed or replaced. Partitions move to others, which go on where they were left.",
                "Unaffected.",
                KEPT,
                GO_ON,
            ),
            Self::SinkAdded => meaning(
                "The sink reads everything that Kafka keeps, from the beginning: a webhook is sent all alerts that are kept. A database whose tables are there already (the same schema, e.g. of a sink that was renamed) goes on from the position stored there.",
                "",
                "",
                "A new webhook receives them as well, if Kafka still keeps them.",
            ),
            Self::SinkRemoved => meaning(
                "Its pods are removed. What it stored stays.",
                "",
                "",
                "A removed webhook is not notified when they are resolved.",
            ),
            Self::SinkPlace => meaning(
                "The sink writes to the new database, starting with the oldest record in Kafka or, if the tables exist there, with the offsets stored in them. Rows stored before stay in the old database.",
                "",
                "",
                "Stored in the new place as well, if Kafka still keeps them.",
            ),
            Self::WebhookAddress => meaning(
                "Alerts from then on go to the new address; the sink goes on where it was.",
                "",
                "",
                "The new URL may receive the resolution of an alert that was raised at the old one.",
            ),
            Self::SinkDelivery => meaning(
                "The sink is restarted and goes on where it was, with the new setting. Nothing is lost or stored twice; a webhook may send a message again.",
                "",
                "",
                "",
            ),
            Self::SinkKind => meaning(
                "The sink changes its kind. A database starts with the oldest record in Kafka or, if its tables exist, with the offsets stored there; a webhook starts with the committed offsets of the consumer group of this name.",
                "",
                "",
                "",
            ),
            Self::Api => meaning("The api is restarted with the new setting.", "", "", ""),
            Self::Paused => meaning(
                "Pausing stops detectors and sinks; collectors continue, and Kafka keeps the events. After resuming, they continue from their committed offsets. Events that waited for longer than `retention` are lost.",
                "Stay open, and continue after resuming.",
                KEPT,
                "Stay open; they are neither raised nor resolved until the pipeline is resumed.",
            ),
            Self::OtherPipeline => meaning(
                "The files are of two pipelines with different names: neither changes the other, and each has its own topics.",
                "",
                "",
                "",
            ),
        }
    }
}
