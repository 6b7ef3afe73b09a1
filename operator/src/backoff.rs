//! Exponential backoff with jitter after failed reconciles. By hand, because the pause is a function of a count that outlives the
//! future that failed; backon's is an iterator to be kept instead.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Consecutive failures of each pipeline: at most one entry a pipeline, removed when it succeeds or is deleted.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// Counts a failure. Returns the pause before the next attempt: at least `least`.
    pub fn next(&self, uid: &str, least: Duration) -> Duration {
        let mut failures = self.0.lock();
        let count = failures.entry(uid.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        least + pause(*count, rand::random())
    }

    /// A reconcile succeeded, or the pipeline is deleted.
    pub fn reset(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// The pause after so many consecutive failures: doubling from one second to five minutes, reduced by `chance` (0 to 1) up to a half.
#[must_use]
pub fn pause(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(LONGEST).mul_f64(1.0 - chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pause_is_within_its_bounds(failures in 1_u32..200, chance in 0.0..1.0_f64) {
            let pause = pause(failures, chance);
            prop_assert!(pause >= FIRST / 2 && pause <= LONGEST);
        }
    }

    #[test]
    fn pause_doubles_up_to_its_maximum() {
        assert_eq!(pause(1, 0.0), Duration::from_secs(1));
        assert_eq!(pause(4, 0.0), Duration::from_secs(8));
        assert_eq!(pause(40, 0.0), LONGEST);
    }
}
