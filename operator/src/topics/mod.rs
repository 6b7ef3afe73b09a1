//! The topics of a pipeline: described, compared with the plan ([`decide()`]), and changed. Kafka requests run on blocking threads, at
//! most every ten minutes for each pipeline, because Kafka does not notify of changes.

mod decide;
mod kafka_clients;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use herd_bus::kafka::{KafkaBus, TopicFacts};
use herd_bus::{Bus as _, BusError};
use herd_spec::health::Trouble;
use herd_spec::pipeline::TopicStatus;
use herd_spec::plan::Topics;
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::reason::{Failure, Reason};

pub use decide::{TopicChange, TopicDecision, decide};
pub use kafka_clients::{InvalidKafkaSettings, KafkaClients, KafkaConnection};

/// How long a successful check of the topics is valid.
const CONFIDENCE: Duration = Duration::from_secs(600);
/// Time between two attempts after Kafka failed.
const RETRY: Duration = Duration::from_secs(5);
/// How long Kafka may take to answer a ping.
const PING: Duration = Duration::from_secs(5);

/// The state of a pipeline's topics.
#[derive(Clone, Debug, PartialEq)]
pub enum TopicsState {
    /// All can be used.
    Ready {
        /// The topics.
        topics: Vec<TopicStatus>,
        /// Differences from the spec that remain.
        notes: Vec<String>,
    },
    /// At least one cannot be used.
    NotReady {
        /// The kind of failure.
        reason: Reason,
        /// What failed, and what to do.
        message: String,
        /// Whether to retry without a change of the spec.
        retry: bool,
    },
}

/// Keeps the topics of all pipelines as their plans describe them. Remembers the last check of each: at most one entry a pipeline,
/// removed with it.
#[derive(Default)]
pub struct TopicReconciler {
    checks: Mutex<HashMap<String, LastCheck>>,
}

/// The last check of one pipeline's topics.
struct LastCheck {
    /// Fingerprint of the cluster and the topics of the plan.
    requested: String,
    at: Instant,
    state: TopicsState,
    /// Topics that the operator created: the status contains them only once all topics are ready.
    created: BTreeSet<String>,
    /// Topics that the status reports as missing: the next check creates them.
    missing: BTreeSet<String>,
}

/// What the status and the scaler know of a pipeline's topics before the check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownTopics {
    /// Topics that existed at the last check.
    pub existed: BTreeSet<String>,
    /// Those of them that the operator created.
    pub created: BTreeSet<String>,
    /// The scaler misses some of them: the last check is not valid.
    pub missing_suspected: bool,
}

impl TopicReconciler {
    /// Ensures that the topics of the pipeline with this uid exist with the settings of the plan. `requested` is the fingerprint of
    /// cluster and topics: when it changes, the last check is not valid.
    pub async fn ensure(
        &self,
        uid: &str,
        requested: &str,
        bus: KafkaBus,
        topics: &Topics,
        known: KnownTopics,
    ) -> TopicsState {
        let KnownTopics { existed, mut created, missing_suspected } = known;
        let mut reported_missing = BTreeSet::new();
        if let Some(last) = self.checks.lock().get(uid) {
            let ready = matches!(last.state, TopicsState::Ready { .. });
            let valid_for = if ready { CONFIDENCE } else { RETRY };
            if last.requested == requested && !(ready && missing_suspected) && last.at.elapsed() < valid_for {
                return last.state.clone();
            }
            created.extend(last.created.iter().cloned());
            reported_missing.clone_from(&last.missing);
        }
        let topics = topics.clone();
        let span = tracing::Span::current();
        let ensured = tokio::task::spawn_blocking(move || {
            let mut check = Check { created, existed, missing: reported_missing };
            let state = span.in_scope(|| check.ensure(&bus, &topics));
            (state, check)
        });
        let (state, check) = match ensured.await {
            Ok((Ok(state), check)) => (state, check),
            Ok((Err(error), check)) => (unavailable(&error), check),
            Err(error) => {
                let message = error.to_string();
                (TopicsState::NotReady { reason: Reason::Defect, message, retry: true }, Check::default())
            }
        };
        let Check { created, missing, .. } = check;
        let last = LastCheck {
            requested: requested.into(),
            at: Instant::now(),
            state: state.clone(),
            created,
            missing,
        };
        self.checks.lock().insert(uid.into(), last);
        state
    }

    /// Forgets a pipeline.
    pub fn forget(&self, uid: &str) {
        self.checks.lock().remove(uid);
    }
}

/// A failed request to Kafka, as a failure of the pipeline.
#[must_use]
pub fn failure(error: &BusError) -> Failure {
    let reason = if error.is_retryable() {
        Reason::Trouble(Trouble::KafkaUnreachable)
    } else {
        Reason::Trouble(Trouble::KafkaRefused)
    };
    Failure::new(reason, error.to_string())
}

fn unavailable(error: &BusError) -> TopicsState {
    warn!(%error, "ensuring the topics failed");
    let Failure { reason, message } = failure(error);
    TopicsState::NotReady { reason, message, retry: true }
}

/// One check of the topics of a pipeline.
#[derive(Default)]
struct Check {
    /// See [`KnownTopics::existed`].
    existed: BTreeSet<String>,
    /// Topics that the operator created.
    created: BTreeSet<String>,
    /// Topics that the status reports as missing.
    missing: BTreeSet<String>,
}

impl Check {
    fn ensure(&mut self, bus: &KafkaBus, topics: &Topics) -> Result<TopicsState, BusError> {
        bus.ping(PING)?;
        let names = topics.all().map(|topic| &*topic.name);
        let before = bus.topic_facts(&names)?;
        let is_deleted = |name: &&&str| self.existed.contains(**name) && !before.contains_key(**name);
        let deleted: BTreeSet<String> =
            names.iter().filter(is_deleted).map(|name| (*name).to_owned()).collect();
        if !deleted.is_subset(&self.missing) {
            let message = missing(&deleted);
            warn!(topics = ?deleted, "topics were deleted");
            self.missing = deleted;
            return Ok(TopicsState::NotReady {
                reason: Reason::Trouble(Trouble::TopicMissing),
                message,
                retry: true,
            });
        }
        let TopicDecision { changes, notes, blocked } = decide(topics, &before);
        if let Some(message) = blocked {
            return Ok(TopicsState::NotReady { reason: Reason::PartitionsDiffer, message, retry: true });
        }
        self.created.retain(|name| before.contains_key(name));
        let unchanged = changes.is_empty();
        execute(bus, changes, &mut self.created)?;
        self.missing.clear();
        let after = if unchanged { before } else { bus.topic_facts(&names)? };
        Ok(TopicsState::Ready { topics: statuses(topics, &after, &self.created), notes })
    }
}

/// The message about topics that were deleted.
fn missing(topics: &BTreeSet<String>) -> String {
    let names = topics.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let (was, its) = if topics.len() == 1 { ("was", "its") } else { ("were", "their") };
    format!(
        "{names} {was} deleted from Kafka: {its} records are lost. The operator creates the topics again within 15 s; until then writes to them fail"
    )
}

fn execute(
    bus: &KafkaBus,
    changes: Vec<TopicChange>,
    created: &mut BTreeSet<String>,
) -> Result<(), BusError> {
    let mut missing = Vec::new();
    for change in changes {
        match change {
            TopicChange::Create(topic) => missing.push(topic),
            TopicChange::Grow { topic, partitions } => {
                bus.grow_topic(&topic, partitions)?;
                info!(topic, partitions, "partitions added");
            }
            TopicChange::Configure { topic, config } => {
                bus.configure_topic(&topic, &config)?;
                info!(topic, ?config, "settings changed");
            }
        }
    }
    let mut made = BTreeSet::new();
    let result = bus.make_topics(&missing, &mut made);
    if !made.is_empty() {
        info!(topics = ?made, "topics created");
    }
    created.extend(made);
    result
}

fn statuses(
    topics: &Topics,
    facts: &BTreeMap<String, TopicFacts>,
    created: &BTreeSet<String>,
) -> Vec<TopicStatus> {
    let status = |(name, facts): (&String, &TopicFacts)| TopicStatus {
        name: name.clone(),
        partitions: facts.partitions,
        replication: facts.replication,
        created: created.contains(name),
    };
    topics.all().into_iter().filter_map(|topic| facts.get_key_value(&topic.name)).map(status).collect()
}
