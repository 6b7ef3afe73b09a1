//! One poll of a Kafka cluster: the offsets of all partitions of its pipelines together, and the consumer groups that are not idle.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use herd_bus::Bus as _;
use herd_bus::kafka::{KafkaBus, Places};
use herd_spec::units::Partition;

use super::monitor::{PartitionCounts, Subscription};
use crate::reason::Failure;
use crate::stage::StageId;
use crate::topics;

/// Time for consumer groups in one poll: slow brokers must not make the offsets outdated.
const GROUPS_TIMEOUT: Duration = Duration::from_secs(4);
/// Timeout of the ping after a failed poll.
const PING: Duration = Duration::from_secs(2);

/// What to poll of one cluster.
pub(super) struct ClusterRequest {
    pub(super) bus: KafkaBus,
    pub(super) pipelines: Vec<PipelineRequest>,
}

/// What to poll of one pipeline.
pub(super) struct PipelineRequest {
    pub(super) uid: String,
    pub(super) partition_counts: PartitionCounts,
    pub(super) groups: Vec<(StageId, Subscription)>,
}

/// The result of a poll.
pub(super) struct ClusterPoll {
    pub(super) pipelines: Vec<PipelineRequest>,
    /// Start and end offsets of all partitions.
    pub(super) spans: Result<(Places, Places), PollError>,
    /// By pipeline and stage.
    pub(super) groups: BTreeMap<(String, StageId), GroupProgress>,
}

/// Why the offsets of partitions are unknown.
#[derive(Clone, Debug)]
pub(super) struct PollError {
    /// The error of the request.
    pub(super) message: String,
    /// The failure of the whole cluster; none if it answers other requests.
    pub(super) outage: Option<Failure>,
}

/// The committed offsets of a group, and whether it is stable; or the error of the request.
pub(super) type GroupProgress = Result<(Places, bool), String>;

/// Polls a cluster. `idle_commits` returns the committed offsets of groups that need not be asked.
pub(super) fn poll(
    request: ClusterRequest,
    idle_commits: impl Fn(&str, &StageId, &Places) -> Option<Places>,
) -> ClusterPoll {
    let ClusterRequest { bus, pipelines } = request;
    let counts = pipelines.iter().flat_map(|pipeline| &pipeline.partition_counts);
    let topics: Vec<(&str, u32)> = counts.map(|(name, count)| (name.as_str(), *count)).collect();
    let spans = bus.spans(&topics).map_err(|error| {
        // One slow broker may fail the request. A cluster that does not answer a ping either is unavailable.
        let outage = bus.ping(PING).err().map(|error| topics::failure(&error));
        PollError { message: error.to_string(), outage }
    });
    let mut groups = BTreeMap::new();
    if let Ok((starts, ends)) = &spans {
        let begun = Instant::now();
        for pipeline in &pipelines {
            for (id, subscription) in &pipeline.groups {
                let progress = match idle_commits(&pipeline.uid, id, ends) {
                    Some(committed) => Ok((committed, true)),
                    None if begun.elapsed() > GROUPS_TIMEOUT => Err(format!(
                        "requests about other consumer groups took too long ({} s)",
                        begun.elapsed().as_secs()
                    )),
                    None => group_progress(&bus, subscription, &pipeline.partition_counts, starts, ends),
                };
                groups.insert((pipeline.uid.clone(), id.clone()), progress);
            }
        }
    }
    ClusterPoll { pipelines, spans, groups }
}

fn group_progress(
    bus: &KafkaBus,
    subscription: &Subscription,
    counts: &PartitionCounts,
    starts: &Places,
    ends: &Places,
) -> GroupProgress {
    let of_it = |topic: &String| subscription.topics.contains(topic);
    let mut partitions = counts.iter().filter(|(topic, _)| of_it(topic)).flat_map(|(topic, partitions)| {
        (0..*partitions).map(move |partition| (topic.clone(), Partition(partition)))
    });
    let empty = partitions.all(|partition| starts.get(&partition) == ends.get(&partition));
    if empty {
        // There is no record, so nothing to commit.
        return Ok((Places::new(), true));
    }
    let topics: Vec<(&str, u32)> =
        counts.iter().filter(|(name, _)| of_it(name)).map(|(name, count)| (name.as_str(), *count)).collect();
    let committed = bus.committed(&subscription.group, &topics).map_err(|error| error.to_string())?;
    let stable = bus.is_at_rest(&subscription.group).map_err(|error| error.to_string())?;
    Ok((committed, stable))
}
