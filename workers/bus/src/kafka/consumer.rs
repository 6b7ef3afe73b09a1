//! Receiving from Kafka.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use herd_spec::units::{Offset, Partition};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::commits::{CommitThread, Commits, RETRY, offsets, passes};
use super::context::Rebalances;
use super::error::bus_error;
use super::reading::{Expected, Reading};
use super::record::{partition, record};
use super::requests::{committed, offsets_at, partitions_of};
use super::settings::KafkaSettings;
use super::unread::{Advice, UnreadPartitionMonitor};
use super::{PATIENCE, POLL, kafka_partition};
use crate::{BusError, Change, Commit, Consumer, Fetched, Membership, Record};

/// How often a reader of all partitions looks for new ones.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(5);
/// How long a member that gives partitions back or leaves may take to commit what it has done.
const LAST_COMMIT: Duration = Duration::from_secs(5);
/// How long a member that leaves may take to be taken in first, to give its partitions back, and to stop fetching and say that it
/// leaves.
const JOIN: Duration = Duration::from_secs(3);
const UNASSIGN: Duration = Duration::from_secs(2);
const FAREWELL: Duration = Duration::from_millis(100);

/// Receives from one topic of a Kafka cluster.
pub struct KafkaConsumer {
    consumer: Arc<BaseConsumer<Rebalances>>,
    topic: String,
    subscription: Subscription,
    /// What is this member's, started or not.
    owned: BTreeSet<Partition>,
    /// Where reading each partition stands.
    reading: Reading,
    /// Partitions whose logs begin anew, which the stage is to be told.
    restarted: Vec<Partition>,
    /// What must be given back, and what of it the stage has released: librdkafka wants one answer.
    revoked: BTreeSet<Partition>,
    released: BTreeSet<Partition>,
    commits: Commits,
    /// Spawned with the first commit.
    commit_thread: Option<CommitThread>,
    /// Until it was seen that its group reads all partitions.
    unread: Option<UnreadPartitionMonitor>,
}

#[derive(Clone, Debug)]
enum Subscription {
    Member { group: String },
    All { known: u32, told: u32, look: Instant },
}

impl fmt::Debug for KafkaConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConsumer")
            .field("topic", &self.topic)
            .field("subscription", &self.subscription)
            .finish_non_exhaustive()
    }
}

impl KafkaConsumer {
    pub(super) fn new(
        settings: &KafkaSettings,
        reader_group: &str,
        topic: &str,
        partitions: u32,
        membership: Membership<'_>,
    ) -> Result<Self, BusError> {
        let doing = || format!("reading {topic}");
        let mut unread = None;
        let (config, subscription) = match membership {
            Membership::Group { group, instance } => {
                // Who has no name of its own joins anew each time.
                unread = instance.map(|_| UnreadPartitionMonitor::new(topic, group));
                // One process may read several topics in one group.
                let instance = instance.map(|instance| format!("{instance}.{topic}"));
                (settings.member(topic, group, instance), Subscription::Member { group: group.to_owned() })
            }
            Membership::All => {
                let look = Instant::now() + LOOK_FOR_PARTITIONS;
                (settings.reader(topic, reader_group), Subscription::All { known: partitions, told: 0, look })
            }
        };
        let consumer: BaseConsumer<Rebalances> =
            config.create_with_context(Rebalances::default()).map_err(|error| bus_error(doing(), &error))?;
        if let Subscription::Member { .. } = subscription {
            consumer.subscribe(&[topic]).map_err(|error| bus_error(doing(), &error))?;
        }
        Ok(Self {
            consumer: Arc::new(consumer),
            topic: topic.to_owned(),
            subscription,
            owned: BTreeSet::new(),
            reading: Reading::default(),
            restarted: Vec::new(),
            revoked: BTreeSet::new(),
            released: BTreeSet::new(),
            commits: Commits::default(),
            commit_thread: None,
            unread,
        })
    }

    /// Whether a record with this offset is to be handed out.
    fn expects(&mut self, partition: Partition, offset: i64) -> bool {
        match self.reading.expects(partition, offset) {
            Expected::Yes => true,
            Expected::No => false,
            Expected::Restarted { expected } => {
                tracing::warn!(topic = self.topic, %partition, offset, expected, "the log of the partition begins anew, because the topic was recreated or lost records");
                self.restarted.push(partition);
                false
            }
        }
    }

    fn changes(&mut self) -> Vec<Change> {
        let mut changes = if let Subscription::All { known, told, look } = &mut self.subscription {
            if Instant::now() >= *look {
                *look = Instant::now() + LOOK_FOR_PARTITIONS;
                match partitions_of(&self.consumer, &self.topic, Duration::from_secs(1)) {
                    Ok(count) => *known = count.max(*known),
                    Err(error) => tracing::debug!(%error, "no news of partitions"),
                }
            }
            let new: Vec<_> = (std::mem::replace(told, *known)..*known).map(Partition).collect();
            if new.is_empty() { Vec::new() } else { vec![Change::Assigned(new)] }
        } else if self.consumer.context().waiting() {
            self.consumer.context().take()
        } else {
            Vec::new()
        };
        for change in &changes {
            match change {
                Change::Assigned(partitions) => self.owned.extend(partitions),
                Change::Revoked(partitions) => self.revoked.extend(partitions),
                Change::Lost(partitions) => {
                    self.commits.forget(partitions);
                    for partition in partitions {
                        self.reading.stop(*partition);
                        self.owned.remove(partition);
                        self.revoked.insert(*partition);
                    }
                }
                Change::Restarted(_) => {}
            }
        }
        let mut restarted = std::mem::take(&mut self.restarted);
        restarted.retain(|partition| self.reading.is_started(*partition));
        if !restarted.is_empty() {
            changes.push(Change::Restarted(restarted));
        }
        changes
    }

    fn list(
        &self,
        doing: &str,
        partitions: impl IntoIterator<Item = (Partition, KafkaOffset)>,
    ) -> Result<TopicPartitionList, BusError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in partitions {
            list.add_partition_offset(&self.topic, kafka_partition(partition), offset)
                .map_err(|error| bus_error(format!("{doing} {}/{partition}", self.topic), &error))?;
        }
        Ok(list)
    }

    fn refused(&self, doing: &str, partition: Partition, why: &str) -> BusError {
        BusError::Refused { doing: format!("{doing} {}/{partition}", self.topic), why: why.into() }
    }

    /// Answers librdkafka once all that was revoked together is released.
    fn answer_revocation(&mut self) -> Result<(), BusError> {
        if self.revoked.is_empty() || !self.revoked.is_subset(&self.released) {
            return Ok(());
        }
        let revoked = std::mem::take(&mut self.revoked);
        self.released.clear();
        let doing = format!("giving back partitions of {}", self.topic);
        // librdkafka gives back only what it was once told to read.
        let assigned = self.consumer.assignment().map_err(|error| bus_error(&*doing, &error))?;
        let assigned: BTreeSet<i32> = assigned.elements().iter().map(|element| element.partition()).collect();
        let never = revoked.iter().filter(|p| !assigned.contains(&kafka_partition(**p)));
        let never = self.list("giving back", never.map(|p| (*p, KafkaOffset::End)))?;
        if never.count() > 0 {
            self.consumer.incremental_assign(&never).map_err(|error| bus_error(&*doing, &error))?;
        }
        let list = self.list("giving back", revoked.iter().map(|p| (*p, KafkaOffset::Invalid)))?;
        self.consumer.incremental_unassign(&list).map_err(|error| bus_error(&*doing, &error))?;
        for partition in revoked {
            self.owned.remove(&partition);
            self.reading.stop(partition);
        }
        Ok(())
    }

    fn group(&self, doing: &str) -> Result<&str, BusError> {
        match &self.subscription {
            Subscription::Member { group } => Ok(group),
            Subscription::All { .. } => Err(BusError::Refused {
                doing: format!("{doing} {}", self.topic),
                why: "a consumer that reads all partitions has no group".into(),
            }),
        }
    }

    fn not_owner(&self, partition: Partition, why: &str) -> BusError {
        BusError::NotOwner { doing: format!("committing {}/{partition}", self.topic), why: why.into() }
    }

    /// Takes note of what was committed, and sends what is next.
    fn go_on_committing(&mut self) -> Result<(), BusError> {
        let now = Instant::now();
        let doing = || format!("committing to {}", self.topic);
        if let Some(result) = self.commit_thread.as_ref().and_then(CommitThread::answer) {
            self.commits.answered(result, doing, now)?;
        }
        let Some(batch) = self.commits.send(now) else { return Ok(()) };
        let thread = match self.commit_thread.take() {
            Some(thread) => thread,
            None => CommitThread::spawn(Arc::clone(&self.consumer), &self.topic)
                .map_err(|error| BusError::Unavailable { doing: doing(), why: error.to_string() })?,
        };
        self.commit_thread.insert(thread).send(batch);
        Ok(())
    }

    /// Joins the group anew where it leaves partitions unread.
    fn monitor_unread(&mut self) -> Result<(), BusError> {
        let advice = self.unread.as_mut().map(|monitor| monitor.advice(&self.consumer));
        match advice {
            None | Some(Advice::GoOn) => {}
            Some(Advice::Done) => self.unread = None,
            Some(Advice::JoinAnew) => {
                // What it has is revoked first, as ever.
                self.consumer.unsubscribe();
                let joined = self.consumer.subscribe(&[&self.topic]);
                joined.map_err(|error| bus_error(format!("reading {}", self.topic), &error))?;
            }
        }
        Ok(())
    }

    /// Waits until what is done is committed; what is not within [`LAST_COMMIT`] is left to whoever comes next, who does it again.
    /// Only while the group waits for this member: its broker then answers at once.
    fn commit_now(&mut self) {
        let deadline = Instant::now() + LAST_COMMIT;
        while !self.commits.open().is_empty() {
            let list = offsets(&self.topic, self.commits.open());
            let Err(error) = list.and_then(|list| self.consumer.commit(&list, CommitMode::Sync)) else {
                return self.commits.done();
            };
            if error.rdkafka_error_code().is_some_and(passes) && Instant::now() < deadline {
                std::thread::sleep(RETRY);
            } else {
                tracing::warn!(%error, topic = self.topic, "the last commit failed: the next owner of the partitions processes the uncommitted records again");
                return self.commits.done();
            }
        }
    }

    /// Says to the group that this member goes. By itself librdkafka says so only for members without a name of their own and
    /// with partitions; for others the group would wait for the end of the session. Who has asked to be taken in must wait for
    /// the answer: before, it does not know what the group calls it.
    fn leave(&self) {
        self.serve(JOIN, || !self.consumer.context().joined.load(Ordering::Acquire));
        self.consumer.unsubscribe();
        self.serve(UNASSIGN, || self.consumer.assignment().is_ok_and(|assigned| assigned.count() > 0));
        self.serve(FAREWELL, || true);
    }

    /// Lets librdkafka call back while `more`; records are of no use any more.
    fn serve(&self, patience: Duration, more: impl Fn() -> bool) {
        let deadline = Instant::now() + patience;
        while more() && Instant::now() < deadline {
            let _ = self.consumer.poll(Duration::from_millis(10));
        }
    }
}

impl Consumer for KafkaConsumer {
    fn fetch<E, F>(&mut self, wait: Duration, limit: usize, mut each: F) -> Result<Fetched, E>
    where
        E: From<BusError>,
        F: FnMut(&Record<'_>) -> Result<(), E>,
    {
        let deadline = Instant::now() + wait;
        // Messages borrow from it while the positions of this one move on.
        let consumer = Arc::clone(&self.consumer);
        let mut records = 0;
        loop {
            self.go_on_committing()?;
            self.monitor_unread()?;
            let changes = self.changes();
            if !changes.is_empty() || records >= limit.max(1) {
                return Ok(Fetched { records, changes });
            }
            let left = deadline.saturating_duration_since(Instant::now()).min(POLL);
            let mut wait = if records == 0 { left } else { Duration::ZERO };
            while records < limit {
                match consumer.poll(wait) {
                    Some(Ok(message)) => {
                        wait = Duration::ZERO;
                        if self.expects(partition(&message), message.offset()) {
                            records += 1;
                            each(&record(&message))?;
                        }
                    }
                    Some(Err(error)) => {
                        let doing = || format!("reading {}", self.topic);
                        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
                        let error = bus_error(doing(), &error);
                        // librdkafka goes on by itself after any other.
                        if fatal || matches!(error, BusError::Refused { .. } | BusError::NotOwner { .. }) {
                            return Err(error.into());
                        }
                        tracing::warn!(%error, "Kafka");
                    }
                    None => break,
                }
            }
            if records > 0 || limit == 0 || Instant::now() >= deadline {
                let changes = self.changes();
                return Ok(Fetched { records, changes });
            }
        }
    }

    fn start(&mut self, from: &[(Partition, Offset)]) -> Result<(), BusError> {
        for (partition, _) in from {
            if !self.owned.contains(partition) {
                return Err(self.refused(
                    "starting to read",
                    *partition,
                    "it is not assigned to this consumer",
                ));
            }
        }
        let doing = format!("starting to read {}", self.topic);
        let at = |offset: Offset| {
            if offset.0 <= 0 { KafkaOffset::Beginning } else { KafkaOffset::Offset(offset.0) }
        };
        let (again, new): (Vec<_>, Vec<_>) =
            from.iter().partition(|(partition, _)| self.reading.is_started(*partition));
        if !again.is_empty() {
            let list = self.list("starting to read", again.iter().map(|(p, o)| (*p, at(*o))))?;
            self.consumer.seek_partitions(list, PATIENCE).map_err(|error| bus_error(&*doing, &error))?;
        }
        if !new.is_empty() {
            let list = self.list("starting to read", new.iter().map(|(p, o)| (*p, at(*o))))?;
            self.consumer.incremental_assign(&list).map_err(|error| bus_error(&*doing, &error))?;
        }
        for (partition, offset) in from {
            self.reading.start(*partition, *offset);
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), BusError> {
        if let Some(stranger) = partitions.iter().find(|partition| !self.revoked.contains(partition)) {
            return Err(self.refused("releasing", *stranger, "it was neither revoked nor lost"));
        }
        if partitions.iter().any(|partition| self.commits.open().contains_key(partition)) {
            self.commit_now();
        }
        for partition in partitions {
            self.reading.stop(*partition);
            self.owned.remove(partition);
            self.released.insert(*partition);
        }
        self.answer_revocation()
    }

    fn pause(&mut self, partitions: &[Partition], paused: bool) -> Result<(), BusError> {
        for partition in partitions {
            if !self.reading.is_started(*partition) {
                return Err(self.refused("pausing", *partition, "it is not being read by this consumer"));
            }
        }
        let list = self.list("pausing", partitions.iter().map(|p| (*p, KafkaOffset::Invalid)))?;
        let done = if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        done.map_err(|error| bus_error(format!("pausing {}", self.topic), &error))
    }

    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<(Partition, Option<Commit>)>, BusError> {
        self.group("looking up offsets of")?;
        committed(&self.consumer, &self.topic, partitions, PATIENCE)
    }

    fn commit(&mut self, commits: &[(Partition, Commit)]) -> Result<(), BusError> {
        self.group("committing to")?;
        if let Some((partition, _)) = commits.iter().find(|(partition, _)| !self.owned.contains(partition)) {
            return Err(self.not_owner(*partition, "it was given up or lost"));
        }
        self.commits.add(commits);
        self.go_on_committing()
    }

    fn partitions(&mut self, patience: Duration) -> Result<u32, BusError> {
        partitions_of(&self.consumer, &self.topic, patience)
    }

    fn end_offsets(
        &mut self,
        partitions: &[Partition],
        patience: Duration,
    ) -> Result<Vec<(Partition, Offset)>, BusError> {
        offsets_at(&self.consumer, &self.topic, partitions.iter().copied(), KafkaOffset::End, patience)
    }

    fn close(mut self) {
        let deadline = Instant::now() + LAST_COMMIT;
        while Instant::now() < deadline {
            match self.go_on_committing() {
                Ok(()) if !self.commits.open().is_empty() => {}
                Ok(()) => return,
                Err(error) => {
                    return tracing::warn!(%error, topic = self.topic, "the last commit failed: the next owner of the partitions processes the uncommitted records again");
                }
            }
            self.serve(Duration::from_millis(10), || true);
        }
        tracing::warn!(
            topic = self.topic,
            "the last commit failed: the next owner of the partitions processes the uncommitted records again"
        );
    }
}

impl Drop for KafkaConsumer {
    /// Answers what is still open, so that librdkafka can leave the group; leaving happens when the client is dropped.
    fn drop(&mut self) {
        self.consumer.context().closing.store(true, Ordering::Release);
        if let Subscription::All { .. } = self.subscription {
            return;
        }
        if let Err(error) = self.go_on_committing() {
            tracing::debug!(%error, topic = self.topic, "the last commit");
        }
        for change in self.consumer.context().take() {
            match change {
                Change::Assigned(partitions) => self.owned.extend(&partitions),
                Change::Revoked(partitions) | Change::Lost(partitions) => self.revoked.extend(&partitions),
                Change::Restarted(_) => {}
            }
        }
        let never: Vec<_> =
            self.owned.iter().copied().filter(|partition| !self.reading.is_started(*partition)).collect();
        let answered = self
            .list("leaving", never.into_iter().map(|partition| (partition, KafkaOffset::End)))
            .and_then(|never| match never.count() {
                0 => Ok(()),
                _ => self.consumer.incremental_assign(&never).map_err(|error| bus_error("leaving", &error)),
            })
            .and_then(|()| {
                self.released = self.revoked.clone();
                self.answer_revocation()
            });
        if let Err(error) = answered {
            tracing::debug!(%error, topic = self.topic, "the group was left with a rebalance open");
        }
        self.leave();
        if let Some(thread) = self.commit_thread.take() {
            let idle = !self.commits.sending() || thread.answer().is_some();
            thread.stop(idle);
        }
    }
}
