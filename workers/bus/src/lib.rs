//! The bus between stages: partitioned logs with consumer groups, in the terms of Apache Kafka.
//!
//! One narrow trait family, made for batches, three implementations with one behaviour suite, each behind a feature of its name:
//! - `kafka`: Apache Kafka through librdkafka;
//! - `embedded`: durable logs in this process, for `herd up`;
//! - `simulated`: in memory, on a virtual clock, with faults from a seed: for tests.
//!
//! Stages are driven from one thread each: `fetch` hands out borrowed records, nothing is copied or allocated a record,
//! and everything that happens to an assignment comes back from `fetch` as an event, so a stage is a plain loop.

pub mod ack;
#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
#[cfg(any(feature = "embedded", feature = "simulated"))]
mod group;
mod headers;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod partitioner;
#[cfg(any(feature = "embedded", feature = "simulated"))]
mod signal;
#[cfg(feature = "simulated")]
pub mod simulated;

use std::time::Duration;

use herd_spec::plan::TopicPlan;
use herd_spec::units::{Offset, Partition, WallTime};

pub use ack::{Ack, Acks};
pub use error::{BusError, DeliveryError, SendError};
pub use headers::Headers;

/// Partitioned logs with consumer groups. Cheap to clone; all clones are the same bus.
pub trait Bus: Clone + Send + Sync + 'static {
    /// What sends.
    type Producer: Producer;
    /// What receives.
    type Consumer: Consumer;

    /// Opens a producer. `name` is what brokers and logs call it.
    ///
    /// # Errors
    /// If the settings are refused.
    fn producer(&self, name: &str) -> Result<Self::Producer, BusError>;

    /// Joins a group on a topic, or reads all of it ([`Membership`]).
    ///
    /// # Errors
    /// If the settings are refused or the topic is not there.
    fn consumer(&self, topic: &str, membership: Membership<'_>) -> Result<Self::Consumer, BusError>;

    /// Creates the topics that are missing and adds partitions to those that have fewer; never removes any.
    ///
    /// # Errors
    /// If the broker refuses, or a topic has *more* partitions than asked for where that matters to the caller: see
    /// [`Bus::partitions`].
    fn ensure_topics(&self, topics: &[&TopicPlan]) -> Result<(), BusError>;

    /// How many partitions the topic has now.
    ///
    /// # Errors
    /// If the topic is not there or the broker does not answer.
    fn partitions(&self, topic: &str) -> Result<u32, BusError>;

    /// Reads one partition from its beginning to where it ended when the call was made, outside any group. Returns the
    /// offset after the last record.
    ///
    /// # Errors
    /// If the broker does not answer for `patience` on end, or the partition is not there.
    fn scan(
        &self,
        topic: &str,
        partition: Partition,
        patience: Duration,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Offset, BusError>;

    /// Reads one partition from a time on to where it ended when the call was made, outside any group: begins with the oldest
    /// record whose timestamp is not before [`Since::time`], and hands out every record after it, also those whose timestamp is
    /// earlier. Hands out at most [`Since::most`] records, the newest.
    ///
    /// # Errors
    /// As [`Bus::scan`].
    fn scan_since(
        &self,
        topic: &str,
        partition: Partition,
        since: Since,
        patience: Duration,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Scanned, BusError>;

    /// How far each partition of the topic is filled and how far the group has committed, for lag.
    ///
    /// # Errors
    /// If the broker does not answer.
    fn progress(&self, topic: &str, group: &str) -> Result<Vec<Progress>, BusError>;

    /// Whether the bus answers now, within `patience`: for readiness.
    ///
    /// # Errors
    /// Why it does not.
    fn ping(&self, patience: Duration) -> Result<(), BusError>;
}

/// Where a scan of a part of a partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// The time, as senders set it. What is older than the oldest record kept means that record.
    pub time: WallTime,
    /// How many records are handed out at most. Offsets are counted: in a compacted topic, which has gaps, it may be fewer.
    pub most: u64,
}

impl Since {
    /// The oldest offset that may be handed out of a partition from `start` to `end`.
    fn oldest(self, start: Offset, end: Offset) -> Offset {
        let most = i64::try_from(self.most).unwrap_or(i64::MAX);
        Offset(end.0.saturating_sub(most)).max(start)
    }
}

/// What a scan of a part of a partition looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Offset of the first record handed out; `end` if there was none.
    pub start: Offset,
    /// The offset after the last record.
    pub end: Offset,
    /// Whether [`Since::most`] may have left out older records of the time asked for.
    pub cut: bool,
}

/// How far a partition is filled and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The partition.
    pub partition: Partition,
    /// Offset of the oldest record still kept.
    pub start: Offset,
    /// Offset of the next record to be written.
    pub end: Offset,
    /// The group's committed position, if it has one.
    pub committed: Option<Offset>,
}

impl Progress {
    /// Records waiting: `max(0, end − max(committed, start))`.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let from = self.committed.unwrap_or(self.start).max(self.start);
        u64::try_from(self.end.0 - from.0).unwrap_or(0)
    }
}

/// The most metadata a commit can carry: Kafka's default.
pub const METADATA_BYTES: usize = 4096;

/// How a consumer comes by its partitions.
#[derive(Clone, Copy, Debug)]
pub enum Membership<'a> {
    /// It shares the topic with the other members of the group; rebalances are cooperative: what stays is not paused.
    Group {
        /// The group.
        group: &'a str,
        /// A name that stays the same over a restart of this member, to spare the group a rebalance. Unique in the group.
        instance: Option<&'a str>,
    },
    /// It reads every partition, also those added later, and commits nothing.
    All,
}

/// Receives from one topic. Driven from one thread.
pub trait Consumer: Send {
    /// Waits at most `wait` for the first record or change, then hands all records that are at hand, at most `limit`, to
    /// `each`, a partition's in the order of their offsets. Must be called often enough (the broker takes a member that
    /// does not for dead: 5 minutes).
    ///
    /// After [`Change::Assigned`] nothing comes from these partitions until [`Consumer::start`]. After
    /// [`Change::Revoked`] the group waits for [`Consumer::release`]; until then records may still come and commits are
    /// still taken. After [`Change::Lost`] another member may already own them: commits are refused.
    ///
    /// # Errors
    /// Those of the bus: retryable ones are dealt with inside (and logged), what comes out is permanent. The first error that
    /// `each` returns ends the call; whether the records of this call come again is then not said, so drop the consumer.
    fn fetch<E, F>(&mut self, wait: Duration, limit: usize, each: F) -> Result<Fetched, E>
    where
        E: From<BusError>,
        F: FnMut(&Record<'_>) -> Result<(), E>;

    /// Begins to receive from these partitions, at these offsets ([`Offset`] 0 or anything before the oldest record means
    /// the oldest record).
    ///
    /// # Errors
    /// If a partition is not assigned.
    fn start(&mut self, from: &[(Partition, Offset)]) -> Result<(), BusError>;

    /// Gives revoked partitions back.
    ///
    /// # Errors
    /// If the client refuses.
    fn release(&mut self, partitions: &[Partition]) -> Result<(), BusError>;

    /// Stops receiving from these partitions (`true`), or goes on (`false`), keeping them. Records already at hand are
    /// not lost: they come after going on.
    ///
    /// # Errors
    /// If a partition is not assigned.
    fn pause(&mut self, partitions: &[Partition], paused: bool) -> Result<(), BusError>;

    /// What the group has committed for these partitions.
    ///
    /// # Errors
    /// If the broker does not answer.
    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<(Partition, Option<Commit>)>, BusError>;

    /// Commits, without waiting for the group, which has it a moment later: while others join, it may be that only when they
    /// have. [`Consumer::release`] and [`Consumer::close`] wait for it (some seconds). A member that dies before has committed
    /// less.
    ///
    /// # Errors
    /// If this member no longer owns a partition ([`BusError::NotOwner`]), or the broker refuses for good.
    fn commit(&mut self, commits: &[(Partition, Commit)]) -> Result<(), BusError>;

    /// How many partitions the topic has now. One request.
    ///
    /// # Errors
    /// If the broker does not answer within `patience`.
    fn partitions(&mut self, patience: Duration) -> Result<u32, BusError>;

    /// Where these partitions end now: the offset of the next record to be written. One request.
    ///
    /// # Errors
    /// If the broker does not answer within `patience`.
    fn end_offsets(
        &mut self,
        partitions: &[Partition],
        patience: Duration,
    ) -> Result<Vec<(Partition, Offset)>, BusError>;

    /// Leaves the group in good order, so that others take over at once.
    fn close(self);
}

/// What `fetch` brought besides records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// How many records were handed out.
    pub records: usize,
    /// What happened to the assignment, in order. Records handed out in the same call came before it.
    pub changes: Vec<Change>,
}

/// Something that happened to an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These partitions are this member's now: look up where to begin, then [`Consumer::start`].
    Assigned(Vec<Partition>),
    /// These are to go to another member: finish, commit, then [`Consumer::release`].
    Revoked(Vec<Partition>),
    /// These went without being asked for back (the group took this member for dead): drop their state, then
    /// [`Consumer::release`].
    Lost(Vec<Partition>),
    /// The logs of these begin anew, because the topic was deleted and created again, or records were lost: offsets of before mean
    /// nothing any more. They stay this member's; nothing comes from them until [`Consumer::start`].
    Restarted(Vec<Partition>),
}

/// A committed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The next offset to process.
    pub next: Offset,
    /// Whatever the stage needs to take over there; at most 4 KiB.
    pub metadata: String,
}

/// A record, borrowed from the client's buffers.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The partition it was read from.
    pub partition: Partition,
    /// Its offset there.
    pub offset: Offset,
    /// When it was sent, as the sender set it.
    pub timestamp: WallTime,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// Sends. Cheap to clone; clones share one connection and one queue.
pub trait Producer: Clone + Send + Sync + 'static {
    /// Hands a record over. It will be written once, in the order of calls for one partition, and `ack` told so, or told
    /// that it failed for good. Never blocks.
    ///
    /// # Errors
    /// [`SendError`] if the record was not taken; `ack` then hears nothing more.
    fn send(&self, record: &Outgoing<'_>, ack: Ack) -> Result<(), SendError>;

    /// Waits until all that was taken is acknowledged or failed, at most `patience`. Returns how many are still open.
    fn flush(&self, patience: Duration) -> usize;
}

/// A record to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Where to.
    pub topic: &'a str,
    /// The partition; none: by the key, as Kafka's Java client does (murmur2), random without a key.
    pub partition: Option<Partition>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// When: the record's timestamp.
    pub timestamp: WallTime,
    /// Headers.
    pub headers: &'a [(&'a str, &'a [u8])],
}
