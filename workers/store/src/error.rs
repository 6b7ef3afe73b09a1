//! What can go wrong with a store, and whether trying again helps.

use herd_spec::health::Trouble;
use herd_spec::units::{Offset, Partition};

/// What went wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer, or asks to try again (a deadlock, a restart, a full disk): it may work later.
    #[error("{doing}: the database cannot do it now: {why}")]
    Unavailable {
        /// What was being done, on what.
        doing: &'static str,
        /// What the database or the client says.
        why: String,
    },
    /// Another writer has moved on from where this one stands: this one no longer owns the partition.
    #[error(
        "{topic}/{partition}: another writer moved the position on from {expected}: this member no longer owns the \
         partition and must start again from the stored position"
    )]
    Fenced {
        /// The topic.
        topic: String,
        /// The partition; of several fenced at once, the first.
        partition: Partition,
        /// Where this writer thought it stood.
        expected: Offset,
    },
    /// The database refuses the data itself, and always will: a NUL character, a number beyond its range, a key too long
    /// for an index. Some row of the batch is to blame.
    #[error("{doing}: the database refuses this data: {why}")]
    Poison {
        /// What was being done, on what.
        doing: &'static str,
        /// What the database says.
        why: String,
    },
    /// It will not work until someone changes something: the URL, a permission, the schema.
    #[error("{doing}: {why}")]
    Refused {
        /// What was being done, on what.
        doing: &'static str,
        /// What the database or the client says, and what to do.
        why: String,
    },
}

impl StoreError {
    /// Whether trying the same again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// What kind of trouble it is, for a stage's report of its health.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Unavailable { .. } => Trouble::DatabaseUnreachable,
            Self::Fenced { .. } | Self::Poison { .. } | Self::Refused { .. } => Trouble::DatabaseRefused,
        }
    }

    /// Whether a row is to blame: the batch without it would be taken.
    #[must_use]
    pub fn is_poison(&self) -> bool {
        matches!(self, Self::Poison { .. })
    }
}

/// Sorts what sqlx says by what helps.
pub(crate) fn sort(doing: &'static str, error: sqlx::Error) -> StoreError {
    use sqlx::Error;
    let why = error.to_string();
    match error {
        Error::Database(error) if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() => {
            let code = error.code().unwrap_or_default();
            match code.get(..2).unwrap_or_default() {
                // data exception, integrity violation, program limit exceeded
                "22" | "23" | "54" => StoreError::Poison { doing, why },
                // syntax or missing table, wrong name of database or schema, wrong catalogue
                "42" | "0A" | "26" | "34" | "3D" | "3F" => StoreError::Refused { doing, why },
                // Connections, resources, locks, shutdown, passwords (which may be set late): time may heal them.
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
                _ => StoreError::Refused { doing, why },
            }
        }
        Error::Io(_)
        | Error::PoolTimedOut
        | Error::Protocol(_)
        | Error::WorkerCrashed
        | Error::BeginFailed => StoreError::Unavailable { doing, why },
        Error::Tls(_) => StoreError::Unavailable { doing, why },
        Error::Migrate(error) => sort_migration(doing, *error),
        _ => StoreError::Refused { doing, why },
    }
}

/// The same for what happens during migrations.
pub(crate) fn sort_migration(doing: &'static str, error: sqlx::migrate::MigrateError) -> StoreError {
    use sqlx::migrate::MigrateError;
    let why = error.to_string();
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => match sort(doing, error) {
            // No data of ours is in a migration: nothing to take out.
            StoreError::Poison { doing, .. } => StoreError::Refused { doing, why },
            other => other,
        },
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => StoreError::Refused {
            doing,
            why: format!("{why}: the tables are of a newer version of Herd; upgrade this one"),
        },
        _ => StoreError::Refused { doing, why },
    }
}
