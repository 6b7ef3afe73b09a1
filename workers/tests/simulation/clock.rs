//! A member's clock: the virtual time, a little wrong as clocks are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use herd_bus::simulated::SimulatedBus;
use herd_spec::units::WallTime;
use herd_stage::Clock;

/// Asked more often than this in one step, a stage is waiting for something.
const PATIENT: u32 = 2;

#[derive(Clone)]
pub(crate) struct MemberClock {
    bus: SimulatedBus,
    began: (Instant, WallTime),
    skew: i64,
    asked: Arc<AtomicU32>,
}

impl MemberClock {
    pub(crate) fn new(bus: &SimulatedBus, skew: i64) -> Self {
        Self { bus: bus.clone(), began: (Instant::now(), bus.now()), skew, asked: Arc::default() }
    }

    /// A step begins.
    pub(crate) fn begin(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }

    /// From now on it waits for whatever it does.
    pub(crate) fn hurry(&self) {
        self.asked.store(PATIENT, Ordering::Relaxed);
    }

    /// While a stage waits, time passes: nobody else would let it.
    fn pass(&self) {
        if self.asked.fetch_add(1, Ordering::Relaxed) >= PATIENT {
            self.bus.await_acks();
            self.bus.advance(self.bus.now().plus(Duration::from_millis(10)));
        }
    }
}

impl Clock for MemberClock {
    fn now(&self) -> WallTime {
        self.pass();
        WallTime(self.bus.now().0 + self.skew)
    }

    fn instant(&self) -> Instant {
        self.pass();
        self.began.0 + self.bus.now().since(self.began.1)
    }
}
