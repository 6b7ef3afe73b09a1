//! What a member has yet to commit. The group learns of it in the background: while a member waits for others to join, its broker
//! answers nothing else on that connection, commits included, and whoever waited for one would stand still as long. A thread waits
//! instead ([`CommitThread`]): nobody is told of the answers to librdkafka's own asynchronous commits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use herd_spec::units::Partition;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::Rebalances;
use super::error::{Kind, bus_error, kind};
use super::kafka_partition;
use crate::{BusError, Commit};

/// Pause before a commit that was refused for now is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(50);

/// The newest commit of each partition that the group does not have yet, and the request under way, one at a time.
#[derive(Debug, Default)]
pub(super) struct Commits {
    open: Batch,
    sent: Option<Batch>,
    not_before: Option<Instant>,
}

pub(super) type Batch = BTreeMap<Partition, Commit>;

impl Commits {
    pub(super) fn add(&mut self, commits: &[(Partition, Commit)]) {
        self.open.extend(commits.iter().cloned());
    }

    pub(super) fn open(&self) -> &Batch {
        &self.open
    }

    /// Whether a request is under way.
    pub(super) fn sending(&self) -> bool {
        self.sent.is_some()
    }

    /// These are not this member's any more.
    pub(super) fn forget(&mut self, partitions: &[Partition]) {
        self.open.retain(|partition, _| !partitions.contains(partition));
    }

    /// What to send now, if anything: it counts as under way.
    pub(super) fn send(&mut self, now: Instant) -> Option<Batch> {
        if self.open.is_empty() || self.sent.is_some() || self.not_before.is_some_and(|time| now < time) {
            return None;
        }
        self.sent = Some(self.open.clone());
        self.sent.clone()
    }

    /// Everything open was committed by another way.
    pub(super) fn done(&mut self) {
        self.open.clear();
    }

    /// The request under way was answered.
    ///
    /// # Errors
    /// If the answer is a refusal for good.
    pub(super) fn answered(
        &mut self,
        result: Result<(), KafkaError>,
        doing: impl FnOnce() -> String,
        now: Instant,
    ) -> Result<(), BusError> {
        let sent = self.sent.take().unwrap_or_default();
        let Err(error) = result else {
            self.open.retain(|partition, commit| sent.get(partition) != Some(commit));
            return Ok(());
        };
        match error.rdkafka_error_code() {
            Some(code) if passes(code) => {
                self.not_before = Some(now + RETRY);
                tracing::debug!(%error, "committing again");
                Ok(())
            }
            // What is lost comes as a change.
            Some(code) if kind(code) == Kind::NotOwner => {
                self.open.clear();
                tracing::warn!(%error, "commit refused because the partitions were reassigned: their new owner processes the uncommitted records again");
                Ok(())
            }
            _ => {
                self.open.clear();
                Err(bus_error(doing(), &error))
            }
        }
    }
}

/// A thread that waits for the answers.
pub(super) struct CommitThread {
    requests: Sender<Batch>,
    answers: Receiver<Result<(), KafkaError>>,
    thread: JoinHandle<()>,
}

impl CommitThread {
    pub(super) fn spawn(consumer: Arc<BaseConsumer<Rebalances>>, topic: &str) -> std::io::Result<Self> {
        let (requests, inbox) = channel::<Batch>();
        let (outbox, answers) = channel();
        let topic = topic.to_owned();
        let work = move || {
            for batch in inbox {
                let committed =
                    offsets(&topic, &batch).and_then(|list| consumer.commit(&list, CommitMode::Sync));
                if outbox.send(committed).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("commits".into()).spawn(work)?;
        Ok(Self { requests, answers, thread })
    }

    /// Sends a request; the answer comes later.
    pub(super) fn send(&self, batch: Batch) {
        // The thread ends after this does.
        let _ = self.requests.send(batch);
    }

    pub(super) fn answer(&self) -> Option<Result<(), KafkaError>> {
        self.answers.try_recv().ok()
    }

    /// The thread ends now if it waits for nothing (`idle`), or once it is answered.
    pub(super) fn stop(self, idle: bool) {
        drop(self.requests);
        if idle && self.thread.join().is_err() {
            tracing::error!("the thread that commits has panicked");
        }
    }
}

/// A list of offsets to commit.
pub(super) fn offsets(topic: &str, commits: &Batch) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, commit) in commits {
        let mut element = list.add_partition(topic, kafka_partition(*partition));
        element.set_offset(Offset::Offset(commit.next.0))?;
        element.set_metadata(&commit.metadata);
    }
    Ok(list)
}

/// Whether a commit refused so may be taken a moment later. In the middle of a rebalance the group is a generation ahead of this
/// member, which learns of it in a moment; what it has not given back is still its own: a cooperative group hands over nothing
/// before.
pub(super) fn passes(code: RDKafkaErrorCode) -> bool {
    kind(code) == Kind::Transient || code == RDKafkaErrorCode::IllegalGeneration
}

#[cfg(test)]
mod tests {
    use herd_spec::units::Offset;

    use super::*;

    fn commit(partition: u32, next: i64) -> (Partition, Commit) {
        (Partition(partition), Commit { next: Offset(next), metadata: String::new() })
    }

    fn open(commits: &Commits) -> Vec<(u32, i64)> {
        commits.open().iter().map(|(partition, commit)| (partition.0, commit.next.0)).collect()
    }

    fn refused(code: RDKafkaErrorCode) -> Result<(), KafkaError> {
        Err(KafkaError::ConsumerCommit(code))
    }

    #[test]
    fn sends_what_comes_while_a_request_is_under_way_after_it() {
        let (mut commits, now) = (Commits::default(), Instant::now());
        assert!(commits.send(now).is_none());
        commits.add(&[commit(0, 5), commit(1, 7)]);
        assert_eq!(commits.send(now).unwrap().len(), 2);
        commits.add(&[commit(0, 6)]);
        assert!(commits.send(now).is_none());
        commits.answered(Ok(()), String::new, now).unwrap();
        assert_eq!(open(&commits), [(0, 6)]);
        assert_eq!(commits.send(now).unwrap().len(), 1);
        commits.answered(Ok(()), String::new, now).unwrap();
        assert_eq!(open(&commits), []);
    }

    #[test]
    fn sends_again_what_is_refused_in_a_rebalance() {
        for code in [RDKafkaErrorCode::IllegalGeneration, RDKafkaErrorCode::RebalanceInProgress] {
            let (mut commits, now) = (Commits::default(), Instant::now());
            commits.add(&[commit(0, 5)]);
            commits.send(now).unwrap();
            commits.answered(refused(code), String::new, now).unwrap();
            assert!(commits.send(now).is_none());
            assert_eq!(commits.send(now + RETRY).unwrap().len(), 1);
        }
    }

    #[test]
    fn drops_commits_of_lost_partitions_and_reports_permanent_refusals() {
        let (mut commits, now) = (Commits::default(), Instant::now());
        commits.add(&[commit(0, 5)]);
        commits.send(now).unwrap();
        commits.answered(refused(RDKafkaErrorCode::UnknownMemberId), String::new, now).unwrap();
        assert_eq!(open(&commits), []);
        commits.add(&[commit(0, 6), commit(1, 1)]);
        commits.forget(&[Partition(1)]);
        assert_eq!(open(&commits), [(0, 6)]);
        commits.send(now).unwrap();
        let told = commits.answered(
            refused(RDKafkaErrorCode::GroupAuthorizationFailed),
            || "committing".into(),
            now,
        );
        assert!(matches!(told, Err(BusError::Refused { doing, .. }) if doing == "committing"));
    }
}
