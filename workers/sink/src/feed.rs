//! One topic into one table: a loop on a thread of its own.
//!
//! Positions come from the database: what is assigned is looked up there and started there, and every transaction moves
//! them on. What the group has committed serves only to show the lag.
//!
//! A batch the database refuses is halved until the row to blame is alone; that goes to the dead-letter topic, *then* the
//! position moves past it: after a crash in between it goes there once more, but is never lost.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use herd_bus::{Acks, Bus, BusError, Change, Commit, Consumer, Membership, SendError};
use herd_spec::health::Trouble;
use herd_spec::units::{Offset, Partition};
use herd_stage::{Clock, Waiting};
use herd_store::{Advance, StoreError, Tables};

use crate::SinkError;
use crate::backoff::{Pace, Pauses};
use crate::batch::Batch;
use crate::database::FeedSetup;
use crate::dead_letter::{DeadLetters, Refusal};
use crate::metrics::{SinkLabels, SinkMetrics, TableLabels};

/// Records taken from the consumer at once: between two looks at the size of the batch.
const GULP: usize = 512;
/// A batch is full at this size even with fewer rows.
const FULL: usize = 16 << 20;
/// How soon a request to stop is noticed.
const STEP: Duration = Duration::from_millis(100);
/// How long one transaction may take before the connection is given up. Longer than the server's own limit.
const PATIENCE: Duration = Duration::from_secs(150);

/// After this long without an answer a person is told.
const SLOW: Duration = Duration::from_secs(10);

/// Where a partition stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// In the database.
    stored: Offset,
    /// The next record to take in.
    reached: Offset,
}

/// How a piece of work ended.
enum Outcome {
    Done,
    /// The assignment changed, or the stage is to stop: see to that first.
    Interrupted,
    /// The database refuses a row.
    Poison(String),
}

/// A member of a sink's group that brings one topic into one table.
pub struct Feed<B: Bus, T, C> {
    setup: FeedSetup,
    consumer: B::Consumer,
    writer: T,
    clock: C,
    letters: DeadLetters<B::Producer>,
    metrics: SinkMetrics,
    idle: Waiting,
    batch: Batch,
    /// When the first record of the batch came.
    since: Instant,
    places: BTreeMap<Partition, Place>,
    /// Assigned, not yet looked up and started.
    waiting: Vec<Partition>,
    /// Changes that came while something else was under way.
    changes: Vec<Change>,
    pauses: Pauses,
    /// Whether the consumer is told to bring nothing.
    held: bool,
    not_before: Instant,
    /// How long it may stand still at once, as the last step was told.
    nap: Duration,
}

impl<B: Bus, T: Tables, C: Clock> Feed<B, T, C> {
    /// Joins the group.
    ///
    /// # Errors
    /// If the bus refuses.
    pub fn join(setup: FeedSetup, bus: &B, writer: T, clock: C) -> Result<Self, SinkError> {
        let failed = |source| SinkError::Bus { sink: setup.sink.clone(), source };
        let connector = format!("sink.{}", setup.sink);
        let producer = bus.producer(&connector).map_err(failed)?;
        let membership = Membership::Group { group: &setup.group, instance: Some(&setup.member) };
        let consumer = bus.consumer(&setup.topic, membership).map_err(failed)?;
        let now = clock.instant();
        Ok(Self {
            letters: DeadLetters {
                producer,
                topic: setup.dead_letter.clone(),
                source: setup.topic.clone(),
                connector,
            },
            batch: Batch::new(writer.rows(setup.table)),
            consumer,
            writer,
            clock,
            metrics: SinkMetrics::of(&setup.stage),
            idle: Waiting::register(&setup.stage, setup.table.as_str()),
            since: now,
            places: BTreeMap::new(),
            waiting: Vec::new(),
            changes: Vec::new(),
            pauses: Pace::STORE.pauses_of(&setup.member),
            held: false,
            not_before: now,
            nap: STEP,
            setup,
        })
    }

    pub(crate) fn run(mut self) -> Result<(), SinkError> {
        while !self.stopping() {
            self.step(STEP)?;
        }
        self.finish()
    }

    /// Takes in what there is, waiting at most `wait` for it, and stores what is due.
    ///
    /// # Errors
    /// What stops the sink; started again, it goes on from the stored position.
    pub fn step(&mut self, wait: Duration) -> Result<(), SinkError> {
        self.nap = wait;
        let left = self.setup.limits.wait.saturating_sub(self.elapsed());
        self.fetch(if self.batch.len() == 0 { wait } else { left.min(wait) })?;
        self.settle()?;
        self.start_waiting()?;
        if self.is_due() { self.flush() } else { Ok(()) }
    }

    /// Tries once more to store what is open (what it does not store comes again), and leaves the group.
    ///
    /// # Errors
    /// If the store or the bus fails for good.
    pub fn finish(mut self) -> Result<(), SinkError> {
        self.flush()?;
        self.consumer.close();
        Ok(())
    }

    /// Since the first record of the batch came.
    fn elapsed(&self) -> Duration {
        self.clock.instant() - self.since
    }

    fn stopping(&self) -> bool {
        self.setup.stage.shutdown.is_cancelled()
    }

    fn is_due(&self) -> bool {
        self.batch.len() >= self.setup.limits.rows
            || self.batch.size() >= FULL
            || (self.batch.len() > 0 && self.elapsed() >= self.setup.limits.wait)
    }

    fn bus_failed(&self, source: BusError) -> SinkError {
        SinkError::Bus { sink: self.setup.sink.clone(), source }
    }

    fn store_failed(&self, source: StoreError) -> SinkError {
        SinkError::Store { sink: self.setup.sink.clone(), source }
    }

    /// Takes records in; keeps changes for [`Feed::settle`].
    fn fetch(&mut self, wait: Duration) -> Result<(), SinkError> {
        let limit = self.setup.limits.rows.saturating_sub(self.batch.len()).clamp(1, GULP);
        let (batch, places) = (&mut self.batch, &mut self.places);
        let was_empty = batch.len() == 0;
        let clock = &self.clock;
        let (begun, mut found) = (clock.instant(), None);
        let fetched = self.consumer.fetch(wait, limit, |record| {
            found.get_or_insert_with(|| clock.instant());
            // Neither what is not ours nor what comes a second time.
            if let Some(place) = places.get_mut(&record.partition)
                && record.offset >= place.reached
            {
                place.reached = record.offset.next();
                batch.push(record);
            }
        });
        self.idle.waited(begun, found.unwrap_or_else(|| clock.instant()));
        let fetched = fetched.map_err(|error| self.bus_failed(error))?;
        if was_empty {
            self.since = self.clock.instant();
        }
        self.changes.extend(fetched.changes);
        Ok(())
    }

    /// Sees to the changes of the assignment.
    fn settle(&mut self) -> Result<(), SinkError> {
        while !self.changes.is_empty() {
            match self.changes.remove(0) {
                Change::Assigned(partitions) => {
                    self.not_before = self.clock.instant();
                    self.waiting.extend(partitions);
                }
                Change::Revoked(partitions) => {
                    if partitions.iter().any(|partition| self.places.contains_key(partition)) {
                        // What the database does not take now, the next owner reads again.
                        self.store_open()?;
                    }
                    self.give_up(&partitions)?;
                }
                Change::Lost(partitions) => self.give_up(&partitions)?,
            }
        }
        Ok(())
    }

    fn give_up(&mut self, partitions: &[Partition]) -> Result<(), SinkError> {
        self.batch.forget(partitions);
        self.waiting.retain(|partition| !partitions.contains(partition));
        self.places.retain(|partition, _| !partitions.contains(partition));
        self.consumer.release(partitions).map_err(|error| self.bus_failed(error))
    }

    /// Looks up where new partitions stand, and starts there.
    fn start_waiting(&mut self) -> Result<(), SinkError> {
        if self.waiting.is_empty() || self.clock.instant() < self.not_before {
            return Ok(());
        }
        let asking = self.writer.positions(&self.setup.topic, self.setup.table, &self.waiting);
        let looked_up = self.setup.runtime.block_on(answer(asking, || tell_slow(&self.setup)));
        let positions = match looked_up {
            Ok(positions) => positions,
            Err(error) if error.is_retryable() => {
                self.complain(&error);
                self.not_before = self.clock.instant() + self.pauses.next();
                return Ok(());
            }
            Err(error) => return Err(self.store_failed(error)),
        };
        let Some(positions) = self.within_the_log(positions)? else { return Ok(()) };
        self.consumer.start(&positions).map_err(|error| self.bus_failed(error))?;
        for (partition, next) in positions {
            tracing::debug!(sink = self.setup.sink, topic = self.setup.topic, %partition, %next, "starts");
            self.places.insert(partition, Place { stored: next, reached: next });
        }
        self.waiting.clear();
        self.recovered();
        Ok(())
    }

    /// A stored position beyond the end of the log is of a topic that was made anew (or lost records): it goes back to the
    /// beginning, which stores nothing twice. None: not now.
    fn within_the_log(
        &mut self,
        mut positions: Vec<(Partition, Offset)>,
    ) -> Result<Option<Vec<(Partition, Offset)>>, SinkError> {
        let partitions: Vec<Partition> = positions.iter().map(|(partition, _)| *partition).collect();
        let ends = match self.consumer.end_offsets(&partitions, Duration::from_secs(5)) {
            Ok(ends) => ends,
            Err(error) if error.is_retryable() => {
                self.not_before = self.clock.instant() + self.pauses.next();
                return Ok(None);
            }
            Err(error) => return Err(self.bus_failed(error)),
        };
        for (partition, position) in &mut positions {
            let end = ends.iter().find(|(of, _)| of == partition).map(|(_, end)| *end);
            if end.is_none_or(|end| *position <= end) {
                continue;
            }
            tracing::warn!(
                sink = self.setup.sink,
                topic = self.setup.topic,
                %partition,
                stored = %position,
                "the stored position is beyond the end of the topic: beginning anew"
            );
            let back = Advance {
                topic: &self.setup.topic,
                partition: *partition,
                expected: *position,
                next: Offset(0),
            };
            let moved = self.setup.runtime.block_on(self.writer.write(&[back], self.batch.rows(), 0..0));
            match moved {
                Ok(_) => *position = Offset(0),
                Err(error) if error.is_retryable() => return Ok(None),
                Err(source) => return Err(SinkError::Store { sink: self.setup.sink.clone(), source }),
            }
        }
        Ok(Some(positions))
    }

    /// Stores the batch, however long that takes, unless the stage is told to stop.
    fn flush(&mut self) -> Result<(), SinkError> {
        while !self.batch.open().is_empty() {
            if let Outcome::Interrupted = self.store_open()? {
                if self.stopping() {
                    return Ok(());
                }
                self.settle()?;
            }
        }
        self.batch.clear();
        self.since = self.clock.instant();
        Ok(())
    }

    /// Tries to store what is open of the batch, and commits what was stored.
    fn store_open(&mut self) -> Result<Outcome, SinkError> {
        let outcome = self.store(self.batch.open())?;
        self.commit();
        Ok(outcome)
    }

    fn store(&mut self, range: Range<usize>) -> Result<Outcome, SinkError> {
        if range.is_empty() {
            return Ok(Outcome::Done);
        }
        if let Outcome::Interrupted = self.send_letters(&range)? {
            return Ok(Outcome::Interrupted);
        }
        let why = match self.write(&range)? {
            Outcome::Poison(why) => why,
            Outcome::Done => {
                self.batch.stored(range.end);
                return Ok(Outcome::Done);
            }
            Outcome::Interrupted => return Ok(Outcome::Interrupted),
        };
        if self.batch.rows_of(&range).len() == 1 {
            self.batch.refuse(&range, &Refusal::put("database-refused", &why));
            return self.store(range);
        }
        // More than one row, hence more than one entry: both halves are shorter.
        let middle = range.start + range.len() / 2;
        match self.store(range.start..middle)? {
            Outcome::Done => self.store(middle..range.end),
            interrupted => Ok(interrupted),
        }
    }

    /// Sends the refused records of a range to the dead-letter topic, and waits until it has them.
    fn send_letters(&mut self, range: &Range<usize>) -> Result<Outcome, SinkError> {
        let acks = Acks::new();
        let mut count = 0;
        let mut failed = Vec::new();
        loop {
            let letters = self.batch.letters(range).skip(count);
            let mut full = false;
            for letter in letters {
                let ack = acks.expect(u32::try_from(count).unwrap_or(u32::MAX));
                match self.letters.send(&letter, ack) {
                    Ok(()) => count += 1,
                    Err(SendError::Full) => {
                        full = true;
                        break;
                    }
                    Err(SendError::Refused(why)) => return Err(self.undeliverable(why)),
                }
            }
            if !full {
                break;
            }
            if let Outcome::Interrupted = self.linger(STEP)? {
                return Ok(Outcome::Interrupted);
            }
            // The record that was not taken reports its acknowledgement as failed; it is sent again.
            failed.extend(acks.take_failed().into_iter().filter(|(index, _)| *index as usize != count));
        }
        if count == 0 {
            return Ok(Outcome::Done);
        }
        while !acks.wait(self.nap) {
            if let Outcome::Interrupted = self.linger(Duration::ZERO)? {
                return Ok(Outcome::Interrupted);
            }
        }
        failed.extend(acks.take_failed());
        if let Some((_, error)) = failed.into_iter().next() {
            return Err(self.undeliverable(error.why));
        }
        self.batch.sent(range);
        self.metrics
            .dead_letters
            .get_or_create(&SinkLabels { sink: self.setup.sink.clone() })
            .inc_by(count as u64);
        tracing::warn!(sink = self.setup.sink, topic = self.setup.topic, count, "records refused");
        Ok(Outcome::Done)
    }

    fn undeliverable(&self, why: String) -> SinkError {
        SinkError::DeadLetter { sink: self.setup.sink.clone(), topic: self.setup.dead_letter.clone(), why }
    }

    /// One transaction, tried until it is through, or refused, or there is something else to see to.
    fn write(&mut self, range: &Range<usize>) -> Result<Outcome, SinkError> {
        let reach = self.batch.reach(range);
        let rows = self.batch.rows_of(range);
        let mut in_doubt = false;
        loop {
            let advances: Vec<Advance<'_>> = reach
                .iter()
                .filter_map(|(partition, next)| {
                    let place = self.places.get(partition)?;
                    Some(Advance {
                        topic: &self.setup.topic,
                        partition: *partition,
                        expected: place.stored,
                        next: *next,
                    })
                })
                .collect();
            let started = self.clock.instant();
            let writing = self.writer.write(&advances, self.batch.rows(), rows.clone());
            let answered = self.setup.runtime.block_on(answer(writing, || tell_slow(&self.setup)));
            let error = match answered {
                Ok(written) => {
                    let took = self.clock.instant() - started;
                    self.moved(&reach, written.inserted, took);
                    return Ok(Outcome::Done);
                }
                Err(error) => error,
            };
            match error {
                StoreError::Poison { .. } if !rows.is_empty() => {
                    return Ok(Outcome::Poison(error.to_string()));
                }
                // The answer to the try before may have been lost on its way, not the transaction.
                StoreError::Fenced { .. } if in_doubt && self.is_stored(&reach) => {
                    let took = self.clock.instant() - started;
                    self.moved(&reach, 0, took);
                    return Ok(Outcome::Done);
                }
                error if error.is_retryable() => {
                    in_doubt = true;
                    self.complain(&error);
                    let pause = self.pauses.next();
                    if let Outcome::Interrupted = self.linger(pause)? {
                        return Ok(Outcome::Interrupted);
                    }
                }
                error => return Err(self.store_failed(error)),
            }
        }
    }

    /// Whether the database stands exactly where this batch would have brought it.
    fn is_stored(&mut self, reach: &[(Partition, Offset)]) -> bool {
        let partitions: Vec<Partition> = reach.iter().map(|(partition, _)| *partition).collect();
        let asked = self.writer.positions(&self.setup.topic, self.setup.table, &partitions);
        let Ok(Ok(stored)) = self.setup.runtime.block_on(tokio::time::timeout(PATIENCE, asked)) else {
            return false;
        };
        reach.iter().all(|place| stored.contains(place))
    }

    fn moved(&mut self, reach: &[(Partition, Offset)], inserted: u64, took: Duration) {
        for (partition, next) in reach {
            if let Some(place) = self.places.get_mut(partition) {
                place.stored = *next;
            }
        }
        let labels = TableLabels { sink: self.setup.sink.clone(), table: self.setup.table.as_str() };
        self.metrics.rows.get_or_create(&labels).inc_by(inserted);
        self.metrics.batch_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.recovered();
    }

    fn complain(&self, error: &StoreError) {
        tracing::warn!(sink = self.setup.sink, topic = self.setup.topic, %error, "trying again");
        self.setup.stage.health.fail(self.setup.condition, error.trouble(), error.to_string());
        self.metrics.retries.get_or_create(&SinkLabels { sink: self.setup.sink.clone() }).inc();
    }

    fn recovered(&mut self) {
        self.setup.stage.health.ok(self.setup.condition);
        self.pauses.reset();
    }

    /// Waits, and stays a member of the group meanwhile; nothing new comes, except what was at hand already.
    fn linger(&mut self, pause: Duration) -> Result<Outcome, SinkError> {
        let until = self.clock.instant() + pause;
        self.hold(true)?;
        loop {
            self.fetch(until.saturating_duration_since(self.clock.instant()).min(STEP))?;
            let leaving = |change: &Change| !matches!(change, Change::Assigned(_));
            if self.stopping() || self.changes.iter().any(leaving) {
                self.hold(false)?;
                return Ok(Outcome::Interrupted);
            }
            if self.clock.instant() >= until {
                self.hold(false)?;
                return Ok(Outcome::Done);
            }
        }
    }

    fn hold(&mut self, held: bool) -> Result<(), SinkError> {
        if self.held != held {
            let lost = |partition: &Partition| {
                self.changes
                    .iter()
                    .any(|change| matches!(change, Change::Lost(gone) if gone.contains(partition)))
            };
            let partitions: Vec<Partition> = self.places.keys().copied().filter(|of| !lost(of)).collect();
            self.consumer.pause(&partitions, held).map_err(|error| self.bus_failed(error))?;
            self.held = held;
        }
        Ok(())
    }

    /// Tells the group how far this is, for lag. That it fails is no harm.
    fn commit(&mut self) {
        let commits: Vec<(Partition, Commit)> = self
            .places
            .iter()
            .filter(|(_, place)| place.stored > Offset(0))
            .map(|(partition, place)| (*partition, Commit { next: place.stored, metadata: String::new() }))
            .collect();
        if commits.is_empty() {
            return;
        }
        if let Err(error) = self.consumer.commit(&commits) {
            tracing::debug!(sink = self.setup.sink, topic = self.setup.topic, %error, "lag is not up to date");
        }
    }
}

/// What the database answers, within [`PATIENCE`]; `tell` is called when it takes long.
async fn answer<T>(
    writing: impl Future<Output = Result<T, StoreError>>,
    tell: impl FnOnce(),
) -> Result<T, StoreError> {
    let mut writing = std::pin::pin!(tokio::time::timeout(PATIENCE, writing));
    let answered = tokio::select! {
        answered = &mut writing => answered,
        () = tokio::time::sleep(SLOW) => {
            tell();
            writing.await
        }
    };
    answered.unwrap_or_else(|_| Err(no_answer()))
}

fn tell_slow(setup: &FeedSetup) {
    let why = format!("the database has not answered for {} s", SLOW.as_secs());
    tracing::warn!(sink = setup.sink, topic = setup.topic, "{why}");
    setup.stage.health.fail(setup.condition, Trouble::DatabaseUnreachable, why);
}

fn no_answer() -> StoreError {
    StoreError::Unavailable {
        doing: "storing a batch",
        why: format!("no answer in {} s", PATIENCE.as_secs()),
    }
}
