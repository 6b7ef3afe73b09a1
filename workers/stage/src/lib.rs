//! What every stage shares: shutdown, health, metrics, secrets, the clock. A stage is a function
//! `run(config, bus, stage: Stage) -> Result<(), …>` that returns when [`Stage::shutdown`] is cancelled and its work is
//! finished, or with the error that stopped it; whoever called it starts it again.

pub mod backoff;
pub mod clock;
mod cpu;
pub mod failure;
pub mod health;
pub mod ops;
pub mod secrets;
pub mod thread;
mod throttle;
mod tls;
pub mod waiting;

use prometheus_client::registry::Registry;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub use clock::{Clock, SystemClock};
pub use failure::{Retry, StageError};
pub use health::Health;
pub use secrets::{Secret, SecretError, Secrets};
pub use throttle::Throttle;
pub use tls::http_client;
pub use waiting::Waiting;

/// The surroundings of one running stage. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Cancelled when the stage is to finish and return.
    pub shutdown: CancellationToken,
    /// Cancelled some time before that, where requests are still routed here for a while: clients are told to go elsewhere, and what
    /// comes is still answered.
    pub draining: CancellationToken,
    /// What `/readyz` and `/statusz` say.
    pub health: Health,
    /// Where its metrics are registered, under the prefix `herd`; `/metrics` shows them.
    pub metrics: Arc<Mutex<Registry>>,
    /// Where Secrets are read from.
    pub secrets: Secrets,
    instruments: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send>>>>,
}

impl Stage {
    /// Surroundings with an empty registry, for one process.
    #[must_use]
    pub fn new(shutdown: CancellationToken, secrets: Secrets) -> Self {
        Self {
            shutdown,
            draining: CancellationToken::new(),
            health: Health::default(),
            metrics: Arc::new(Mutex::new(Registry::with_prefix("herd"))),
            secrets,
            instruments: Arc::default(),
        }
    }

    /// Ends the stage: it stops being ready and tells clients to go elsewhere; `delay` later it is shut down. Meanwhile it answers
    /// everything, so that nobody meets a closed door while routers still learn that this one leaves.
    pub async fn end_after(&self, delay: Duration) {
        self.health.drain();
        self.draining.cancel();
        tokio::time::sleep(delay).await;
        self.shutdown.cancel();
    }

    /// The same surroundings for a part that may be stopped alone: its shutdown follows ours, not the other way.
    #[must_use]
    pub fn part(&self) -> Self {
        Self { shutdown: self.shutdown.child_token(), ..self.clone() }
    }

    /// The metrics of type `T`, made and registered once in this process: members of one stage, and one that is started
    /// again, share them.
    pub fn instruments<T: Clone + Send + 'static>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        let mut known = self.instruments.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let made = known.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(self.register(register)));
        match made.downcast_ref::<T>() {
            Some(instruments) => instruments.clone(),
            None => unreachable!("the entry under a type's id is of that type"),
        }
    }

    /// Registers metrics: `register` gets the registry.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.metrics.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
