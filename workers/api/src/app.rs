//! State shared by all requests.

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

/// Limits of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of WebSocket clients.
    pub clients: usize,
    /// Maximum number of rooms per client.
    pub rooms: usize,
    /// Maximum size of a message from a client, in bytes.
    pub message_bytes: usize,
    /// Maximum number of frames queued for a client.
    pub waiting_frames: usize,
    /// Maximum number of bytes queued for a client.
    pub waiting_bytes: usize,
    /// Maximum number of concurrent simulated crowds.
    pub crowds: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 1_000,
            rooms: 64,
            message_bytes: 4 << 10,
            waiting_frames: 16_384,
            waiting_bytes: 4 << 20,
            crowds: 4,
        }
    }
}

/// State shared by all requests.
#[derive(Debug)]
pub(crate) struct App {
    /// The plan.
    pub(crate) plan: Arc<Plan>,
    /// The pipeline as served.
    pub(crate) pipeline: PipelineShape,
    /// Live data.
    pub(crate) live: Mutex<Live>,
    /// History; `None` without a store.
    pub(crate) history: Option<Arc<History>>,
    /// Health of the stage.
    pub(crate) health: Health,
    /// The token that clients must send.
    pub(crate) token: Option<Secret>,
    /// The collector that receives simulated crowds.
    pub(crate) collector: Option<Collector>,
    /// Limits of clients.
    pub(crate) limits: Limits,
    /// Metrics.
    pub(crate) metrics: ApiMetrics,
    /// Permits of WebSocket clients.
    pub(crate) client_permits: Arc<Semaphore>,
    /// Permits of simulated crowds.
    pub(crate) crowd_permits: Arc<Semaphore>,
    /// Id of the next client.
    pub(crate) next_client: AtomicU64,
    /// Cancelled when the stage drains.
    pub(crate) draining: CancellationToken,
    /// Cancelled when the stage shuts down.
    pub(crate) shutdown: CancellationToken,
    /// Clients and crowds that the shutdown waits for.
    pub(crate) tasks: TaskTracker,
}

/// Access to the collector.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    /// Its URL without a path.
    pub(crate) base: String,
    /// A write key, if one is required.
    pub(crate) key: Option<Secret>,
    /// The HTTP client.
    pub(crate) http: reqwest::Client,
}

/// The current time of the system clock.
#[must_use]
pub(crate) fn now() -> WallTime {
    SystemClock.now()
}
