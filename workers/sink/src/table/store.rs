//! Storing a batch.
//!
//! A batch the database refuses is halved until the row to blame is alone; that goes to the dead-letter topic, *then* the
//! position moves past it: after a crash in between it goes there once more, but is never lost.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use herd_bus::{Acks, Bus, SendError};
use herd_member::{Assignment, STEP};
use herd_spec::units::{Offset, Partition};
use herd_stage::Clock;
use herd_store::{Advance, StoreError, Tables};

use super::answer::{PATIENCE, answer};
use super::{Position, Stored, TableSink, TableSinkSetup};
use crate::SinkError;
use crate::dead_letter::Refusal;
use crate::metrics::{SinkLabels, TableLabels};

/// How writing rows ended.
enum Written {
    Done,
    /// The assignment changed, or the stage is to stop.
    Interrupted,
    /// The database refuses a row.
    Poison(String),
}

impl<B: Bus, T: Tables, C: Clock> TableSink<B, T, C> {
    /// Tries to store what is open of the batch.
    pub(super) fn store_open(&mut self, assignment: &mut Assignment<Self>) -> Result<Stored, SinkError> {
        self.store(assignment, self.batch.open())
    }

    fn store(&mut self, assignment: &mut Assignment<Self>, range: Range<usize>) -> Result<Stored, SinkError> {
        if range.is_empty() {
            return Ok(Stored::Done);
        }
        if self.send_dead_letters(assignment, &range)? == Stored::Interrupted {
            return Ok(Stored::Interrupted);
        }
        let why = match self.write(assignment, &range)? {
            Written::Poison(why) => why,
            Written::Done => {
                self.batch.stored(range.end);
                return Ok(Stored::Done);
            }
            Written::Interrupted => return Ok(Stored::Interrupted),
        };
        if self.batch.rows_of(&range).len() == 1 {
            self.batch.refuse(&range, &Refusal::put("database-refused", &why));
            return self.store(assignment, range);
        }
        // More than one row, hence more than one entry: both halves are shorter.
        let middle = range.start + range.len() / 2;
        match self.store(assignment, range.start..middle)? {
            Stored::Done => self.store(assignment, middle..range.end),
            Stored::Interrupted => Ok(Stored::Interrupted),
        }
    }

    /// Sends the refused records of a range to the dead-letter topic, and waits until it has them.
    fn send_dead_letters(
        &mut self,
        assignment: &mut Assignment<Self>,
        range: &Range<usize>,
    ) -> Result<Stored, SinkError> {
        let acks = Acks::new();
        let mut count = 0;
        let mut failed = Vec::new();
        loop {
            let mut full = false;
            for record in self.batch.dead_letters(range).skip(count) {
                let ack = acks.expect(u32::try_from(count).unwrap_or(u32::MAX));
                match self.dead_letters.send(&record, ack) {
                    Ok(()) => count += 1,
                    Err(SendError::Full | SendError::Unavailable(_)) => {
                        full = true;
                        break;
                    }
                    Err(SendError::Refused(why)) => return Err(self.undeliverable(why)),
                }
            }
            if !full {
                break;
            }
            if self.wait_as_member(assignment, STEP)? == Stored::Interrupted {
                return Ok(Stored::Interrupted);
            }
            // The record that was not taken reports its acknowledgement as failed; it is sent again.
            failed.extend(acks.take_failed().into_iter().filter(|(index, _)| *index as usize != count));
        }
        if count == 0 {
            return Ok(Stored::Done);
        }
        while !acks.wait(self.max_wait) {
            if self.wait_as_member(assignment, Duration::ZERO)? == Stored::Interrupted {
                return Ok(Stored::Interrupted);
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
        tracing::warn!(
            sink = self.setup.sink,
            topic = self.setup.topic,
            count,
            "records cannot be stored and were written to the dead-letter topic"
        );
        Ok(Stored::Done)
    }

    fn undeliverable(&self, why: String) -> SinkError {
        SinkError::DeadLetter { sink: self.setup.sink.clone(), topic: self.setup.dead_letter.clone(), why }
    }

    /// One transaction, tried until it is through, or refused, or there is something else to see to.
    fn write(
        &mut self,
        assignment: &mut Assignment<Self>,
        range: &Range<usize>,
    ) -> Result<Written, SinkError> {
        let reach = self.batch.reach(range);
        let rows = self.batch.rows_of(range);
        let mut in_doubt = false;
        loop {
            let advances = advances(&self.setup, &self.positions, &reach);
            let started = self.clock.instant();
            let writing = self.writer.write(&advances, self.batch.rows(), rows.clone());
            let error = match self.setup.runtime.block_on(answer(writing, &self.setup)) {
                Ok(written) => {
                    let took = self.clock.instant() - started;
                    self.moved(&reach, written.inserted, took);
                    return Ok(Written::Done);
                }
                Err(error) => error,
            };
            match error {
                StoreError::Poison { .. } if !rows.is_empty() => {
                    return Ok(Written::Poison(error.to_string()));
                }
                // The answer to the try before may have been lost on its way, not the transaction.
                StoreError::Fenced { .. } if in_doubt && self.is_stored(&reach) => {
                    let took = self.clock.instant() - started;
                    self.moved(&reach, 0, took);
                    return Ok(Written::Done);
                }
                error if error.is_retryable() => {
                    in_doubt = true;
                    self.report_retry(&error);
                    let pause = self.pauses.next();
                    if self.wait_as_member(assignment, pause)? == Stored::Interrupted {
                        return Ok(Written::Interrupted);
                    }
                }
                error => return Err(self.store_error(error)),
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
        reach.iter().all(|position| stored.contains(position))
    }

    fn moved(&mut self, reach: &[(Partition, Offset)], inserted: u64, took: Duration) {
        for (partition, next) in reach {
            if let Some(position) = self.positions.get_mut(partition) {
                position.stored = *next;
            }
        }
        let labels = TableLabels { sink: self.setup.sink.clone(), table: self.setup.table.as_str() };
        self.metrics.rows.get_or_create(&labels).inc_by(inserted);
        self.metrics.batch_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.has_stored = true;
        self.mending = false;
        self.recovered();
    }
}

/// From where the database is expected to stand to where this batch brings it.
fn advances<'s>(
    setup: &'s TableSinkSetup,
    positions: &BTreeMap<Partition, Position>,
    reach: &[(Partition, Offset)],
) -> Vec<Advance<'s>> {
    let advance = |(partition, next): &(Partition, Offset)| {
        Some(Advance {
            topic: &setup.topic,
            partition: *partition,
            expected: positions.get(partition)?.stored,
            next: *next,
        })
    };
    reach.iter().filter_map(advance).collect()
}
