//! Where a table sink begins to read: where the database says.

use std::time::Duration;

use herd_bus::{Bus, Consumer};
use herd_member::{Assignment, Start, TakeOver};
use herd_spec::units::{Offset, Partition};
use herd_stage::Clock;
use herd_store::{Advance, Tables};

use super::answer::answer;
use super::{Position, TableSink};
use crate::SinkError;

/// How long the broker may take to say where its partitions end.
const PATIENCE: Duration = Duration::from_secs(5);

impl<B: Bus, T: Tables, C: Clock> TableSink<B, T, C> {
    /// Looks up where new partitions stand.
    pub(super) fn look_up(
        &mut self,
        assignment: &mut Assignment<Self>,
        partitions: &[Partition],
    ) -> Result<TakeOver, SinkError> {
        let asking = self.writer.positions(&self.setup.topic, self.setup.table, partitions);
        let stored = match self.setup.runtime.block_on(answer(asking, &self.setup)) {
            Ok(stored) => stored,
            Err(error) if error.is_retryable() => {
                self.report_retry(&error);
                return Ok(TakeOver::Later(self.pauses.next()));
            }
            Err(error) => return Err(self.store_error(error)),
        };
        let ends = match assignment.consumer().end_offsets(partitions, PATIENCE) {
            Ok(ends) => ends,
            Err(error) if error.is_retryable() => return Ok(TakeOver::Later(self.pauses.next())),
            Err(source) => return Err(SinkError::Bus { sink: self.setup.sink.clone(), source }),
        };
        let mut starts = Vec::with_capacity(stored.len());
        for (partition, stored) in stored {
            let end = ends.iter().find(|(of, _)| *of == partition).map(|(_, end)| *end);
            let from = match end {
                Some(end) if stored > end => match self.begin_anew(partition, stored)? {
                    Some(from) => from,
                    None => return Ok(TakeOver::Later(Duration::ZERO)),
                },
                _ => stored,
            };
            starts.push(Start::at(partition, from));
        }
        for Start { partition, from, .. } in &starts {
            tracing::debug!(sink = self.setup.sink, topic = self.setup.topic, %partition, next = %from, "starts");
            self.positions.insert(*partition, Position { stored: *from, reached: *from });
        }
        if !self.mending {
            self.recovered();
        }
        Ok(TakeOver::Begin(starts))
    }

    /// A stored position beyond the end of the log is of a topic that was made anew (or lost records): it goes back to the
    /// beginning, which stores nothing twice. None: not now.
    fn begin_anew(&mut self, partition: Partition, stored: Offset) -> Result<Option<Offset>, SinkError> {
        tracing::warn!(
            sink = self.setup.sink,
            topic = self.setup.topic,
            %partition,
            %stored,
            "the stored position is beyond the end of the partition, because the topic was recreated or lost records: reading from its start"
        );
        let back = Advance { topic: &self.setup.topic, partition, expected: stored, next: Offset(0) };
        match self.setup.runtime.block_on(self.writer.write(&[back], self.batch.rows(), 0..0)) {
            Ok(_) => Ok(Some(Offset(0))),
            Err(error) if error.is_retryable() => Ok(None),
            Err(error) => Err(self.store_error(error)),
        }
    }
}
