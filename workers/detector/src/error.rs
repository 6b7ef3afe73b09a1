//! What stops the detector stage.

use herd_bus::{BusError, DeliveryError};
use herd_spec::health::Trouble;
use herd_stage::{Retry, StageError};

/// What stops the stage. It is then started again and goes on from its commit: nothing is skipped.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// The bus failed for good.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A record was not taken.
    #[error("sending to {topic}: {why}")]
    Send {
        /// The topic.
        topic: String,
        /// What the client says.
        why: String,
    },
    /// A record was taken and could not be delivered.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The broker did not acknowledge.
    #[error("the broker took longer than a minute to acknowledge {what}")]
    Slow {
        /// What was under way.
        what: &'static str,
    },
    /// A thread could not be started, or panicked.
    #[error("the thread of {step} {why}")]
    Thread {
        /// `fold` or `judge`.
        step: &'static str,
        /// What happened to it.
        why: String,
    },
}

impl StageError for DetectorError {
    fn retry(&self) -> Retry {
        match self {
            Self::Bus(BusError::Refused { .. }) => Retry::AfterRepair,
            Self::Bus(_)
            | Self::Send { .. }
            | Self::Delivery(_)
            | Self::Slow { .. }
            | Self::Thread { .. } => Retry::Soon,
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            Self::Bus(error) => error.trouble(),
            Self::Send { .. } | Self::Delivery(_) | Self::Slow { .. } => Trouble::DeliveryFailing,
            Self::Thread { .. } => Trouble::StageFailed,
        }
    }
}
