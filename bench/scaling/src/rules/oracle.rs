//! Knows the future: what comes in, what a replica can do, what gets through behind.

use super::Rule;
use crate::stage::Look;
use crate::trace::Trace;

/// How far ahead it scales up, in seconds: longer than a pod takes to start.
const AHEAD: u64 = 30;
/// Shortest time for which it takes replicas away, in seconds.
const WORTH_IT: u64 = 180;
/// Share of its capacity it uses: what noise leaves.
const USED: f64 = 0.9;
/// Time in which it works a backlog off, in seconds.
const CATCH_UP: f64 = 60.0;

/// Knows the future.
pub struct Oracle {
    trace: Trace,
}

impl Oracle {
    /// Of a trace.
    #[must_use]
    pub fn new(trace: &Trace) -> Self {
        Self { trace: trace.clone() }
    }

    /// The least count that does what comes within a time, and what waits.
    fn need(&self, from: u64, to: u64, lag: u64) -> u32 {
        let rates = (from..to.min(self.trace.seconds)).step_by(5).map(self.trace.rate);
        let peak = rates.fold(0.0, f64::max);
        if peak == 0.0 && lag == 0 {
            return self.trace.min;
        }
        let most = self.trace.max.min(self.trace.partitions());
        let through = (self.trace.through)(from) / self.trace.capacity;
        let work = peak / USED + lag as f64 / CATCH_UP;
        let enough = |count: &u32| {
            let share =
                f64::from(self.trace.partitions()) / f64::from(self.trace.partitions().div_ceil(*count));
            share * self.trace.capacity >= work || f64::from(*count) >= through
        };
        (self.trace.min.max(1)..=most).find(enough).unwrap_or(most)
    }
}

impl Rule for Oracle {
    fn replicas(&mut self, look: &Look) -> Option<u32> {
        if !look.now.is_multiple_of(5) {
            return None;
        }
        let lag = look.lag()?;
        // A second or two of input always waits.
        let waiting = if lag as f64 <= 2.0 * (self.trace.rate)(look.now) { 0 } else { lag };
        let soon = self.need(look.now, look.now + AHEAD, waiting);
        if soon > look.wanted {
            return Some(soon);
        }
        let long = self.need(look.now, look.now + WORTH_IT, waiting);
        (long < look.wanted && waiting == 0).then_some(long)
    }
}
