//! Numaflow's rule for a source: pending / rate / `targetProcessingSeconds` × ready replicas.
//!
//! As in its controller for a MonoVertex: means over `lookbackSeconds`, at most `replicasPerScaleUp` or
//! `replicasPerScaleDown` at once, a cooldown after each change, zero only when nothing is pending and nothing moves, and
//! from zero one replica every `zeroReplicaSleepSeconds` to have a look.

use super::{Rule, Window};
use crate::stage::Look;
use crate::trace::Trace;

/// Numaflow's rule.
pub struct Numaflow {
    target: f64,
    step: u32,
    cooldown: u64,
    sleep: u64,
    min: u32,
    max: u32,
    changed: u64,
    pending: Window,
    done: Window,
}

impl Numaflow {
    /// With its defaults: lookback 120 s, target 20 s, two replicas at once, cooldown 90 s.
    #[must_use]
    pub fn new(trace: &Trace) -> Self {
        Self::with(trace, 20.0, 2, 90, 120, 120)
    }

    /// For fast answers: lookback 60 s, target 10 s, six replicas at once, cooldown 30 s, asleep for 30 s at a time.
    #[must_use]
    pub fn tuned(trace: &Trace) -> Self {
        Self::with(trace, 10.0, 6, 30, 60, 30)
    }

    fn with(trace: &Trace, target: f64, step: u32, cooldown: u64, lookback: u64, sleep: u64) -> Self {
        let max = trace.max.min(trace.partitions());
        let (pending, done) = (Window::new(lookback), Window::new(lookback));
        Self { target, step, cooldown, sleep, min: trace.min, max, changed: 0, pending, done }
    }
}

impl Rule for Numaflow {
    fn replicas(&mut self, look: &Look) -> Option<u32> {
        let now = look.now;
        if !now.is_multiple_of(5) {
            return None;
        }
        let since = now - self.changed;
        let current = look.wanted;
        if current == 0 {
            // It sees no pending records while nothing runs.
            self.pending.clear();
            self.done.clear();
            return (since >= self.sleep).then(|| {
                self.changed = now;
                self.min.max(1)
            });
        }
        let (lag, done) = look.lag().zip(look.committed())?;
        self.pending.push(now, lag as f64);
        self.done.push(now, done as f64);
        let (pending, rate) = (self.pending.mean(), self.done.rate());
        let wish = match (pending, rate) {
            _ if !self.pending.full() => return None,
            (0.0, 0.0) => 0,
            (_, 0.0) => current,
            _ => ((pending / rate / self.target * f64::from(look.ready)).round() as u32).max(1),
        };
        let wish = wish.clamp(self.min, self.max);
        if wish == current || since < self.cooldown {
            return None;
        }
        self.changed = now;
        Some(wish.clamp(current.saturating_sub(self.step), current + self.step))
    }
}
