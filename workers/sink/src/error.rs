//! What stops a sink.

use herd_bus::BusError;
use herd_spec::health::Trouble;
use herd_stage::{Retry, SecretError, StageError};
use herd_store::StoreError;

/// What stops a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The bus failed for good.
    #[error("sink {sink}: {source}")]
    Bus {
        /// The sink.
        sink: String,
        /// What the bus says.
        source: BusError,
    },
    /// The store failed for good, or this member was fenced off; started again, it goes on from the stored position.
    #[error("sink {sink}: {source}")]
    Store {
        /// The sink.
        sink: String,
        /// What the store says.
        source: StoreError,
    },
    /// A Secret could not be read.
    #[error("sink {sink}: {source}")]
    Secret {
        /// The sink.
        sink: String,
        /// Why not.
        source: SecretError,
    },
    /// The dead-letter topic does not take a refused record, and without that the sink may not go past it.
    #[error("sink {sink}: a refused record cannot be sent to {topic}: {why}")]
    DeadLetter {
        /// The sink.
        sink: String,
        /// The dead-letter topic.
        topic: String,
        /// What the bus says.
        why: String,
    },
    /// A receiver of alerts cannot be used as it is configured.
    #[error("sink {sink}: the {kind} cannot be used: {why}")]
    Receiver {
        /// The sink.
        sink: String,
        /// The kind of the receiver, as a spec writes it.
        kind: &'static str,
        /// The reason that the readiness gives.
        trouble: Trouble,
        /// Why not, and what to change.
        why: String,
        /// Whether the plan says so, and not a Secret, which may be changed.
        of_plan: bool,
    },
    /// A thread could not be started, or panicked.
    #[error("sink {sink}: the thread of {part} {why}")]
    Thread {
        /// The sink.
        sink: String,
        /// What it was for.
        part: &'static str,
        /// What happened to it.
        why: String,
    },
}

impl StageError for SinkError {
    fn retry(&self) -> Retry {
        match self {
            Self::Bus { source: BusError::Refused { .. }, .. } | Self::Secret { .. } => Retry::AfterRepair,
            Self::Store { source, .. } if source.needs_mending() => Retry::AfterRepair,
            Self::Receiver { of_plan: true, .. } => Retry::Never,
            Self::Receiver { of_plan: false, .. } => Retry::AfterRepair,
            Self::Bus { .. } | Self::Store { .. } | Self::DeadLetter { .. } | Self::Thread { .. } => {
                Retry::Soon
            }
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            Self::Bus { source, .. } => source.trouble(),
            Self::Store { source, .. } => source.trouble(),
            Self::DeadLetter { .. } => Trouble::DeliveryFailing,
            Self::Receiver { trouble, .. } => *trouble,
            Self::Secret { .. } | Self::Thread { .. } => Trouble::StageFailed,
        }
    }
}
