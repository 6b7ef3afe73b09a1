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
        reason: &'static str,
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
}

impl Keeper {
    /// The topics of the pipeline with this uid, put right if need be. `asked` stands for all that was asked for: when it changes,
    /// Kafka is asked again. `created` are those that we made earlier.
    pub async fn settle(
        &self,
        uid: &str,
        asked: &str,
        bus: KafkaBus,
        topics: &Topics,
        mut created: BTreeSet<String>,
    ) -> Seen {
        if let Some(Memory { asked: before, at, seen, made }) = self.remembered.lock().get(uid) {
            if before == asked
                && at.elapsed() < if matches!(seen, Seen::Ready { .. }) { CONFIDENCE } else { RESPITE }
            {
                return seen.clone();
            }
            created.extend(made.iter().cloned());
        }
        let topics = topics.clone();
        let span = tracing::Span::current();
        let settled = tokio::task::spawn_blocking(move || {
            let mut made = created;
            let seen = span.in_scope(|| settle(&bus, &topics, &mut made));
            (seen, made)
        });
        let (seen, made) = match settled.await {
            Ok((Ok(seen), made)) => (seen, made),
            Ok((Err(error), made)) => (unavailable(&error), made),
            Err(error) => {
                let message = error.to_string();
                (Seen::NotReady { reason: "Defect", message, retry: true }, BTreeSet::new())
            }
        };
        let memory = Memory { asked: asked.into(), at: Instant::now(), seen: seen.clone(), made };
        self.remembered.lock().insert(uid.into(), memory);
        seen
    }

    /// Forgets a pipeline.
    pub fn forget(&self, uid: &str) {
        self.remembered.lock().remove(uid);
    }
}

fn unavailable(error: &BusError) -> Seen {
    warn!(%error, "topics are not in order");
    let reason = if error.is_retryable() { "KafkaUnavailable" } else { "KafkaRefuses" };
    Seen::NotReady { reason, message: error.to_string(), retry: true }
}

fn settle(bus: &KafkaBus, topics: &Topics, created: &mut BTreeSet<String>) -> Result<Seen, BusError> {
    bus.ping(PING)?;
    let names = topics.all().map(|topic| &*topic.name);
    let before = bus.topic_facts(&names)?;
    let Decision { steps, notes, blocked } = decide(topics, &before);
    if let Some(message) = blocked {
        return Ok(Seen::NotReady { reason: "PartitionsDiffer", message, retry: true });
    }
    created.retain(|name| before.contains_key(name));
    let settled = steps.is_empty();
    carry_out(bus, steps, created)?;
    let after = if settled { before } else { bus.topic_facts(&names)? };
    Ok(Seen::Ready { topics: statuses(topics, &after, created), notes })
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
