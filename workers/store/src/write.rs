//! The writing half: a batch of rows and the positions it reaches, in one transaction.
//!
//! Each position moves only from where its writer knows it (`WHERE next_offset = expected`): a member that lost its
//! partition without noticing is fenced, and no row is stored twice or left out, whoever crashes when. What the tables say
//! at the end does not depend on how the records fell into batches, nor on replays:
//! - `user_events` by `event_id`, the first of a partition wins; `windows` by (metric, key, start), which never change;
//! - `alerts` by id, the highest state wins, raised at the earliest record;
//! - `user_stats` from events that were really new: sums, extremes, and sessions, which are a function of the set of a
//!   user's event times (one more than its gaps of over 30 minutes). An event that comes before others of its user joins
//!   sessions or splits a gap; that is worked out from its neighbours (`sql/sessions_recount.*.sql`).

use std::ops::Range;

use herd_spec::units::{Offset, Partition};

use crate::postgres::PostgresWriter;
use crate::rows::Format;
use crate::sqlite::SqliteWriter;
use crate::{Place, Rows, StoreError, Table};

/// One partition's move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: Partition,
    /// Where this writer left the stored position.
    pub expected: Offset,
    /// Where it is to be: the offset after the last record of the batch.
    pub next: Offset,
}

impl Advance<'_> {
    pub(crate) fn fenced(advances: &[Advance<'_>]) -> StoreError {
        let first = advances.first();
        StoreError::Fenced {
            topic: first.map_or_else(String::new, |advance| advance.topic.to_owned()),
            partition: first.map_or(Partition(0), |advance| advance.partition),
            expected: first.map_or(Offset(0), |advance| advance.expected),
        }
    }
}

/// What a batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows that were new; for alerts, rows that were new or changed.
    pub inserted: u64,
}

/// Writes batches, one at a time. Make one for each topic.
#[derive(Debug)]
pub struct Writer(pub(crate) WriterKind);

#[derive(Debug)]
pub(crate) enum WriterKind {
    Postgres(Box<PostgresWriter>),
    Sqlite(SqliteWriter),
}

/// What the sink needs of a store: a [`Writer`]; in tests, one that fails when it is told to.
pub trait Tables: Send {
    /// An empty batch for a table, in the form this store reads.
    fn rows(&self, table: Table) -> Rows;

    /// See [`Writer::positions`].
    fn positions(
        &mut self,
        topic: &str,
        table: Table,
        partitions: &[Partition],
    ) -> impl Future<Output = Result<Vec<(Partition, Offset)>, StoreError>> + Send;

    /// See [`Writer::write`].
    fn write(
        &mut self,
        advances: &[Advance<'_>],
        rows: &Rows,
        range: Range<usize>,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;
}

impl Tables for Writer {
    fn rows(&self, table: Table) -> Rows {
        Self::rows(self, table)
    }

    async fn positions(
        &mut self,
        topic: &str,
        table: Table,
        partitions: &[Partition],
    ) -> Result<Vec<(Partition, Offset)>, StoreError> {
        Self::positions(self, topic, table, partitions).await
    }

    async fn write(
        &mut self,
        advances: &[Advance<'_>],
        rows: &Rows,
        range: Range<usize>,
    ) -> Result<Written, StoreError> {
        Self::write(self, advances, rows, range).await
    }
}

impl Writer {
    /// An empty batch for a table, in the form this store reads.
    #[must_use]
    pub fn rows(&self, table: Table) -> Rows {
        let format = match (&self.0, table) {
            (WriterKind::Postgres(_), Table::UserEvents | Table::Windows) => Format::Copy,
            _ => Format::Json,
        };
        Rows::new(table, format)
    }

    /// Where these partitions stand, for whoever has just been given them; new ones at 0. Waits for a transaction of the
    /// member before that is still under way.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn positions(
        &mut self,
        topic: &str,
        table: Table,
        partitions: &[Partition],
    ) -> Result<Vec<(Partition, Offset)>, StoreError> {
        match &mut self.0 {
            WriterKind::Postgres(writer) => writer.positions(topic, table, partitions).await,
            WriterKind::Sqlite(writer) => writer.positions(topic, table, partitions).await,
        }
        .map_err(|error| error.at(self.place()))
    }

    /// Stores the rows of a range and moves the positions, all or nothing. May be cancelled at any point: then it is as if
    /// the writer had crashed, either all is stored or nothing.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if a position is not where it was expected; [`StoreError::Poison`] if a row is refused: try
    /// halves of the range; or see [`StoreError::is_retryable`].
    pub async fn write(
        &mut self,
        advances: &[Advance<'_>],
        rows: &Rows,
        range: Range<usize>,
    ) -> Result<Written, StoreError> {
        match &mut self.0 {
            WriterKind::Postgres(writer) => writer.write(advances, rows, &range).await,
            WriterKind::Sqlite(writer) => writer.write(advances, rows, &range).await,
        }
        .map_err(|error| error.at(self.place()))
    }

    fn place(&self) -> &Place {
        match &self.0 {
            WriterKind::Postgres(writer) => writer.place(),
            WriterKind::Sqlite(writer) => writer.place(),
        }
    }
}
