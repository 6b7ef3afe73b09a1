//! One topic into one table.
//!
//! Positions come from the database: what is assigned is looked up there and started there (`take_over`), and every transaction
//! moves them on (`store`). What the group has committed serves only to show the lag.

mod answer;
mod batch;
mod setup;
mod store;
mod take_over;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use herd_bus::{Bus, BusError, Commit, Membership, Record};
use herd_member::{Assignment, Commits, Demand, Flush, Member, Processor, TakeOver, Waited};
use herd_spec::units::{Offset, Partition};
use herd_stage::backoff::{Pace, Pauses};
use herd_stage::{Clock, Waiting};
use herd_store::{StoreError, Tables};

use self::batch::Batch;
pub use self::setup::{Limits, TableSinkSetup};
use crate::SinkError;
use crate::dead_letter::DeadLetters;
use crate::metrics::{SinkLabels, SinkMetrics};

/// Records taken from the consumer at once: between two looks at the size of the batch.
const FETCH_MAX: usize = 512;
/// A batch is full at this size even with fewer rows.
const FULL: usize = 16 << 20;

/// Where a partition stands.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// In the database.
    stored: Offset,
    /// The next record to take in.
    reached: Offset,
}

/// How storing a part of a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// It is stored.
    Done,
    /// The assignment changed, or the stage is to stop: see to that first.
    Interrupted,
}

/// What a member of a sink's group does to bring one topic into one table.
pub struct TableSink<B: Bus, T, C> {
    setup: TableSinkSetup,
    writer: T,
    clock: C,
    dead_letters: DeadLetters<B::Producer>,
    metrics: SinkMetrics,
    batch: Batch,
    /// When the first record of the batch came.
    since: Instant,
    positions: BTreeMap<Partition, Position>,
    pauses: Pauses,
    /// How long it may stand still at once, as the last step was told.
    max_wait: Duration,
    /// Whether the member leaves: everything is due.
    finishing: bool,
    /// Whether a transaction with rows was through.
    has_stored: bool,
    /// Whether the tables were refused before this member joined: only rows that are stored show that they are mended.
    mending: bool,
}

impl<B: Bus, T: Tables, C: Clock> TableSink<B, T, C> {
    /// Joins the group. `mending`: the tables were refused before.
    ///
    /// # Errors
    /// If the bus refuses.
    pub fn join(
        setup: TableSinkSetup,
        bus: &B,
        writer: T,
        clock: C,
        mending: bool,
    ) -> Result<Member<Self>, SinkError> {
        let failed = |source| SinkError::Bus { sink: setup.sink.clone(), source };
        let connector = format!("sink.{}", setup.sink);
        let producer = bus.producer(&connector).map_err(failed)?;
        let membership = Membership::Group { group: &setup.group, instance: Some(&setup.member) };
        let consumer = bus.consumer(&setup.topic, membership).map_err(failed)?;
        let waiting = Waiting::register(&setup.stage, setup.table.as_str());
        let sink = Self {
            dead_letters: DeadLetters {
                producer,
                topic: setup.dead_letter.clone(),
                source: setup.topic.clone(),
                connector,
            },
            batch: Batch::new(writer.rows(setup.table)),
            writer,
            since: clock.instant(),
            clock: clock.clone(),
            metrics: SinkMetrics::of(&setup.stage),
            positions: BTreeMap::new(),
            pauses: Pace::STORE.pauses_of(&setup.member),
            max_wait: herd_member::STEP,
            finishing: false,
            has_stored: false,
            mending,
            setup,
        };
        Ok(Member::new(consumer, sink, clock, Some(waiting)))
    }

    /// Whether it has stored rows, so that the tables are known to be in order.
    pub(crate) fn has_stored(&self) -> bool {
        self.has_stored
    }

    /// Since the first record of the batch came.
    fn elapsed(&self) -> Duration {
        self.clock.instant() - self.since
    }

    fn is_stopping(&self) -> bool {
        self.setup.stage.shutdown.is_cancelled()
    }

    fn is_due(&self) -> bool {
        self.batch.len() >= self.setup.limits.rows
            || self.batch.size() >= FULL
            || (self.batch.len() > 0 && (self.finishing || self.elapsed() >= self.setup.limits.max_wait))
    }

    fn fetch_max(&self) -> usize {
        self.setup.limits.rows.saturating_sub(self.batch.len()).clamp(1, FETCH_MAX)
    }

    /// Stores the batch, unless there is something else to see to first.
    fn store_batch(&mut self, assignment: &mut Assignment<Self>) -> Result<(), SinkError> {
        while !self.batch.open().is_empty() {
            if self.store_open(assignment)? == Stored::Interrupted {
                return Ok(());
            }
        }
        self.batch.clear();
        Ok(())
    }

    /// Waits, and stays a member of the group meanwhile.
    fn wait_as_member(
        &mut self,
        assignment: &mut Assignment<Self>,
        pause: Duration,
    ) -> Result<Stored, SinkError> {
        let shutdown = self.setup.stage.shutdown.clone();
        let limit = self.fetch_max();
        Ok(match assignment.wait_as_member(self, pause, limit, &shutdown)? {
            Waited::Done => Stored::Done,
            Waited::Interrupted => Stored::Interrupted,
        })
    }

    fn store_error(&self, source: StoreError) -> SinkError {
        SinkError::Store { sink: self.setup.sink.clone(), source }
    }

    fn report_retry(&self, error: &StoreError) {
        tracing::warn!(sink = self.setup.sink, topic = self.setup.topic, %error, "trying again");
        self.setup.stage.health.fail(self.setup.condition, error.trouble(), error.to_string());
        self.metrics.retries.get_or_create(&SinkLabels { sink: self.setup.sink.clone() }).inc();
    }

    fn recovered(&mut self) {
        self.setup.stage.health.ok(self.setup.condition);
        self.pauses.reset();
    }

    /// How far each partition is stored, for lag.
    fn commits(&self) -> Commits {
        let stored = self.positions.iter().filter(|(_, position)| position.stored > Offset(0));
        stored
            .map(|(partition, position)| {
                (*partition, Commit { next: position.stored, metadata: String::new() })
            })
            .collect()
    }
}

impl<B: Bus, T: Tables, C: Clock> Processor for TableSink<B, T, C> {
    type Consumer = B::Consumer;
    type Clock = C;
    type Error = SinkError;

    fn bus_error(&self, source: BusError) -> SinkError {
        SinkError::Bus { sink: self.setup.sink.clone(), source }
    }

    fn demand(&mut self, wait: Duration) -> Option<Demand> {
        self.max_wait = wait;
        let wait = if self.batch.len() == 0 {
            wait
        } else {
            self.setup.limits.max_wait.saturating_sub(self.elapsed()).min(wait)
        };
        Some(Demand { limit: self.fetch_max(), wait, idle: true })
    }

    fn take_over(
        &mut self,
        assignment: &mut Assignment<Self>,
        partitions: &[Partition],
    ) -> Result<TakeOver, SinkError> {
        self.look_up(assignment, partitions)
    }

    fn process(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        // Neither what is not ours nor what comes a second time.
        if let Some(position) = self.positions.get_mut(&record.partition)
            && record.offset >= position.reached
        {
            position.reached = record.offset.next();
            if self.batch.len() == 0 {
                self.since = self.clock.instant();
            }
            self.batch.push(record);
        }
        Ok(())
    }

    fn advance(&mut self, assignment: &mut Assignment<Self>, _wait: Duration) -> Result<Commits, SinkError> {
        if !self.is_due() {
            return Ok(Vec::new());
        }
        self.store_batch(assignment)?;
        Ok(self.commits())
    }

    /// What is not stored although the stage is to stop comes again.
    fn is_busy(&self) -> bool {
        self.finishing && !self.is_stopping() && !self.batch.open().is_empty()
    }

    fn flush(&mut self, assignment: &mut Assignment<Self>, why: Flush<'_>) -> Result<Commits, SinkError> {
        match why {
            // What the database does not take now, the next owner reads again.
            Flush::HandOver(_) => {
                self.store_open(assignment)?;
            }
            Flush::Finish => {
                self.finishing = true;
                self.store_batch(assignment)?;
            }
        }
        Ok(self.commits())
    }

    fn drop_partitions(&mut self, partitions: &[Partition]) {
        self.batch.forget(partitions);
        self.positions.retain(|partition, _| !partitions.contains(partition));
    }

    /// The group's positions only show the lag: that a commit fails is no harm.
    fn commit_failed(&mut self, error: BusError) -> Result<(), SinkError> {
        tracing::debug!(sink = self.setup.sink, topic = self.setup.topic, %error, "lag is not up to date");
        Ok(())
    }
}
