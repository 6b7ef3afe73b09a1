//! Whether what is handed to the bus arrives. A broker may answer every question and yet refuse every record: of a collector
//! whose clock is wrong, or that may not write.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a failure counts. It must end by itself: whoever is not ready gets no requests, and could never show that it is well.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What was delivered lately, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Delivery(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    delivered: Option<Instant>,
    failed: Option<(Instant, String)>,
}

impl Delivery {
    /// The bus has acknowledged something.
    pub(crate) fn delivered(&self, now: Instant) {
        self.lately().delivered = Some(now);
    }

    /// The bus has refused something, or said nothing in time.
    pub(crate) fn failed(&self, now: Instant, why: &str) {
        self.lately().failed = Some((now, why.to_owned()));
    }

    /// Why this collector is of no use: it failed lately, and nothing arrived in the same time. One slow answer among good ones is
    /// none of it.
    pub(crate) fn complaint(&self, now: Instant) -> Option<String> {
        let lately = self.lately();
        let is_lately = |then: Instant| now.saturating_duration_since(then) < REMEMBERED;
        let (failed, why) = lately.failed.as_ref()?;
        (is_lately(*failed) && !lately.delivered.is_some_and(is_lately))
            .then(|| format!("nothing is delivered to the broker: {why}"))
    }

    fn lately(&self) -> std::sync::MutexGuard<'_, Lately> {
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
    fn a_collector_complains_while_nothing_arrives(
        #[case] delivered: &[u64],
        #[case] failed: &[u64],
        #[case] now: u64,
        #[case] complains: bool,
    ) {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let delivery = Delivery::default();
        delivered.iter().for_each(|second| delivery.delivered(at(*second)));
        failed.iter().for_each(|second| delivery.failed(at(*second), "the clock is wrong"));
        let complaint = delivery.complaint(at(now));
        assert_eq!(complaint.is_some(), complains, "{complaint:?}");
        assert!(complaint.is_none_or(|complaint| complaint.contains("the clock is wrong")));
    }
}
