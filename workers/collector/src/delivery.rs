//! Health of the delivery to the bus. A broker may respond to metadata requests and yet refuse all records, for example because
//! the clock of the collector is wrong or the collector is not authorised to write.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Period in which results count. Failures must expire by themselves, because without requests there is no success either.
const RECENT: Duration = Duration::from_secs(10);

/// The last success and the last failure.
#[derive(Debug, Default)]
pub(crate) struct Delivery(Mutex<LastResults>);

#[derive(Debug, Default)]
struct LastResults {
    delivered: Option<Instant>,
    failed: Option<(Instant, String)>,
}

impl Delivery {
    /// Records a success.
    pub(crate) fn delivered(&self, now: Instant) {
        self.last_results().delivered = Some(now);
    }

    /// Records a refusal or a timeout.
    pub(crate) fn failed(&self, now: Instant, why: &str) {
        self.last_results().failed = Some((now, why.to_owned()));
    }

    /// The last error, if there was a failure recently and no success. A single slow acknowledgement among others does not count.
    pub(crate) fn failure(&self, now: Instant) -> Option<String> {
        let last_results = self.last_results();
        let is_recent = |then: Instant| now.saturating_duration_since(then) < RECENT;
        let (failed, why) = last_results.failed.as_ref()?;
        (is_recent(*failed) && !last_results.delivered.is_some_and(is_recent))
            .then(|| format!("the broker does not accept records: {why}"))
    }

    fn last_results(&self) -> std::sync::MutexGuard<'_, LastResults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::all_is_well(&[0], &[], 1, false)]
    #[case::nothing_arrives(&[], &[1], 2, true)]
    #[case::one_slow_answer_among_good_ones(&[0], &[1], 2, false)]
    #[case::it_went_well_long_ago(&[0], &[19], 20, true)]
    #[case::it_is_well_again(&[5], &[1], 6, false)]
    #[case::it_failed_long_ago(&[], &[1], 12, false)]
    fn reports_a_failure_without_recent_success(
        #[case] delivered: &[u64],
        #[case] failed: &[u64],
        #[case] now: u64,
        #[case] expected: bool,
    ) {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let delivery = Delivery::default();
        delivered.iter().for_each(|second| delivery.delivered(at(*second)));
        failed.iter().for_each(|second| delivery.failed(at(*second), "the clock is wrong"));
        let failure = delivery.failure(at(now));
        assert_eq!(failure.is_some(), expected, "{failure:?}");
        assert!(failure.is_none_or(|failure| failure.contains("the clock is wrong")));
    }
}
