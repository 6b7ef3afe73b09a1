//! KEDA's Kafka scaler with a HorizontalPodAutoscaler: replicas = lag / `lagThreshold`.
//!
//! KEDA 2.x: the scaler reports total lag, at most partitions × threshold; the HPA (metric type `AverageValue`) asks for
//! `⌈lag / threshold⌉` every 15 s unless that is within 10 % of what there is, adds at most 100 % or 4 pods each 15 s,
//! whichever is more, and goes down to the highest wish of the last 300 s. KEDA alone goes from and to zero.

use super::{Rule, Window};
use crate::stage::Look;
use crate::trace::Trace;

/// Period of the HPA, in seconds.
const SYNC: u64 = 15;
const TOLERANCE: f64 = 0.1;
/// `cooldownPeriod`, in seconds.
const COOLDOWN: u64 = 300;

/// KEDA's rule.
pub struct Keda {
    threshold: f64,
    polling: u64,
    min: u32,
    max: u32,
    lag: Option<u64>,
    active: u64,
    wishes: Window,
}

impl Keda {
    /// With KEDA's defaults: ten records a replica, polled every 30 s.
    #[must_use]
    pub fn new(trace: &Trace) -> Self {
        Self::with(trace, 10.0, 30)
    }

    /// With five seconds of a replica's work as threshold, by somebody who knows what one can do, polled every 5 s.
    #[must_use]
    pub fn tuned(trace: &Trace) -> Self {
        Self::with(trace, 5.0 * trace.capacity, 5)
    }

    fn with(trace: &Trace, threshold: f64, polling: u64) -> Self {
        let max = trace.max.min(trace.partitions());
        Self { threshold, polling, min: trace.min, max, lag: None, active: 0, wishes: Window::new(300) }
    }
}

impl Rule for Keda {
    fn replicas(&mut self, look: &Look) -> Option<u32> {
        let now = look.now;
        if now.is_multiple_of(self.polling) {
            self.lag = look.lag();
            if self.lag.is_none_or(|lag| lag > 0) {
                self.active = now;
            }
        }
        let lag = self.lag?;
        if look.wanted == 0 {
            return (lag > 0).then_some(1);
        }
        if self.min == 0 && now - self.active >= COOLDOWN {
            return Some(0);
        }
        if !now.is_multiple_of(SYNC) {
            return None;
        }
        let current = f64::from(look.wanted);
        let ratio = lag as f64 / (self.threshold * current);
        let wish =
            if (ratio - 1.0).abs() <= TOLERANCE { current } else { (lag as f64 / self.threshold).ceil() };
        let wish = wish.clamp(f64::from(self.min.max(1)), f64::from(self.max));
        self.wishes.push(now, wish);
        let step = (2.0 * current).max(current + 4.0);
        let target = if wish > current { wish.min(step) } else { self.wishes.max().min(current) };
        Some(target as u32)
    }
}
