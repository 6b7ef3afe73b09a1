//! Writes: a batch of rows and the positions it reaches, in one transaction.
//!
//! A position is advanced only from the value that its writer expects (`WHERE next_offset = expected`): a member that lost its
//! partition without noticing is fenced, and no row is stored twice or lost, whichever process crashes at whichever time. The final
//! content of the tables does not depend on the batching of records or on replays:
//! - `user_events` by `event_id`, the first one of a partition wins; `windows` by (metric, key, start), which never change;
//! - `alerts` by id: the newest record wins (the highest state, in it the latest end of the episode), and the time of each state
//!   is that of the earliest record of it; the explanation is the one of the latest end, whichever record it came with;
//! - `user_stats` from new events only: sums, extremes, and sessions, which are a function of the set of event times of a user
//!   (one more than its gaps of over 30 minutes). An event before others of its user merges or splits sessions, which is computed
//!   from its neighbours (`sql/sessions_recount.*.sql`).

use std::ops::Range;

use herd_spec::units::{Offset, Partition};

use crate::advance::{Advance, Written};
use crate::postgres::PostgresWriter;
use crate::rows::Format;
use crate::sqlite::SqliteWriter;
use crate::{Place, Rows, StoreError, Table};

/// Writes batches, one at a time. Each topic needs a writer of its own.
#[derive(Debug)]
pub struct Writer(pub(crate) WriterKind);

#[derive(Debug)]
pub(crate) enum WriterKind {
    Postgres(Box<PostgresWriter>),
    Sqlite(SqliteWriter),
}

/// The part of a store that sinks use: a [`Writer`], or in tests one that injects failures.
pub trait Tables: Send {
    /// An empty batch for a table, in the format of this store.
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
    /// An empty batch for a table, in the format of this store.
    #[must_use]
    pub fn rows(&self, table: Table) -> Rows {
        let format = match (&self.0, table) {
            (WriterKind::Postgres(_), Table::UserEvents | Table::Windows) => Format::Copy,
            _ => Format::Json,
        };
        Rows::new(table, format)
    }

    /// The stored positions of these partitions, after they were assigned; 0 for new ones. Waits for open transactions of the
    /// previous member.
    ///
    /// # Errors
    /// If the database is unavailable.
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

    /// Stores the rows of a range and advances the positions, atomically. It may be cancelled at any point, with the same effect as
    /// a crash: either everything is stored or nothing.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if a position is not the expected one; [`StoreError::Poison`] if a row is refused (bisect
    /// the range to find it); or see [`StoreError::is_retryable`].
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
