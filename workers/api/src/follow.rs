//! Follows a topic from near its end, on a thread of its own, outside any group.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use herd_bus::{Bus, BusError, Consumer, Membership, Record};
use herd_member::{Assignment, Commits, Demand, Member, Processor, Start, TakeOver};
use herd_spec::units::{Offset, Partition};
use herd_stage::{Health, SystemClock};
use tokio_util::sync::CancellationToken;

/// How long a fetch waits; a record ends the wait at once. Bounds how long shutdown takes.
const WAIT: Duration = Duration::from_millis(200);
/// Records of one fetch.
const FETCH_MAX: usize = 1_000;
/// How long the broker may take to say where partitions end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the bus may take to say whether it answers.
const PING: Duration = Duration::from_secs(2);
/// From one try to the next.
const AGAIN: Duration = Duration::from_secs(1);
/// After so many fetches without a record the end is reached, wherever it is (old records may have expired).
const QUIET_FETCHES: u32 = 10;

/// What to follow.
#[derive(Clone, Debug)]
pub(crate) struct Following<'a> {
    /// The topic.
    pub(crate) topic: &'a str,
    /// Start this many records before the end, over all partitions.
    pub(crate) history: i64,
    /// The step in the report of the stage's health: it has begun once the history is read.
    pub(crate) step: &'static str,
}

/// Where to go on, and where each partition ended when it was first seen. Kept while the bus is away.
#[derive(Debug, Default)]
struct Read {
    next: HashMap<Partition, Offset>,
    ends: HashMap<Partition, Offset>,
    caught_up: bool,
}

/// What a follower does with the records of its topic.
struct Follower<'a, B, F> {
    following: &'a Following<'a>,
    health: &'a Health,
    read: &'a mut Read,
    each: &'a mut F,
    /// Fetches without a record, on end.
    quiet: u32,
    /// Records of the fetch under way.
    fetched: usize,
    /// Whether it does not know where to begin.
    lost: bool,
    bus: PhantomData<B>,
}

/// Hands every record to `each` until `shutdown`. While the bus does not answer, or the topic is not there, it says so and tries again.
pub(crate) fn follow<B: Bus>(
    bus: &B,
    following: &Following<'_>,
    health: &Health,
    shutdown: &CancellationToken,
    mut each: impl FnMut(&Record<'_>),
) {
    health.starting(following.step, format!("reading the latest records of {}", following.topic));
    let mut read = Read::default();
    while !shutdown.is_cancelled() {
        let follower = Follower {
            following,
            health,
            read: &mut read,
            each: &mut each,
            quiet: 0,
            fetched: 0,
            lost: false,
            bus: PhantomData,
        };
        let Err(error) = follower.run(bus, shutdown) else { return };
        tracing::warn!(topic = following.topic, %error, "cannot be followed; trying again");
        health.fail(following.step, error.trouble(), error.to_string());
        if matches!(error, BusError::Missing { .. }) {
            // One that is created again begins anew.
            read = Read::default();
        }
        let until = Instant::now() + AGAIN;
        while Instant::now() < until && !shutdown.is_cancelled() {
            std::thread::sleep(WAIT);
        }
    }
}

impl<B: Bus, F: FnMut(&Record<'_>)> Follower<'_, B, F> {
    fn run(self, bus: &B, shutdown: &CancellationToken) -> Result<(), BusError> {
        // What waits for a broker waits for long; whether it answers is known sooner.
        bus.ping(PING)?;
        let consumer = bus.consumer(self.following.topic, Membership::All)?;
        let mut member = Member::new(consumer, self, SystemClock, None);
        while !shutdown.is_cancelled() {
            member.step(WAIT)?;
        }
        member.finish()
    }
}

impl<B: Bus, F: FnMut(&Record<'_>)> Processor for Follower<'_, B, F> {
    type Consumer = B::Consumer;
    type Clock = SystemClock;
    type Error = BusError;

    fn bus_error(&self, error: BusError) -> BusError {
        error
    }

    fn demand(&mut self, wait: Duration) -> Option<Demand> {
        self.fetched = 0;
        Some(Demand { limit: FETCH_MAX, wait, idle: true })
    }

    fn take_over(
        &mut self,
        assignment: &mut Assignment<Self>,
        partitions: &[Partition],
    ) -> Result<TakeOver, BusError> {
        let found = match assignment.consumer().end_offsets(partitions, PATIENCE) {
            Ok(found) => found,
            Err(error) if error.is_retryable() => {
                self.health.fail(self.following.step, error.trouble(), error.to_string());
                self.lost = true;
                return Ok(TakeOver::Later(Duration::ZERO));
            }
            Err(error) => return Err(error),
        };
        (self.lost, self.quiet) = (false, 0);
        let positions = self.read.positions(&found, self.following.history);
        Ok(TakeOver::Begin(
            positions.into_iter().map(|(partition, from)| Start::at(partition, from)).collect(),
        ))
    }

    fn process(&mut self, record: &Record<'_>) -> Result<(), BusError> {
        self.fetched += 1;
        self.read.next.insert(record.partition, record.offset.next());
        (self.each)(record);
        Ok(())
    }

    /// Says that it has caught up, once it has.
    fn advance(&mut self, _assignment: &mut Assignment<Self>, _wait: Duration) -> Result<Commits, BusError> {
        if self.lost {
            return Ok(Vec::new());
        }
        if !self.read.caught_up {
            self.quiet = if self.fetched == 0 { self.quiet + 1 } else { 0 };
            self.read.caught_up = self.read.is_at_its_ends() || self.quiet >= QUIET_FETCHES;
            self.read.caught_up &= !self.read.ends.is_empty();
        }
        if self.read.caught_up {
            // After a failure the step is well as soon as it reads again.
            self.health.ok(self.following.step);
        }
        Ok(Vec::new())
    }

    fn drop_partitions(&mut self, _partitions: &[Partition]) {}
}

impl Read {
    fn is_at_its_ends(&self) -> bool {
        self.ends.iter().all(|(partition, end)| self.next.get(partition).is_some_and(|at| at >= end))
    }

    /// Where to begin in partitions that end there: where it was left, or so many records before the end.
    fn positions(&mut self, found: &[(Partition, Offset)], history: i64) -> Vec<(Partition, Offset)> {
        let share = history / i64::try_from(found.len().max(1)).unwrap_or(1);
        let positions = found.iter().map(|(partition, end)| {
            self.ends.entry(*partition).or_insert(*end);
            let next = self.next.entry(*partition).or_insert(Offset((end.0 - share).max(0)));
            if *next > *end {
                *next = Offset(0); // the topic was recreated, or lost records
            }
            (*partition, *next)
        });
        positions.collect()
    }
}
