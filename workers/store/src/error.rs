//! What can go wrong with a store, and whether trying again helps.

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

    /// Whether a row is to blame: the batch without it would be taken.
    #[must_use]
    pub fn is_poison(&self) -> bool {
        matches!(self, Self::Poison { .. })
    }
}
