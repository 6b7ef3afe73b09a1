//! The clock as a trait, so that stages can run on a simulated clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use herd_spec::units::{WallTime, millis};

/// A clock.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> WallTime;

    /// The current time of a monotonic clock, for measuring durations.
    fn instant(&self) -> Instant;
}

/// The system clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> WallTime {
        WallTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}
