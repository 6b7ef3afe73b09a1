//! Partitions that nobody reads although their group is at rest.
//!
//! A member with a name of its own that died and comes back gets what it had, and nobody else joins anew: that is what the name is
//! for. But cooperative members hand partitions over in two rounds: one gives them up and joins again, then another gets them. Had
//! the one that died just been told to give some up, it comes back without them, has nothing to give up, and the second round never
//! comes: nobody reads them until somebody joins or leaves for another reason. So who comes back looks whether all is read, and
//! otherwise leaves and joins anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use herd_spec::units::Partition;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::context::Rebalances;
use super::error::bus_error;
use super::requests::partitions_of;
use crate::BusError;

/// Pause between two checks, and how long partitions must stay unread: giving partitions up takes a moment.
const PAUSE: Duration = Duration::from_secs(5);
/// Who gives partitions up may be held up by a database: members that join anew meanwhile help nobody.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a check of the group has shown.
#[derive(Debug, PartialEq, Eq)]
enum GroupState {
    /// The group hands partitions over just now.
    Rebalancing,
    /// These have no reader; none missing: all is well.
    Unread(BTreeSet<Partition>),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Go on, and ask again.
    GoOn,
    /// All partitions are read: there is nothing more to ask.
    Done,
    /// Leave the group and join anew.
    JoinAnew,
}

/// Checks a group until all partitions are read.
pub(super) struct UnreadPartitionMonitor {
    topic: String,
    group: String,
    pause: Duration,
    next: Instant,
    /// What the check before found unread.
    last: BTreeSet<Partition>,
    /// The check under way. It waits for brokers, and the stage must go on: it has a thread of its own.
    check: Option<JoinHandle<Result<GroupState, BusError>>>,
}

impl UnreadPartitionMonitor {
    pub(super) fn new(topic: &str, group: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            group: group.to_owned(),
            pause: PAUSE,
            next: Instant::now() + PAUSE,
            last: BTreeSet::new(),
            check: None,
        }
    }

    /// What to do now. To be asked again and again; waits for nothing.
    pub(super) fn advice(&mut self, consumer: &Arc<BaseConsumer<Rebalances>>) -> Advice {
        let now = Instant::now();
        if !consumer.context().joined.load(Ordering::Acquire) {
            self.next = now + self.pause;
            return Advice::GoOn;
        }
        if self.check.as_ref().is_some_and(JoinHandle::is_finished) {
            self.next = now + self.pause;
            let seen = self.check.take().map(JoinHandle::join);
            return match seen {
                Some(Ok(Ok(seen))) => self.evaluate(seen),
                Some(Ok(Err(error))) => {
                    tracing::debug!(%error, "who reads which partitions");
                    Advice::GoOn
                }
                Some(Err(_)) | None => Advice::GoOn,
            };
        }
        if self.check.is_none() && now >= self.next {
            let (consumer, topic, group) = (Arc::clone(consumer), self.topic.clone(), self.group.clone());
            let check = move || check(&consumer, &topic, &group);
            self.check = std::thread::Builder::new().name("unread-partitions".into()).spawn(check).ok();
            self.next = now + self.pause;
        }
        Advice::GoOn
    }

    fn evaluate(&mut self, state: GroupState) -> Advice {
        let unread = match state {
            GroupState::Rebalancing => BTreeSet::new(),
            GroupState::Unread(unread) if unread.is_empty() => return Advice::Done,
            GroupState::Unread(unread) => unread,
        };
        let stays = !unread.is_empty() && unread == self.last;
        self.last = unread;
        if !stays {
            return Advice::GoOn;
        }
        let partitions: Vec<String> = self.last.iter().map(ToString::to_string).collect();
        tracing::warn!(
            topic = self.topic,
            group = self.group,
            partitions = partitions.join(", "),
            "partitions without an owner in the consumer group: rejoining the group to start a rebalance"
        );
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        self.next = Instant::now() + self.pause;
        Advice::JoinAnew
    }
}

fn check(consumer: &BaseConsumer<Rebalances>, topic: &str, group: &str) -> Result<GroupState, BusError> {
    let count = partitions_of(consumer, topic, PATIENCE)?;
    let found = consumer.fetch_group_list(Some(group), PATIENCE);
    let found = found.map_err(|error| bus_error(format!("looking at the group {group}"), &error))?;
    let found = found.groups().iter().find(|found| found.name() == group && found.state() == "Stable");
    let Some(found) = found else { return Ok(GroupState::Rebalancing) };
    let mut unread: BTreeSet<Partition> = (0..count).map(Partition).collect();
    for member in found.members() {
        for partition in assigned(member.assignment().unwrap_or_default(), topic) {
            unread.remove(&partition);
        }
    }
    Ok(GroupState::Unread(unread))
}

/// The partitions of a topic in a member's assignment, as Kafka's consumer protocol writes it: a version, then topics with their
/// partitions. What ends too early has no more.
fn assigned(assignment: &[u8], topic: &str) -> Vec<Partition> {
    let mut rest = assignment;
    let mut partitions = Vec::new();
    let mut read = || -> Option<()> {
        let _version = take(&mut rest, 2)?;
        for _ in 0..number(&mut rest, 4)? {
            let length = number(&mut rest, 2)?;
            let found = take(&mut rest, length as usize)? == topic.as_bytes();
            for _ in 0..number(&mut rest, 4)? {
                let partition = number(&mut rest, 4)?;
                if found {
                    partitions.push(Partition(partition));
                }
            }
        }
        Some(())
    };
    let _ = read();
    partitions
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}

/// A big-endian number of so many bytes, none of which are negative here.
fn number(rest: &mut &[u8], bytes: usize) -> Option<u32> {
    take(rest, bytes)?.iter().try_fold(0_u32, |number, byte| Some((number << 8) | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(numbers: &[u32]) -> BTreeSet<Partition> {
        numbers.iter().copied().map(Partition).collect()
    }

    #[test]
    fn parses_an_assignment_of_kafkas_consumer_protocol() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        for (topic, numbers) in [("other", &[7_u8][..]), ("events", &[0, 2, 5])] {
            bytes.extend([0, u8::try_from(topic.len()).unwrap()]);
            bytes.extend(topic.as_bytes());
            bytes.extend([0, 0, 0, u8::try_from(numbers.len()).unwrap()]);
            numbers.iter().for_each(|number| bytes.extend([0, 0, 0, *number]));
        }
        bytes.extend([0xff; 4]);
        assert_eq!(assigned(&bytes, "events"), [0, 2, 5].map(Partition));
        assert_eq!(assigned(&bytes, "other"), [Partition(7)]);
        assert_eq!(assigned(&bytes, "none"), []);
        // Cut off anywhere, it is not made up.
        for length in 0..bytes.len() {
            assert!(assigned(&bytes[..length], "events").len() <= 3);
        }
    }

    #[test]
    fn joins_anew_when_the_same_partitions_stay_unread_and_less_and_less_often() {
        let mut monitor = UnreadPartitionMonitor::new("events", "g");
        let unread = || GroupState::Unread(partitions(&[0, 1]));
        assert_eq!(monitor.evaluate(unread()), Advice::GoOn, "somebody may be about to take them over");
        assert_eq!(monitor.evaluate(GroupState::Unread(partitions(&[1]))), Advice::GoOn);
        assert_eq!(monitor.evaluate(GroupState::Rebalancing), Advice::GoOn);
        assert_eq!(monitor.evaluate(unread()), Advice::GoOn);
        assert_eq!(monitor.evaluate(unread()), Advice::JoinAnew);
        assert_eq!(monitor.pause, 2 * PAUSE);
        for _ in 0..20 {
            monitor.evaluate(unread());
        }
        assert_eq!(monitor.pause, LONGEST_PAUSE);
        assert_eq!(monitor.evaluate(GroupState::Unread(BTreeSet::new())), Advice::Done);
    }
}
