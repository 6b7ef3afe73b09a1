//! The one driver of all consumers: fold, judge, the table sink, the webhook sink and the api's followers say what is done with
//! records ([`Processor`]); a [`Member`] does the rest.
//!
//! ```text
//! Member::step       fetch ──► changes of the assignment ──► take over ──► advance ──► commit
//!                      │        │ revoked: flush, commit,        │            │
//! what the             │        │          drop, release         │            │
//! processor does       │        │ lost: drop, release            │            │
//!                      │        │ restarted: flush, commit, drop │            │
//! meanwhile         process   flush, drop_partitions         take_over     advance
//! ```
//!
//! Everything runs on the thread that calls [`Member::step`]; nothing is allocated and nothing dispatched at run time for a record.

mod assignment;
mod processor;

use std::time::Duration;

use herd_bus::{BusError, Change};
use herd_spec::units::{Partition, WallTime};
use herd_stage::{Clock, Waiting};
use tokio_util::sync::CancellationToken;

pub use assignment::{Assignment, Waited};
pub use processor::{Commits, Demand, Flush, Processor, Start, TakeOver};

/// How long one step waits at most: how soon a request to stop is noticed.
pub const STEP: Duration = Duration::from_millis(100);

/// A consumer with what is done with its records. Driven from one thread.
pub struct Member<P: Processor> {
    assignment: Assignment<P>,
    processor: P,
}

impl<P: Processor> Member<P> {
    /// Drives `processor` over what `consumer` brings. `waiting` counts the time without work.
    pub fn new(consumer: P::Consumer, processor: P, clock: P::Clock, waiting: Option<Waiting>) -> Self {
        Self { assignment: Assignment::new(consumer, clock, waiting), processor }
    }

    /// What is done with the records.
    pub fn processor(&self) -> &P {
        &self.processor
    }

    /// Steps until `shutdown` is cancelled.
    ///
    /// # Errors
    /// The first one of a step.
    pub fn run(&mut self, shutdown: &CancellationToken) -> Result<(), P::Error> {
        while !shutdown.is_cancelled() {
            self.step(STEP)?;
        }
        Ok(())
    }

    /// Does the next thing, waiting at most `wait` for something to do.
    ///
    /// # Errors
    /// What stops the stage; a new member goes on from the commit.
    pub fn step(&mut self, wait: Duration) -> Result<(), P::Error> {
        // Changes that came while something else was under way are applied before anything new comes.
        let demand = if self.assignment.has_changes() { None } else { self.processor.demand(wait) };
        if let Some(demand) = demand {
            self.assignment.fetch(&mut self.processor, demand)?;
        }
        self.apply_changes()?;
        self.assignment.take_over(&mut self.processor)?;
        // A step waits once.
        self.advance(if demand.is_some() { Duration::ZERO } else { wait })
    }

    /// Brings what is under way and what was taken in to an end, commits it, and leaves the group in good order.
    ///
    /// # Errors
    /// If that fails; a successor then does a little more again.
    pub fn finish(mut self) -> Result<(), P::Error> {
        self.settle()?;
        let commits = self.processor.flush(&mut self.assignment, Flush::Finish)?;
        self.commit(commits)?;
        self.settle()?;
        self.assignment.close();
        Ok(())
    }

    fn advance(&mut self, wait: Duration) -> Result<(), P::Error> {
        let commits = self.processor.advance(&mut self.assignment, wait)?;
        self.commit(commits)
    }

    fn commit(&mut self, commits: Commits) -> Result<(), P::Error> {
        self.assignment.commit(commits).or_else(|error| self.processor.commit_failed(error))
    }

    fn apply_changes(&mut self) -> Result<(), P::Error> {
        while let Some(change) = self.assignment.next_change() {
            match change {
                Change::Assigned(partitions) => self.assignment.assigned(partitions),
                Change::Revoked(partitions) => {
                    if self.assignment.reads_any(&partitions) {
                        self.hand_over(&partitions)?;
                    }
                    self.give_back(&partitions)?;
                }
                Change::Lost(partitions) => self.give_back(&partitions)?,
                Change::Restarted(partitions) => {
                    // What was read of the former log counts; then it is as if they came from another member.
                    self.hand_over(&partitions)?;
                    self.processor.drop_partitions(&partitions);
                    self.assignment.restarted(partitions);
                }
            }
        }
        Ok(())
    }

    /// In good order: whoever comes next has little to do again.
    fn hand_over(&mut self, partitions: &[Partition]) -> Result<(), P::Error> {
        let mut commits = self.processor.flush(&mut self.assignment, Flush::HandOver(partitions))?;
        let deadline = self.deadline();
        loop {
            match self.assignment.commit(commits) {
                // They were lost meanwhile: whoever has them does it again.
                Ok(()) | Err(BusError::NotOwner { .. }) => {}
                Err(error) => self.processor.commit_failed(error)?,
            }
            if !self.processor.is_busy() {
                return Ok(());
            }
            if self.assignment.clock().now() > deadline {
                return self.processor.overdue();
            }
            commits = self.processor.advance(&mut self.assignment, STEP)?;
        }
    }

    fn give_back(&mut self, partitions: &[Partition]) -> Result<(), P::Error> {
        self.processor.drop_partitions(partitions);
        self.assignment.release(partitions).map_err(|error| self.processor.bus_error(error))
    }

    /// Moves on what is under way until nothing is.
    fn settle(&mut self) -> Result<(), P::Error> {
        let deadline = self.deadline();
        while self.processor.is_busy() {
            if self.assignment.clock().now() > deadline {
                return self.processor.overdue();
            }
            self.apply_changes()?;
            self.advance(STEP)?;
        }
        Ok(())
    }

    fn deadline(&self) -> WallTime {
        self.assignment.clock().now().plus(self.processor.patience())
    }
}
