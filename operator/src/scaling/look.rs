//! One look at a Kafka cluster: all partitions of all pipelines in it together, and of the groups those for whom something is new.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use herd_bus::Bus as _;
use herd_bus::kafka::{KafkaBus, Places};
use herd_spec::units::Partition;

use super::watch::{Reads, Sizes};
use crate::reason::Trouble;
use crate::stage::Role;
use crate::topics;

/// How long groups may be asked about in one look: brokers that are slow or gone must not make all else look old.
const BUDGET: Duration = Duration::from_secs(4);
/// How long Kafka may take to say that it is there, after a look at it failed.
const PING: Duration = Duration::from_secs(2);

/// What is asked of one cluster.
pub(super) struct Ask {
    pub(super) bus: KafkaBus,
    pub(super) pipelines: Vec<PipelineAsk>,
}

/// What is asked about one pipeline.
pub(super) struct PipelineAsk {
    pub(super) uid: String,
    pub(super) sizes: Sizes,
    pub(super) groups: Vec<(Role, Reads)>,
}

/// What was seen.
pub(super) struct Looked {
    pub(super) pipelines: Vec<PipelineAsk>,
    /// Starts and ends of all partitions; or why they could not be seen.
    pub(super) spans: Result<(Places, Places), Blind>,
    /// By pipeline and stage.
    pub(super) groups: BTreeMap<(String, Role), GroupSeen>,
}

/// Why partitions could not be seen.
#[derive(Clone, Debug)]
pub(super) struct Blind {
    /// In words.
    pub(super) why: String,
    /// What is wrong with Kafka as a whole; none: it answers, though not what was asked.
    pub(super) outage: Option<Trouble>,
}

/// How far a group is, and whether it is at rest; or why that could not be seen.
pub(super) type GroupSeen = Result<(Places, bool), String>;

/// Looks at a cluster. `quiet` knows groups that need not be asked about: what they had committed.
pub(super) fn at(ask: Ask, quiet: impl Fn(&str, &Role, &Places) -> Option<Places>) -> Looked {
    let Ask { bus, pipelines } = ask;
    let sizes = pipelines.iter().flat_map(|pipeline| &pipeline.sizes);
    let topics: Vec<(&str, u32)> = sizes.map(|(name, size)| (name.as_str(), *size)).collect();
    let spans = bus.spans(&topics).map_err(|error| {
        // One request may fail for a slow broker alone. Whoever does not answer a ping either is away.
        let outage = bus.ping(PING).err().map(|error| topics::trouble(&error));
        Blind { why: error.to_string(), outage }
    });
    let mut groups = BTreeMap::new();
    if let Ok((starts, ends)) = &spans {
        let begun = Instant::now();
        for pipeline in &pipelines {
            for (role, reads) in &pipeline.groups {
                let seen = match quiet(&pipeline.uid, role, ends) {
                    Some(committed) => Ok((committed, true)),
                    None if begun.elapsed() > BUDGET => Err(format!(
                        "brokers answered about other groups too slowly ({} s)",
                        begun.elapsed().as_secs()
                    )),
                    None => group(&bus, reads, &pipeline.sizes, starts, ends),
                };
                groups.insert((pipeline.uid.clone(), role.clone()), seen);
            }
        }
    }
    Looked { pipelines, spans, groups }
}

fn group(bus: &KafkaBus, reads: &Reads, sizes: &Sizes, starts: &Places, ends: &Places) -> GroupSeen {
    let of_it = |topic: &String| reads.topics.contains(topic);
    let places = sizes.iter().filter(|(topic, _)| of_it(topic)).flat_map(|(topic, partitions)| {
        (0..*partitions).map(move |partition| (topic.clone(), Partition(partition)))
    });
    let empty = places.into_iter().all(|place| starts.get(&place) == ends.get(&place));
    if empty {
        // Nothing was ever there to be committed.
        return Ok((Places::new(), true));
    }
    let topics: Vec<(&str, u32)> =
        sizes.iter().filter(|(name, _)| of_it(name)).map(|(name, size)| (name.as_str(), *size)).collect();
    let committed = bus.committed(&reads.group, &topics).map_err(|error| error.to_string())?;
    let stable = bus.is_at_rest(&reads.group).map_err(|error| error.to_string())?;
    Ok((committed, stable))
}
