//! The tables of a pipeline in PostgreSQL or SQLite: migrations, exactly-once writes, reads.
//!
//! The sink stage writes ([`Store::writer`]: batches of [`Rows`] together with the positions they reach), the api stage
//! reads ([`Store::alerts`] and other queries), `herd backtest` reads all events again ([`Store::replay`]). The SQL of both dialects is in `sql/`, the tables are in `migrations/`.

mod advance;
mod alerts;
mod copy;
mod error;
mod fault;
mod location;
mod migrations;
mod postgres;
mod read;
mod replay;
mod revenue;
mod rows;
mod sqlite;
mod write;

use std::path::Path;

pub use advance::{Advance, Written};
pub use alerts::{AlertFilter, AlertPage, StateChange, StoredAlert};
pub use error::StoreError;
pub use fault::{Fault, Place};
pub use location::StoreLocation;
pub use read::{Counts, MAX_ROWS, UserOrder, UserStats};
pub use replay::{EventTimes, JudgedAlert, StoredEvent};
pub use rows::{MAX_KEY, Rows, Table, Unstorable};
pub use write::{Tables, Writer};

/// The tables of a pipeline. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Store(Dialect);

#[derive(Clone, Debug)]
enum Dialect {
    Postgres(Box<postgres::Postgres>),
    Sqlite(sqlite::Sqlite),
}

impl Store {
    /// Opens the tables in `schema` of a PostgreSQL database, and creates or upgrades them; safe with many replicas at once.
    ///
    /// # Errors
    /// If the URL is invalid, or the database is unavailable ([`StoreError::is_retryable`]) or refuses the connection.
    pub async fn postgres(url: &str, schema: &str) -> Result<Self, StoreError> {
        let opened = postgres::Postgres::open(url, schema).await;
        opened
            .map(|store| Self(Dialect::Postgres(Box::new(store))))
            .map_err(|error| error.at(&Place::Schema(schema.to_owned())))
    }

    /// Opens the tables in an SQLite file, and creates or upgrades them; safe with many processes at once.
    ///
    /// # Errors
    /// If the file cannot be opened or written.
    pub async fn sqlite(path: &Path) -> Result<Self, StoreError> {
        // Switching a new file to WAL is not covered by busy_timeout: retry while other processes do the same.
        let mut tries = 0;
        loop {
            match sqlite::Sqlite::open(path).await {
                Err(error) if error.is_retryable() && tries < 100 => {
                    tries += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.at(&Place::File(path.display().to_string()))),
                Ok(store) => return Ok(Self(Dialect::Sqlite(store))),
            }
        }
    }

    /// A writer with a connection of its own (PostgreSQL), opened on first use.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer(match &self.0 {
            Dialect::Postgres(store) => {
                write::WriterKind::Postgres(Box::new(postgres::PostgresWriter::new((**store).clone())))
            }
            Dialect::Sqlite(store) => write::WriterKind::Sqlite(sqlite::SqliteWriter::new(store.clone())),
        })
    }
}
