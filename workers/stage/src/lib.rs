//! What every stage shares: shutdown, health, metrics, secrets, the clock. A stage is a function
//! `run(config, bus, stage: Stage) -> Result<(), …>` that returns when [`Stage::shutdown`] is cancelled and its work is
//! finished, or with the error that stopped it; whoever called it starts it again.

pub mod clock;
pub mod health;
pub mod ops;
pub mod secrets;

use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

pub use clock::{Clock, SystemClock};
pub use health::Health;
pub use secrets::{Secret, SecretError, Secrets};

/// The surroundings of one running stage. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Cancelled when the stage is to finish and return.
    pub shutdown: CancellationToken,
    /// What `/readyz` says.
    pub health: Health,
    /// Where its metrics are registered, under the prefix `herd`; `/metrics` shows them.
    pub metrics: Arc<Mutex<Registry>>,
    /// Where Secrets are read from.
    pub secrets: Secrets,
}

impl Stage {
    /// Surroundings with an empty registry, for one process.
    #[must_use]
    pub fn new(shutdown: CancellationToken, secrets: Secrets) -> Self {
        Self {
            shutdown,
            health: Health::default(),
            metrics: Arc::new(Mutex::new(Registry::with_prefix("herd"))),
            secrets,
        }
    }

    /// Registers metrics: `register` gets the registry.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.metrics.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
