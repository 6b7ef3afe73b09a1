//! How long to wait after a failure: longer each time, and never in step with others.
//!
//! By hand, because the pause is a function of a count kept for each pipeline; backon's is an iterator to be kept instead.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row of each pipeline: at most one entry a pipeline, removed when it succeeds or goes.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// Another failure: how long to wait, at least `least`.
    pub fn another(&self, uid: &str, least: Duration) -> Duration {
        let mut failures = self.0.lock();
        let count = failures.entry(uid.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        least + pause(*count, rand::random())
    }

    /// It went well, or the pipeline is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// The pause after `failures` in a row: doubling from one second to five minutes, of which `chance` (0 to 1) takes up to a half.
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
        fn a_pause_is_within_its_bounds(failures in 1_u32..200, chance in 0.0..1.0_f64) {
            let pause = pause(failures, chance);
            prop_assert!(pause >= FIRST / 2 && pause <= LONGEST);
        }
    }

    #[test]
    fn pauses_double() {
        assert_eq!(pause(1, 0.0), Duration::from_secs(1));
        assert_eq!(pause(4, 0.0), Duration::from_secs(8));
        assert_eq!(pause(40, 0.0), LONGEST);
    }
}
