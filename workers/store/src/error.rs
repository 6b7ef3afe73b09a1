//! Errors of a store, classified by whether a retry helps.

use herd_spec::health::Trouble;
use herd_spec::units::{Offset, Partition};

use crate::fault::{Fault, Place};

/// An error of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is unavailable or asks for a retry (deadlock, restart, full disk).
    #[error("{doing}: the database is unavailable: {why}")]
    Unavailable {
        /// The failed operation.
        doing: &'static str,
        /// Message of the database or the client.
        why: String,
    },
    /// Another writer has advanced the position: this one no longer owns the partition.
    #[error(
        "{topic}/{partition}: another writer advanced the position beyond {expected}: this member no longer owns the \
         partition and must restart from the stored position"
    )]
    Fenced {
        /// The topic.
        topic: String,
        /// The partition; of several fenced at once, the first.
        partition: Partition,
        /// The position that this writer expected.
        expected: Offset,
    },
    /// The database permanently refuses the data: a NUL character, a number out of range, a key too long for an index. It is caused by
    /// a row of the batch.
    #[error("{doing}: the database refuses this data: {why}")]
    Poison {
        /// The failed operation.
        doing: &'static str,
        /// Message of the database.
        why: String,
    },
    /// It fails until a user changes something: the URL, a permission, the schema. It should be retried with long pauses only.
    #[error("{doing}: {}", fault.explain(place, why))]
    Refused {
        /// The failed operation.
        doing: &'static str,
        /// The fault to be corrected.
        fault: Fault,
        /// Where.
        place: Place,
        /// Message of the database or the client.
        why: String,
    },
}

impl StoreError {
    /// Whether a retry may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether it fails until a user corrects something.
    #[must_use]
    pub fn needs_mending(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// The same error with the location of the tables.
    pub(crate) fn at(self, place: &Place) -> Self {
        match self {
            Self::Refused { doing, fault, why, .. } => {
                Self::Refused { doing, fault, place: place.clone(), why }
            }
            other => other,
        }
    }

    /// A refusal that is not reported by the database itself.
    pub(crate) fn refused(doing: &'static str, why: impl Into<String>) -> Self {
        Self::Refused { doing, fault: Fault::Other, place: Place::Anywhere, why: why.into() }
    }

    /// The kind of trouble, for the health report of a stage.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Unavailable { .. } => Trouble::DatabaseUnreachable,
            Self::Fenced { .. } | Self::Poison { .. } | Self::Refused { .. } => Trouble::DatabaseRefused,
        }
    }

    /// Whether a row of the batch causes it.
    #[must_use]
    pub fn is_poison(&self) -> bool {
        matches!(self, Self::Poison { .. })
    }
}

/// Classifies an error of sqlx.
pub(crate) fn sort(doing: &'static str, error: sqlx::Error) -> StoreError {
    use sqlx::Error;
    let why = error.to_string();
    match error {
        Error::Database(error) if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() => {
            let code = error.code().unwrap_or_default();
            if let Some(fault) = Fault::of_sqlstate(&code) {
                let why = error.message().to_owned();
                return StoreError::Refused { doing, fault, place: Place::Anywhere, why };
            }
            match code.get(..2).unwrap_or_default() {
                // data exception, integrity violation, program limit exceeded
                "22" | "23" | "54" => StoreError::Poison { doing, why },
                // Connections, resources, locks, shutdown: transient.
                _ => StoreError::Unavailable { doing, why },
            }
        }
        Error::Database(error) => {
            let code: u32 = error.code().and_then(|code| code.parse().ok()).unwrap_or_default();
            match code & 0xff {
                // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH
                18..=20 => StoreError::Poison { doing, why },
                // SQLITE_BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, FULL, PROTOCOL
                5 | 6 | 7 | 9 | 10 | 13 | 15 => StoreError::Unavailable { doing, why },
                _ => {
                    let fault = Fault::of_sqlite(code, error.message());
                    let why = error.message().to_owned();
                    StoreError::Refused { doing, fault, place: Place::Anywhere, why }
                }
            }
        }
        Error::Io(_)
        | Error::PoolTimedOut
        | Error::Protocol(_)
        | Error::WorkerCrashed
        | Error::BeginFailed => StoreError::Unavailable { doing, why },
        Error::Tls(_) => StoreError::Unavailable { doing, why },
        Error::Migrate(error) => sort_migration(doing, *error),
        _ => StoreError::refused(doing, why),
    }
}

/// Classifies an error of a migration.
pub(crate) fn sort_migration(doing: &'static str, error: sqlx::migrate::MigrateError) -> StoreError {
    use sqlx::migrate::MigrateError;
    let why = error.to_string();
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => match sort(doing, error) {
            // A migration contains no rows that could be removed.
            StoreError::Poison { doing, .. } => StoreError::refused(doing, why),
            other => other,
        },
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
            StoreError::Refused { doing, fault: Fault::NewerTables, place: Place::Anywhere, why }
        }
        _ => StoreError::refused(doing, why),
    }
}
