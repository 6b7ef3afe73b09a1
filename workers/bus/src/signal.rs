//! A doorbell: rung by writers and the coordinator, awaited by one consumer.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Rung means: there may be something new; look again.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Signal {
    pub(crate) fn ring(&self) {
        let mut rung = self.rung.lock();
        if !*rung {
            *rung = true;
            self.bell.notify_one();
        }
    }

    /// Whether it was rung since it was last asked, waiting for it until `deadline`.
    pub(crate) fn wait_until(&self, deadline: Instant) -> bool {
        let mut rung = self.rung.lock();
        while !*rung {
            if self.bell.wait_until(&mut rung, deadline).timed_out() {
                break;
            }
        }
        std::mem::take(&mut *rung)
    }
}
