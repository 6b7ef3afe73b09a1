//! The clock as a seam: stages never ask the system themselves.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use herd_spec::units::{WallTime, millis};

/// Tells the time.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Now.
    fn now(&self) -> WallTime;

    /// Now, by a clock that nobody sets: for how long something takes.
    fn instant(&self) -> Instant;
}

/// The system's clock.
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
