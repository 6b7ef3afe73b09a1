//! What can go wrong with a bus, and with a record that is sent.

use herd_spec::health::Trouble;

/// A record that will never be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record could not be delivered: {why}")]
pub struct DeliveryError {
    /// What the client says.
    pub why: String,
}

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Too much is waiting to be acknowledged. Try again when some of it is.
    #[error("the queue to the broker is full")]
    Full,
    /// The broker takes nothing now (its disk is full, say); it may again.
    #[error("the broker takes no records now: {0}")]
    Unavailable(String),
    /// It will never be taken.
    #[error("the record cannot be sent: {0}")]
    Refused(String),
}

/// What went wrong with a bus.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BusError {
    /// The broker does not answer; it may again.
    #[error("{doing}: the broker does not answer: {why}")]
    Unavailable {
        /// What was being done, on what.
        doing: String,
        /// What the client says.
        why: String,
    },
    /// Another member owns the partition now.
    #[error("{doing}: another member of the group owns this partition now: {why}")]
    NotOwner {
        /// What was being done, on what.
        doing: String,
        /// What the client says.
        why: String,
    },
    /// No such topic or partition.
    #[error("{doing}: there is no such topic or partition: {why}")]
    Missing {
        /// What was being done, on what.
        doing: String,
        /// What the client says.
        why: String,
    },
    /// It will not work, however often it is tried.
    #[error("{doing}: {why}")]
    Refused {
        /// What was being done, on what.
        doing: String,
        /// What the client says and what to do.
        why: String,
    },
}

impl BusError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// What kind of trouble it is, for a stage's report of its health.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Unavailable { .. } => Trouble::KafkaUnreachable,
            Self::Missing { .. } => Trouble::TopicMissing,
            Self::NotOwner { .. } | Self::Refused { .. } => Trouble::KafkaRefused,
        }
    }
}
