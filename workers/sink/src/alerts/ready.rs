//! Which records of a batch may be delivered: a message waits a little for the explanation of its alert, so that one message says
//! all. Pure.
//!
//! The step of the detector that explains sends the record of an alert once more, with the explanation, 0.3 to 1 s later. The records
//! of a partition are delivered in their order, so that the commit never passes one that waits: a message that waits holds back those
//! behind it, for as long as it waits at most.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use herd_spec::units::{Partition, WallTime};
use herd_spec::wire::{Alert, AlertId, AlertState, Explanation};

use super::notified::Told;

/// How long a message waits for an explanation after its record was sent. Twice as long as an explanation usually takes, and short
/// enough that nobody misses the time; not a setting, because a longer one would delay all messages while nothing explains.
pub(super) const EXPLANATION_WAIT: Duration = Duration::from_secs(2);

/// A record of a batch.
#[derive(Clone, Copy)]
pub(super) struct Taken<'a> {
    pub(super) partition: Partition,
    /// When it was sent, or received here, whichever is earlier: a clock ahead of this one makes nothing wait longer.
    pub(super) since: WallTime,
    /// None: nothing to deliver.
    pub(super) alert: Option<&'a Alert>,
}

/// The latest explanation of each alert of a batch, and whether it is one of its end.
pub(super) struct Explanations<'a>(HashMap<&'a AlertId, (&'a Explanation, bool)>);

impl<'a> Explanations<'a> {
    pub(super) fn of(alerts: impl Iterator<Item = &'a Alert>) -> Self {
        let order =
            |(explanation, of_end): (&Explanation, bool)| (of_end, explanation.until, explanation.events);
        let mut latest: HashMap<&AlertId, (&Explanation, bool)> = HashMap::new();
        for alert in alerts {
            let Some(explanation) = &alert.explanation else { continue };
            let next = (explanation, !alert.state.is_firing());
            let known = latest.entry(&alert.id).or_insert(next);
            if order(*known) < order(next) {
                *known = next;
            }
        }
        Self(latest)
    }

    /// The explanation that goes with a message of the alert.
    pub(super) fn get(&self, id: &AlertId) -> Option<&'a Explanation> {
        self.0.get(id).map(|(explanation, _)| *explanation)
    }

    /// Whether a message about this record would say all: that of the end needs an explanation of the whole.
    fn is_complete(&self, alert: &Alert) -> bool {
        self.0.get(&alert.id).is_some_and(|(_, of_end)| *of_end || alert.state.is_firing())
    }
}

/// The places of the records that may be delivered at `now`. `told` is what was told of an alert, `explaining` the detectors whose
/// alerts are explained; none waits if `is_full`.
pub(super) fn ready(
    records: &[Taken<'_>],
    explaining: &BTreeSet<String>,
    told: impl Fn(&AlertId) -> Told,
    is_full: bool,
    now: WallTime,
) -> BTreeSet<usize> {
    let explanations = Explanations::of(records.iter().filter_map(|record| record.alert));
    let mut after: BTreeMap<&AlertId, Told> = BTreeMap::new();
    let mut waiting: BTreeSet<Partition> = BTreeSet::new();
    let mut ready = BTreeSet::new();
    for (index, record) in records.iter().enumerate() {
        if waiting.contains(&record.partition) {
            continue;
        }
        if let Some(alert) = record.alert {
            let before = after.get(&alert.id).copied().unwrap_or_else(|| told(&alert.id));
            let (next, message) = before.after(alert.state);
            let waits = message
                && !is_full
                && alert.state != AlertState::Withdrawn
                && explaining.contains(&alert.detector)
                && !explanations.is_complete(alert)
                && now < record.since.plus(EXPLANATION_WAIT);
            if waits {
                waiting.insert(record.partition);
                continue;
            }
            after.insert(&alert.id, next);
        }
        ready.insert(index);
    }
    ready
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::tests::{alert, explanation};
    use AlertState::{Early, Firing, Resolved, Withdrawn};
    use rstest::rstest;

    /// Partition, seconds since it was sent, key, state, whether it is explained.
    type Record = (u32, i64, &'static str, AlertState, bool);

    const NOW: WallTime = WallTime(1_700_000_100_000);

    fn places(records: &[Record], raised: &[&str], is_full: bool) -> Vec<usize> {
        let alerts: Vec<Alert> = records
            .iter()
            .map(|(_, _, key, state, explained)| Alert {
                explanation: explained.then(|| explanation(1)),
                ..alert(key, *state)
            })
            .collect();
        let taken: Vec<Taken<'_>> = records
            .iter()
            .zip(&alerts)
            .map(|((partition, age, ..), alert)| Taken {
                partition: Partition(*partition),
                since: WallTime(NOW.0 - age * 1000),
                alert: Some(alert),
            })
            .collect();
        let told = |id: &AlertId| {
            let is_raised = raised.iter().any(|key| alert(key, Firing).id == *id);
            if is_raised { Told::Raised } else { Told::Nothing }
        };
        ready(&taken, &BTreeSet::from(["rush".to_owned()]), told, is_full, NOW).into_iter().collect()
    }

    #[rstest]
    #[case::waits(&[(0, 0, "a", Early, false)], &[])]
    #[case::for_two_seconds(&[(0, 2, "a", Early, false)], &[0])]
    #[case::holds_back_what_is_behind_it(&[(0, 1, "a", Early, false), (0, 0, "b", Firing, true)], &[])]
    #[case::but_not_other_partitions(&[(0, 0, "a", Early, false), (1, 0, "b", Firing, true)], &[1])]
    #[case::until_it_is_explained(&[(0, 1, "a", Early, false), (0, 0, "a", Firing, true)], &[0, 1])]
    #[case::in_whatever_partition(&[(0, 1, "a", Early, false), (1, 0, "a", Early, true)], &[0, 1])]
    #[case::the_one_behind_it_waits_for_its_own(
        &[(0, 1, "a", Early, false), (0, 0, "b", Early, false), (0, 0, "a", Early, true)], &[0])]
    #[case::what_was_told_does_not_wait(&[(0, 0, "told", Firing, false)], &[0])]
    #[case::the_end_waits(&[(0, 0, "told", Resolved, false)], &[])]
    #[case::for_an_explanation_of_the_end(&[(0, 0, "told", Firing, true), (0, 0, "told", Resolved, false)], &[0])]
    #[case::which_comes(&[(0, 0, "told", Resolved, false), (0, 0, "told", Resolved, true)], &[0, 1])]
    #[case::a_withdrawal_does_not_wait(&[(0, 0, "told", Withdrawn, false)], &[0])]
    fn a_message_waits_for_its_explanation(#[case] records: &[Record], #[case] expected: &[usize]) {
        assert_eq!(places(records, &["told"], false), expected);
    }

    #[test]
    fn nothing_waits_in_a_full_batch_nor_without_explanations() {
        let records = [(0, 0, "a", Early, false), (0, 0, "b", Firing, false)];
        assert_eq!(places(&records, &[], true), [0, 1]);
        let alert = alert("a", Early);
        let taken = [Taken { partition: Partition(0), since: NOW, alert: Some(&alert) }];
        assert_eq!(ready(&taken, &BTreeSet::new(), |_| Told::Nothing, false, NOW), BTreeSet::from([0]));
    }

    #[test]
    fn the_latest_explanation_goes_with_a_message() {
        let with = |state, until| Alert { explanation: Some(explanation(until)), ..alert("a", state) };
        for alerts in [[with(Firing, 1), with(Firing, 3)], [with(Firing, 3), with(Firing, 1)]] {
            let latest = Explanations::of(alerts.iter());
            assert_eq!(latest.get(&alerts[0].id), Some(&explanation(3)));
        }
        let alerts = [with(Resolved, 2), with(Firing, 3)];
        assert_eq!(Explanations::of(alerts.iter()).get(&alerts[0].id), Some(&explanation(2)));
    }
}
