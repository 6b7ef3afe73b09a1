//! What is done with records: the part that differs from consumer to consumer.

use std::time::Duration;

use herd_bus::{BusError, Commit, Consumer, Record};
use herd_spec::units::{Offset, Partition};
use herd_stage::Clock;

use crate::Assignment;

/// Positions to commit. Those that are committed already are left out.
pub type Commits = Vec<(Partition, Commit)>;

/// What a member does with the records of its partitions.
///
/// Errors are returned, and the first one ends the member: whoever runs it joins anew, and goes on from the commit.
pub trait Processor: Sized {
    /// What it reads from.
    type Consumer: Consumer;
    /// What tells it the time.
    type Clock: Clock;
    /// What stops it.
    type Error;

    /// A failure of the bus, in its own terms.
    fn bus_error(&self, error: BusError) -> Self::Error;

    /// What is to be fetched next, waiting at most `wait`. None: what is under way must end first.
    fn demand(&mut self, wait: Duration) -> Option<Demand>;

    /// Prepares for partitions that are assigned to it, and says where to begin in each.
    ///
    /// # Errors
    /// What waiting does not mend; otherwise [`TakeOver::Later`].
    fn take_over(
        &mut self,
        assignment: &mut Assignment<Self>,
        partitions: &[Partition],
    ) -> Result<TakeOver, Self::Error>;

    /// Takes a record in.
    ///
    /// # Errors
    /// What stops the member. No further record is handed to it.
    fn process(&mut self, record: &Record<'_>) -> Result<(), Self::Error>;

    /// Moves on what is under way, waiting at most `wait`: sends what is due, waits for acknowledgements. Returns what may be
    /// committed now.
    ///
    /// # Errors
    /// What stops the member.
    fn advance(&mut self, assignment: &mut Assignment<Self>, wait: Duration) -> Result<Commits, Self::Error>;

    /// Whether something is under way that [`Processor::advance`] moves on.
    fn is_busy(&self) -> bool {
        false
    }

    /// Begins to bring everything taken in to an end. If it then [is busy](Processor::is_busy), it is advanced until it no longer
    /// is. Returns what may be committed at once.
    ///
    /// # Errors
    /// What stops the member.
    fn flush(&mut self, _assignment: &mut Assignment<Self>, _why: Flush<'_>) -> Result<Commits, Self::Error> {
        Ok(Vec::new())
    }

    /// How long it may be busy after that.
    fn patience(&self) -> Duration {
        Duration::MAX
    }

    /// It was busy for longer.
    ///
    /// # Errors
    /// If what was under way cannot be left to a successor.
    fn overdue(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Drops what it holds of partitions that are no longer its own.
    fn drop_partitions(&mut self, partitions: &[Partition]);

    /// A commit failed. While partitions are handed over, [`BusError::NotOwner`] is not reported: their new owner does it again.
    ///
    /// # Errors
    /// If that stops the member.
    fn commit_failed(&mut self, error: BusError) -> Result<(), Self::Error> {
        Err(self.bus_error(error))
    }
}

/// What is to be fetched.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// At most so many records.
    pub limit: usize,
    /// How long to wait for the first.
    pub wait: Duration,
    /// Whether the time until it comes counts as idle.
    pub idle: bool,
}

/// The answer to an assignment.
#[derive(Clone, Debug)]
pub enum TakeOver {
    /// Begin to read.
    Begin(Vec<Start>),
    /// Where to begin cannot be found out now; ask again after this pause.
    Later(Duration),
}

/// Where reading of a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The partition.
    pub partition: Partition,
    /// The first offset to read.
    pub from: Offset,
    /// What is known to be committed: the same is not committed again.
    pub committed: Option<Commit>,
}

impl Start {
    /// At this offset, whatever is committed.
    #[must_use]
    pub fn at(partition: Partition, from: Offset) -> Self {
        Self { partition, from, committed: None }
    }
}

/// Why everything is to be brought to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush<'a> {
    /// These partitions go to another member.
    HandOver(&'a [Partition]),
    /// The member leaves its group.
    Finish,
}
