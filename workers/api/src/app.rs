//! What every request shares.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use herd_spec::plan::Plan;
use herd_spec::units::WallTime;
use herd_stage::{Clock, Health, Secret, SystemClock};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::history::History;
use crate::live::Live;
use crate::metrics::ApiMetrics;
use crate::shapes::PipelineShape;

/// What clients may do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// WebSocket clients.
    pub clients: usize,
    /// Rooms of a client.
    pub rooms: usize,
    /// Bytes of a message from a client.
    pub message_bytes: usize,
    /// Frames that may wait for a client.
    pub waiting_frames: usize,
    /// Bytes that may wait for a client.
    pub waiting_bytes: usize,
    /// Bursts that are being simulated.
    pub bursts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 1_000,
            rooms: 64,
            message_bytes: 4 << 10,
            waiting_frames: 16_384,
            waiting_bytes: 4 << 20,
            bursts: 4,
        }
    }
}

/// What every request shares.
#[derive(Debug)]
pub(crate) struct App {
    /// The plan.
    pub(crate) plan: Arc<Plan>,
    /// What there is to say of it.
    pub(crate) pipeline: PipelineShape,
    /// What is going on now.
    pub(crate) live: Mutex<Live>,
    /// What was; none: nothing is kept.
    pub(crate) history: Option<Arc<History>>,
    /// What is unwell.
    pub(crate) health: Health,
    /// What readers must show.
    pub(crate) token: Option<Secret>,
    /// Where bursts are sent.
    pub(crate) collector: Option<Collector>,
    /// What clients may do.
    pub(crate) limits: Limits,
    /// Counters.
    pub(crate) metrics: ApiMetrics,
    /// Free places for clients.
    pub(crate) places: Arc<Semaphore>,
    /// Free places for bursts.
    pub(crate) bursts: Arc<Semaphore>,
    /// Tells clients apart.
    pub(crate) next_client: AtomicU64,
    /// Cancelled when clients are to go elsewhere.
    pub(crate) draining: CancellationToken,
    /// Cancelled when the stage is to end.
    pub(crate) shutdown: CancellationToken,
    /// Clients and bursts that the stage waits for.
    pub(crate) tasks: TaskTracker,
}

/// How the collector is reached.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    /// Its address without a path.
    pub(crate) base: String,
    /// A write key, where it asks for one.
    pub(crate) key: Option<Secret>,
    /// The client.
    pub(crate) http: reqwest::Client,
}

/// Now, by the system's clock.
#[must_use]
pub(crate) fn now() -> WallTime {
    SystemClock.now()
}
