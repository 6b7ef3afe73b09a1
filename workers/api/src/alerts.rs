//! Open alerts and the latest resolved ones: bounded, pure.
//!
//! Records of an alert may be duplicated or reordered: the newest wins ([`AlertShape::join`]), so the result does not depend on the
//! order. Withdrawn alerts are kept, so that a late record does not restore them, but never served.

use std::collections::HashMap;

use herd_spec::wire::{AlertState, Severity};
use herd_store::AlertFilter;

use crate::shapes::AlertShape;

/// Live alerts, by id.
#[derive(Clone, Debug)]
pub(crate) struct LiveAlerts {
    alerts: HashMap<String, AlertShape>,
    /// Maximum number of alerts. Above it, resolved alerts are dropped first, then the oldest.
    capacity: usize,
    firing: u64,
}

impl LiveAlerts {
    /// Empty, with this capacity.
    #[must_use]
    pub(crate) fn new(capacity: usize) -> Self {
        Self { alerts: HashMap::new(), capacity: capacity.max(4), firing: 0 }
    }

    /// Applies a record. Returns the alert if the record changed it.
    pub(crate) fn take(&mut self, alert: AlertShape) -> Option<&AlertShape> {
        let id = alert.id.clone();
        match self.alerts.get_mut(&id) {
            Some(known) => {
                let was_firing = known.state.is_firing();
                if !known.join(alert) {
                    return None;
                }
                self.firing -= u64::from(was_firing);
                self.firing += u64::from(known.state.is_firing());
            }
            None => {
                if self.alerts.len() >= self.capacity {
                    self.evict();
                }
                if alert.state.is_firing() {
                    self.firing += 1;
                }
                self.alerts.insert(id.clone(), alert);
            }
        }
        self.alerts.get(&id)
    }

    /// Applies feedback. Returns the alert if it is live and shown.
    pub(crate) fn take_feedback(&mut self, id: &str, useful: bool) -> Option<&AlertShape> {
        let known = self.alerts.get_mut(id).filter(|alert| alert.state != AlertState::Withdrawn)?;
        known.useful = Some(useful);
        Some(known)
    }

    fn evict(&mut self) {
        let mut order: Vec<(bool, i64, String)> = self
            .alerts
            .values()
            .map(|alert| (alert.state.is_firing(), alert.start, alert.id.clone()))
            .collect();
        order.sort_unstable();
        for (firing, _, id) in order.into_iter().take((self.capacity / 4).max(1)) {
            self.alerts.remove(&id);
            self.firing -= u64::from(firing);
        }
    }

    /// Number of open alerts.
    #[must_use]
    pub(crate) fn firing(&self) -> u64 {
        self.firing
    }

    /// An alert by id, including withdrawn ones.
    #[must_use]
    pub(crate) fn get(&self, id: &str) -> Option<&AlertShape> {
        self.alerts.get(id)
    }

    /// The alerts that match a filter, newest window first. Limit and cursor of the filter are ignored.
    #[must_use]
    pub(crate) fn matching(&self, filter: &AlertFilter) -> Vec<&AlertShape> {
        let mut found: Vec<&AlertShape> =
            self.alerts.values().filter(|alert| matches(filter, alert)).collect();
        found.sort_unstable_by(|a, b| newest_first(a, b));
        found
    }
}

/// The order of alerts within a page.
#[must_use]
pub(crate) fn newest_first(a: &AlertShape, b: &AlertShape) -> std::cmp::Ordering {
    b.start.cmp(&a.start).then_with(|| b.id.cmp(&a.id))
}

/// Whether an alert matches a filter. Withdrawn alerts never do.
#[must_use]
pub(crate) fn matches(filter: &AlertFilter, alert: &AlertShape) -> bool {
    let named = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
    alert.state != AlertState::Withdrawn
        && (filter.states.is_empty() || filter.states.contains(&alert.state))
        && named(&filter.detector, &alert.detector)
        && named(&filter.metric, &alert.metric)
        && named(&filter.key, &alert.key)
        && filter.severity.is_none_or(|severity: Severity| severity == alert.severity)
        && filter.from.is_none_or(|from| alert.start >= from.0)
        && filter.to.is_none_or(|to| alert.start < to.0)
}

/// Merges a page of the store (with the cursor of the next page) with live alerts. `first` means the first page, which also contains
/// live alerts that are not in the store yet.
#[must_use]
pub(crate) fn overlay(
    stored: Vec<AlertShape>,
    more: bool,
    first: bool,
    live: &LiveAlerts,
    filter: &AlertFilter,
) -> Vec<AlertShape> {
    let oldest = stored.iter().map(|alert| alert.start).min();
    let mut page: HashMap<String, AlertShape> =
        stored.into_iter().map(|alert| (alert.id.clone(), alert)).collect();
    for alert in page.values_mut() {
        if let Some(known) = live.get(&alert.id) {
            alert.join(known.clone());
        }
    }
    if first {
        for alert in live.matching(filter) {
            // Alerts of later pages must not appear on this page too.
            if !more || oldest.is_none_or(|oldest| alert.start > oldest) {
                page.entry(alert.id.clone()).or_insert_with(|| alert.clone());
            }
        }
    }
    let mut page: Vec<AlertShape> = page.into_values().filter(|alert| matches(filter, alert)).collect();
    page.sort_unstable_by(newest_first);
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::{EpisodeShape, ExplanationShape, StateChangeShape};
    use proptest::prelude::*;
    use rstest::rstest;

    use AlertState::{Early, Firing, Resolved, Withdrawn};

    fn alert(id: &str, state: AlertState, start: i64) -> AlertShape {
        AlertShape {
            id: id.into(),
            pipeline: "shop".into(),
            detector: "crowd".into(),
            metric: "views".into(),
            key: "p1".into(),
            severity: Severity::Warning,
            state,
            start,
            size_ms: 10_000,
            span_ms: 10_000,
            count: 50,
            value: 50.0,
            expected: 5.0,
            spread: 1.0,
            score: 45.0,
            summary: "p1: 50".into(),
            resolved: None,
            episode: None,
            explanation: None,
            raised: start + 500,
            history: vec![StateChangeShape { state, at: start + 500 }],
            useful: None,
        }
    }

    /// Brought up to date at the end of the window `until` windows later, sent then.
    fn during(state: AlertState, until: i64) -> AlertShape {
        let at = until * 10_000 + 500;
        let episode = EpisodeShape {
            since: 0,
            until: (until + 1) * 10_000,
            peak: 60.0 + until as f64,
            peak_start: until * 10_000,
            excess: 55.0 * (until + 1) as f64,
            ending: (state == Resolved).then_some("usual"),
            level: None,
        };
        let history = vec![StateChangeShape { state, at }];
        AlertShape { episode: Some(episode), raised: at, history, ..alert("a", state, 0) }
    }

    /// Of the events up to the end of this window.
    fn explanation(until: i64, events: u64) -> ExplanationShape {
        ExplanationShape {
            until: (until + 1) * 10_000,
            events,
            sampled: false,
            users: events / 2,
            causes: vec![],
            summary: format!("{} people", events / 2),
        }
    }

    fn states(alerts: &[AlertShape]) -> Vec<(&str, AlertState)> {
        alerts.iter().map(|alert| (alert.id.as_str(), alert.state)).collect()
    }

    #[rstest]
    #[case::as_it_should_be(&[Early, Firing, Resolved], Resolved, 0)]
    #[case::out_of_order(&[Resolved, Early, Firing], Resolved, 0)]
    #[case::twice(&[Early, Early, Firing, Firing], Firing, 1)]
    #[case::withdrawn(&[Early, Withdrawn, Early], Withdrawn, 0)]
    fn the_latest_state_wins(#[case] came: &[AlertState], #[case] stands: AlertState, #[case] firing: u64) {
        let mut live = LiveAlerts::new(10);
        for state in came {
            live.take(alert("a", *state, 0));
        }
        assert_eq!(live.get("a").unwrap().state, stands);
        assert_eq!(live.firing(), firing);
        assert_eq!(live.matching(&AlertFilter::default()).len(), usize::from(stands != Withdrawn));
    }

    #[test]
    fn a_known_state_is_not_reported_again_and_the_raise_time_is_kept() {
        let mut live = LiveAlerts::new(10);
        assert!(live.take(alert("a", Early, 1_000)).is_some());
        assert!(live.take(alert("a", Early, 1_000)).is_none());
        let changed = live.take(AlertShape { raised: 9_999, ..alert("a", Firing, 1_000) }).unwrap();
        assert_eq!((changed.state, changed.raised), (Firing, 1_500));
    }

    #[test]
    fn a_record_with_a_later_end_of_the_episode_is_news() {
        let mut live = LiveAlerts::new(10);
        assert!(live.take(alert("a", Early, 0)).is_some());
        assert!(live.take(during(Firing, 0)).is_some());
        assert!(live.take(during(Firing, 2)).is_some());
        assert!(live.take(during(Firing, 1)).is_none(), "known to be later already");
        assert!(live.take_feedback("a", true).is_some());
        let over = live.take(during(Resolved, 2)).unwrap().clone();
        let history: Vec<(AlertState, i64)> = over.history.iter().map(|c| (c.state, c.at)).collect();
        assert_eq!(history, [(Early, 500), (Firing, 500), (Resolved, 20_500)]);
        assert_eq!((over.raised, over.useful), (500, Some(true)));
        assert_eq!(over.episode, during(Resolved, 2).episode);
        assert_eq!(live.take_feedback("b", true), None);
    }

    #[test]
    fn an_explanation_is_news_and_outlasts_later_records_without_one() {
        let mut live = LiveAlerts::new(10);
        let explained = |record: AlertShape, until, events| AlertShape {
            explanation: Some(explanation(until, events)),
            ..record
        };
        assert!(live.take(during(Firing, 0)).is_some());
        let news = live.take(explained(during(Firing, 0), 0, 40)).unwrap();
        assert_eq!(news.explanation, Some(explanation(0, 40)));
        assert!(live.take(explained(during(Firing, 0), 0, 40)).is_none(), "known already");
        assert!(live.take(during(Firing, 3)).is_some());
        // Later than the other explanation, though it comes with an older record.
        assert!(live.take(explained(during(Firing, 2), 2, 30)).is_some());
        assert!(live.take(explained(during(Firing, 2), 1, 90)).is_none());
        assert!(live.take(during(Resolved, 3)).is_some());
        let over = live.get("a").unwrap();
        assert_eq!((over.state, &over.explanation), (Resolved, &Some(explanation(2, 30))));
        // The store may know a later one.
        let stored = vec![explained(during(Firing, 1), 3, 10)];
        let page = overlay(stored, false, true, &live, &AlertFilter::default());
        assert_eq!((page[0].state, &page[0].explanation), (Resolved, &Some(explanation(3, 10))));
    }

    #[test]
    fn feedback_of_the_store_precedes_what_this_replica_remembers() {
        let mut live = LiveAlerts::new(10);
        live.take(during(Firing, 2));
        live.take_feedback("a", true);
        let stored = |useful| vec![AlertShape { useful, ..during(Firing, 1) }];
        for (stored, shown) in [(stored(None), Some(true)), (stored(Some(false)), Some(false))] {
            let page = overlay(stored, false, true, &live, &AlertFilter::default());
            assert_eq!((page[0].useful, page[0].episode.clone()), (shown, during(Firing, 2).episode));
        }
    }

    #[test]
    fn merges_a_page_of_the_store_without_gaps_or_duplicates() {
        let mut live = LiveAlerts::new(10);
        for (id, state, start) in
            [("new", Early, 50), ("b", Resolved, 40), ("c", Withdrawn, 30), ("older-page", Firing, 10)]
        {
            live.take(alert(id, state, start));
        }
        let stored = || vec![alert("b", Firing, 40), alert("c", Early, 30), alert("d", Resolved, 20)];
        let any = AlertFilter::default();
        let first = overlay(stored(), true, true, &live, &any);
        assert_eq!(states(&first), [("new", Early), ("b", Resolved), ("d", Resolved)]);
        let later = overlay(stored(), true, false, &live, &any);
        assert_eq!(states(&later), [("b", Resolved), ("d", Resolved)]);
        let only = overlay(stored(), false, true, &live, &any);
        assert_eq!(states(&only), [("new", Early), ("b", Resolved), ("d", Resolved), ("older-page", Firing)]);
        let firing = AlertFilter { states: vec![Early, Firing], ..AlertFilter::default() };
        assert_eq!(
            states(&overlay(vec![alert("b", Firing, 40)], true, true, &live, &firing)),
            [("new", Early)]
        );
    }

    /// Id, state, windows of the episode (0: none), events, and windows and events that were looked through.
    type Record = (u8, usize, i64, u64, Option<(i64, u64)>);

    proptest! {
        #[test]
        fn the_result_is_independent_of_order_and_repetition(
            (all, shuffled) in prop::collection::vec((0_u8..5, 0_usize..4, 0_i64..4, 50_u64..52, prop::option::of((0_i64..3, 20_u64..26))), 0..40).prop_flat_map(|all| {
                let twice: Vec<_> = all.iter().chain(&all).copied().collect();
                (Just(all), Just(twice).prop_shuffle())
            })
        ) {
            let end = |records: &[Record]| {
                let mut live = LiveAlerts::new(100);
                for (id, state, until, count, explained) in records {
                    let state = [Early, Firing, Resolved, Withdrawn][*state];
                    let record = if *until == 0 { alert("a", state, 0) } else { during(state, *until) };
                    let explanation = explained.map(|(until, events)| explanation(until, events));
                    live.take(AlertShape { id: id.to_string(), count: *count, explanation, ..record });
                }
                let shown: Vec<AlertShape> = live.matching(&AlertFilter::default()).into_iter().cloned().collect();
                let firing = shown.iter().filter(|alert| alert.state.is_firing()).count() as u64;
                assert_eq!(firing, live.firing());
                shown
            };
            prop_assert_eq!(end(&all), end(&shuffled));
        }

        #[test]
        fn memory_is_bounded_and_open_alerts_are_kept_longest(ids in prop::collection::vec((0_u16..500, any::<bool>()), 1..300)) {
            let mut live = LiveAlerts::new(20);
            for (id, firing) in ids {
                live.take(alert(&id.to_string(), if firing { Firing } else { Resolved }, i64::from(id)));
                prop_assert!(live.alerts.len() <= 20);
                let firing = live.alerts.values().filter(|alert| alert.state.is_firing()).count() as u64;
                prop_assert_eq!(firing, live.firing());
            }
        }
    }
}
