//! Says a repeated trouble at once, and then once a minute with how often it came meanwhile.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the same trouble is logged at most.
const EVERY: Duration = Duration::from_secs(60);

/// Counts what is not logged. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Throttle(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Throttle {
    /// Notes one more occurrence; how many there were since the last log line, if one is due now.
    #[must_use]
    pub fn tell(&self) -> Option<u64> {
        self.tell_at(Instant::now())
    }

    fn tell_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += 1;
        if state.told.is_some_and(|told| now.saturating_duration_since(told) < EVERY) {
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_a_repeated_warning_at_once_and_then_once_a_minute_with_its_count() {
        let (throttle, begun) = (Throttle::default(), Instant::now());
        let at = |seconds| throttle.tell_at(begun + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(1));
        assert_eq!((at(1), at(30), at(59)), (None, None, None));
        assert_eq!(at(60), Some(4));
        assert_eq!(at(61), None);
    }
}
