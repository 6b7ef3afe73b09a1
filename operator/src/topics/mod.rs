//! The topics of a pipeline: looked at, decided about ([`decide()`]), put right. Kafka is asked on threads of its own and at most
//! every ten minutes for each pipeline, for nothing tells us when a topic changes.

mod clusters;
mod decide;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use herd_bus::kafka::{KafkaBus, TopicFacts};
use herd_bus::{Bus as _, BusError};
use herd_spec::pipeline::TopicStatus;
use herd_spec::plan::Topics;
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::reason::{Reason, Trouble};

pub use clusters::{Clusters, Unusable};
pub use decide::{Decision, Step, decide};

/// How long topics that were in order count as being so.
const CONFIDENCE: Duration = Duration::from_secs(600);
/// How long Kafka is left in peace after it failed.
const RESPITE: Duration = Duration::from_secs(5);
/// How long Kafka may take to say that it is there.
const PING: Duration = Duration::from_secs(5);

/// The topics of a pipeline as they are now.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// They can be used.
    Ready {
        /// All of them.
        topics: Vec<TopicStatus>,
        /// What stays different from the spec.
        notes: Vec<String>,
    },
    /// They cannot.
    NotReady {
        /// Why, in one word.
        reason: Reason,
        /// Why, and what to do.
        message: String,
        /// Whether it may be otherwise later.
        retry: bool,
    },
}

/// What is remembered of each pipeline: at most one entry a pipeline, removed with it.
#[derive(Default)]
pub struct Keeper {
    remembered: Mutex<HashMap<String, Memory>>,
}

/// What is remembered of one pipeline's topics.
struct Memory {
    /// What they were asked to be.
    asked: String,
    at: Instant,
    seen: Seen,
    /// Those that we made: the status hears of them only once all are in order.
    made: BTreeSet<String>,
    /// Those that are told to be missing: they are created with the next look.
    missing: BTreeSet<String>,
}

/// What is known of a pipeline's topics before Kafka is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Those that were there when they were looked at last.
    pub had: BTreeSet<String>,
    /// Those of them that we created.
    pub created: BTreeSet<String>,
    /// Some of them seem to be missing: what is remembered does not count.
    pub doubted: bool,
}

impl Keeper {
    /// The topics of the pipeline with this uid, put right if need be. `asked` stands for all that was asked for: when it changes,
    /// Kafka is asked again.
    pub async fn settle(&self, uid: &str, asked: &str, bus: KafkaBus, topics: &Topics, known: Known) -> Seen {
        let Known { had, mut created, doubted } = known;
        let mut told = BTreeSet::new();
        if let Some(Memory { asked: before, at, seen, made, missing }) = self.remembered.lock().get(uid) {
            let well = matches!(seen, Seen::Ready { .. });
            if before == asked && !(well && doubted) && at.elapsed() < if well { CONFIDENCE } else { RESPITE }
            {
                return seen.clone();
            }
            created.extend(made.iter().cloned());
            told.clone_from(missing);
        }
        let topics = topics.clone();
        let span = tracing::Span::current();
        let settled = tokio::task::spawn_blocking(move || {
            let mut work = Work { created, had, missing: told };
            let seen = span.in_scope(|| work.settle(&bus, &topics));
            (seen, work)
        });
        let (seen, work) = match settled.await {
            Ok((Ok(seen), work)) => (seen, work),
            Ok((Err(error), work)) => (unavailable(&error), work),
            Err(error) => {
                let message = error.to_string();
                (Seen::NotReady { reason: Reason::Defect, message, retry: true }, Work::default())
            }
        };
        let Work { created: made, missing, .. } = work;
        let memory = Memory { asked: asked.into(), at: Instant::now(), seen: seen.clone(), made, missing };
        self.remembered.lock().insert(uid.into(), memory);
        seen
    }

    /// Forgets a pipeline.
    pub fn forget(&self, uid: &str) {
        self.remembered.lock().remove(uid);
    }
}

/// Why Kafka did not do what was asked.
#[must_use]
pub fn trouble(error: &BusError) -> Trouble {
    let reason = if error.is_retryable() { Reason::KafkaUnreachable } else { Reason::KafkaRefused };
    Trouble::new(reason, error.to_string())
}

fn unavailable(error: &BusError) -> Seen {
    warn!(%error, "topics are not in order");
    let Trouble { reason, message } = trouble(error);
    Seen::NotReady { reason, message, retry: true }
}

/// One look at the topics of a pipeline.
#[derive(Default)]
struct Work {
    /// See [`Known::had`].
    had: BTreeSet<String>,
    /// Those that we created.
    created: BTreeSet<String>,
    /// Those that were told to be missing.
    missing: BTreeSet<String>,
}

impl Work {
    fn settle(&mut self, bus: &KafkaBus, topics: &Topics) -> Result<Seen, BusError> {
        bus.ping(PING)?;
        let names = topics.all().map(|topic| &*topic.name);
        let before = bus.topic_facts(&names)?;
        let gone = |name: &&&str| self.had.contains(**name) && !before.contains_key(**name);
        let gone: BTreeSet<String> = names.iter().filter(gone).map(|name| (*name).to_owned()).collect();
        if !gone.is_subset(&self.missing) {
            let message = missing(&gone);
            warn!(topics = ?gone, "topics were deleted");
            self.missing = gone;
            return Ok(Seen::NotReady { reason: Reason::TopicMissing, message, retry: true });
        }
        let Decision { steps, notes, blocked } = decide(topics, &before);
        if let Some(message) = blocked {
            return Ok(Seen::NotReady { reason: Reason::PartitionsDiffer, message, retry: true });
        }
        self.created.retain(|name| before.contains_key(name));
        let settled = steps.is_empty();
        carry_out(bus, steps, &mut self.created)?;
        self.missing.clear();
        let after = if settled { before } else { bus.topic_facts(&names)? };
        Ok(Seen::Ready { topics: statuses(topics, &after, &self.created), notes })
    }
}

/// What is said of topics that were there and are not any more.
fn missing(topics: &BTreeSet<String>) -> String {
    let names = topics.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let (was, is, its) = if topics.len() == 1 { ("was", "is", "its") } else { ("were", "are", "their") };
    format!(
        "{names} {was} deleted from Kafka, and {is} created again within 15 s: {its} records are lost, and until then nothing can be written there"
    )
}

fn carry_out(bus: &KafkaBus, steps: Vec<Step>, created: &mut BTreeSet<String>) -> Result<(), BusError> {
    let mut missing = Vec::new();
    for step in steps {
        match step {
            Step::Create(topic) => missing.push(topic),
            Step::Grow { topic, partitions } => {
                bus.grow_topic(&topic, partitions)?;
                info!(topic, partitions, "partitions added");
            }
            Step::Configure { topic, config } => {
                bus.configure_topic(&topic, &config)?;
                info!(topic, ?config, "settings put right");
            }
        }
    }
    let mut made = BTreeSet::new();
    let outcome = bus.make_topics(&missing, &mut made);
    if !made.is_empty() {
        info!(topics = ?made, "created");
    }
    created.extend(made);
    outcome
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
