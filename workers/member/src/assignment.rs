//! What is assigned to a member, and its consumer.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use herd_bus::{BusError, Change, Commit, Consumer};
use herd_spec::units::{Offset, Partition};
use herd_stage::{Clock, Waiting};
use tokio_util::sync::CancellationToken;

use crate::STEP;
use crate::processor::{Commits, Demand, Processor, TakeOver};

/// The partitions of a member, and the consumer that reads them.
pub struct Assignment<P: Processor> {
    consumer: P::Consumer,
    clock: P::Clock,
    waiting: Option<Waiting>,
    /// Partitions being read, and what is known to be committed of each.
    owned: BTreeMap<Partition, Option<Commit>>,
    /// Partitions assigned and not yet read.
    pending: Vec<Partition>,
    /// When the processor is asked again where to begin in these; none: at once.
    ask_again: Option<Instant>,
    /// Changes that are not yet applied.
    changes: VecDeque<Change>,
    /// Whether the consumer is told to bring nothing.
    held: bool,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The time is over.
    Done,
    /// The member is to stop, or partitions are to be given back: see to that first.
    Interrupted,
}

/// What ended a fetch.
enum Failure<E> {
    Bus(BusError),
    Processor(E),
}

impl<E> From<BusError> for Failure<E> {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl<P: Processor> Assignment<P> {
    pub(crate) fn new(consumer: P::Consumer, clock: P::Clock, waiting: Option<Waiting>) -> Self {
        Self {
            consumer,
            clock,
            waiting,
            owned: BTreeMap::new(),
            pending: Vec::new(),
            ask_again: None,
            changes: VecDeque::new(),
            held: false,
        }
    }

    /// What reads, to look something up.
    pub fn consumer(&mut self) -> &mut P::Consumer {
        &mut self.consumer
    }

    pub(crate) fn clock(&self) -> &P::Clock {
        &self.clock
    }

    /// Waits for `pause` and stays a member of the group meanwhile. Nothing new is fetched, except what was at hand already; of
    /// that at most `limit` records at a time.
    ///
    /// # Errors
    /// Those of the bus and of the processor.
    pub fn wait_as_member(
        &mut self,
        processor: &mut P,
        pause: Duration,
        limit: usize,
        shutdown: &CancellationToken,
    ) -> Result<Waited, P::Error> {
        let until = self.clock.instant() + pause;
        self.hold(true).map_err(|error| processor.bus_error(error))?;
        let waited = loop {
            let wait = until.saturating_duration_since(self.clock.instant()).min(STEP);
            self.fetch(processor, Demand { limit, wait, idle: true })?;
            let leaving = |change: &Change| !matches!(change, Change::Assigned(_));
            if shutdown.is_cancelled() || self.changes.iter().any(leaving) {
                break Waited::Interrupted;
            }
            if self.clock.instant() >= until {
                break Waited::Done;
            }
        };
        self.hold(false).map_err(|error| processor.bus_error(error))?;
        Ok(waited)
    }

    /// Stops fetching from all partitions (`true`), or goes on, and stays a member of the group.
    ///
    /// # Errors
    /// If the bus refuses.
    pub fn hold(&mut self, held: bool) -> Result<(), BusError> {
        if self.held != held {
            let is_lost = |partition: &Partition| {
                let lost = |change: &Change| matches!(change, Change::Lost(gone) if gone.contains(partition));
                self.changes.iter().any(lost)
            };
            let partitions: Vec<Partition> =
                self.owned.keys().copied().filter(|partition| !is_lost(partition)).collect();
            self.consumer.pause(&partitions, held)?;
            self.held = held;
        }
        Ok(())
    }

    /// Hands records to the processor, and keeps the changes of the assignment for [`Self::next_change`].
    pub(crate) fn fetch(&mut self, processor: &mut P, demand: Demand) -> Result<(), P::Error> {
        let (clock, waiting) = (&self.clock, self.waiting.as_ref().filter(|_| demand.idle));
        let begun = waiting.map(|_| clock.instant());
        let mut first = None;
        let fetched = self.consumer.fetch(demand.wait, demand.limit, |record| {
            if first.is_none() && waiting.is_some() {
                first = Some(clock.instant());
            }
            processor.process(record).map_err(Failure::Processor)
        });
        if let (Some(waiting), Some(begun)) = (waiting, begun) {
            waiting.waited(begun, first.unwrap_or_else(|| clock.instant()));
        }
        match fetched {
            Ok(fetched) => {
                self.changes.extend(fetched.changes);
                Ok(())
            }
            Err(Failure::Bus(error)) => Err(processor.bus_error(error)),
            Err(Failure::Processor(error)) => Err(error),
        }
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    pub(crate) fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    pub(crate) fn assigned(&mut self, partitions: Vec<Partition>) {
        self.pending.extend(partitions);
        self.ask_again = None;
    }

    /// To be taken over again, though they stay this member's.
    pub(crate) fn restarted(&mut self, partitions: Vec<Partition>) {
        self.owned.retain(|partition, _| !partitions.contains(partition));
        self.assigned(partitions);
    }

    pub(crate) fn reads_any(&self, partitions: &[Partition]) -> bool {
        partitions.iter().any(|partition| self.owned.contains_key(partition))
    }

    /// Begins to read what is assigned, where the processor says.
    pub(crate) fn take_over(&mut self, processor: &mut P) -> Result<(), P::Error> {
        if self.pending.is_empty() || self.ask_again.is_some_and(|time| self.clock.instant() < time) {
            return Ok(());
        }
        let partitions = std::mem::take(&mut self.pending);
        let starts = match processor.take_over(self, &partitions)? {
            TakeOver::Begin(starts) => starts,
            TakeOver::Later(pause) => {
                self.pending = partitions;
                self.ask_again = (!pause.is_zero()).then(|| self.clock.instant() + pause);
                return Ok(());
            }
        };
        let positions: Vec<(Partition, Offset)> =
            starts.iter().map(|start| (start.partition, start.from)).collect();
        let begin = |consumer: &mut P::Consumer| {
            consumer.start(&positions)?;
            if self.held { consumer.pause(&partitions, true) } else { Ok(()) }
        };
        begin(&mut self.consumer).map_err(|error| processor.bus_error(error))?;
        self.owned.extend(starts.into_iter().map(|start| (start.partition, start.committed)));
        Ok(())
    }

    pub(crate) fn release(&mut self, partitions: &[Partition]) -> Result<(), BusError> {
        self.pending.retain(|partition| !partitions.contains(partition));
        self.owned.retain(|partition, _| !partitions.contains(partition));
        self.consumer.release(partitions)
    }

    /// Commits what is new of it.
    pub(crate) fn commit(&mut self, mut commits: Commits) -> Result<(), BusError> {
        let is_new = |(partition, commit): &(Partition, Commit)| {
            self.owned.get(partition).is_some_and(|known| known.as_ref() != Some(commit))
        };
        commits.retain(is_new);
        if commits.is_empty() {
            return Ok(());
        }
        self.consumer.commit(&commits)?;
        self.owned.extend(commits.into_iter().map(|(partition, commit)| (partition, Some(commit))));
        Ok(())
    }

    pub(crate) fn close(self) {
        self.consumer.close();
    }
}
