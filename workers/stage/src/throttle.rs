//! Limits log messages about a repeated problem: the first is logged at once, further ones once a minute with their number.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Minimum time between two log messages.
const INTERVAL: Duration = Duration::from_secs(60);

/// Counts suppressed log messages. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Throttle(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    last_logged: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Counts an occurrence. Returns the number since the last log message, if a message is due now.
    #[must_use]
    pub fn tell(&self) -> Option<u64> {
        self.tell_at(Instant::now())
    }

    fn tell_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.suppressed += 1;
        if state.last_logged.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            return None;
        }
        state.last_logged = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_the_first_occurrence_and_then_one_count_per_minute() {
        let (throttle, begun) = (Throttle::default(), Instant::now());
        let at = |seconds| throttle.tell_at(begun + Duration::from_secs(seconds));
        assert_eq!(at(0), Some(1));
        assert_eq!((at(1), at(30), at(59)), (None, None, None));
        assert_eq!(at(60), Some(4));
        assert_eq!(at(61), None);
    }
}
