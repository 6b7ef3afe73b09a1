//! Runtime shared by all stages: shutdown, health, metrics, Secrets, clock, problem responses. A stage is a function
//! `run(config, bus, stage: Stage) -> Result<(), …>` that returns when [`Stage::shutdown`] is cancelled and its work is finished,
//! or with the error that stopped it. The caller restarts it.

pub mod backoff;
pub mod clock;
mod cpu;
mod embedded;
pub mod failure;
pub mod health;
pub mod ops;
mod problem;
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
pub use embedded::Embedded;
pub use failure::{Retry, StageError};
pub use health::Health;
pub use problem::Problem;
pub use secrets::{Secret, SecretError, Secrets};
pub use throttle::Throttle;
pub use tls::http_client;
pub use waiting::Waiting;

/// The context of a running stage. Clones share their state.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Cancelled when the stage must finish and return.
    pub shutdown: CancellationToken,
    /// Cancelled some time before `shutdown`, while routers may still send requests: connections are closed after their response,
    /// and all requests are answered.
    pub draining: CancellationToken,
    /// The health reported by `/readyz` and `/statusz`.
    pub health: Health,
    /// Registry of its metrics, with the prefix `herd`, exposed at `/metrics`.
    pub metrics: Arc<Mutex<Registry>>,
    /// Source of Secrets.
    pub secrets: Secrets,
    instruments: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send>>>>,
}

impl Stage {
    /// The context of one process, with an empty registry.
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

    /// Ends the stage: it becomes unready and starts draining, and after `delay` it is shut down. Until then it answers all requests,
    /// so that none fails while routers still learn that this replica ends.
    pub async fn end_after(&self, delay: Duration) {
        self.health.drain();
        self.draining.cancel();
        tokio::time::sleep(delay).await;
        self.shutdown.cancel();
    }

    /// The same context for a part that can be stopped alone: its shutdown is a child of this one.
    #[must_use]
    pub fn part(&self) -> Self {
        Self { shutdown: self.shutdown.child_token(), ..self.clone() }
    }

    /// The metrics of type `T`, created and registered once per process: members of a stage, and restarted stages, share them.
    pub fn instruments<T: Clone + Send + 'static>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        let mut known = self.instruments.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = known.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(self.register(register)));
        match entry.downcast_ref::<T>() {
            Some(instruments) => instruments.clone(),
            None => unreachable!("the entry of a type id has this type"),
        }
    }

    /// Calls `register` with the registry.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.metrics.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
