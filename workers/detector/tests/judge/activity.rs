//! What the stage's metrics tell of detectors.

use herd_detector::judge::activity::Activity;

use super::{Judge, watched};

const DETECTORS: &str = "[{name: crowd, metric: views}, {name: level, metric: views, algorithm: {level: {}}, alerts: {probability: 0.001}}, \
    {name: old, metric: views, algorithm: {zscore: {sigmas: 4, history: 20, warmup: 10}}}]";

/// Fifty keys with four events each in every window up to `windows`, and a crowd on one of them in the last four.
fn run(judge: &mut Judge, windows: i64) {
    for window in 0..windows {
        for key in 0..50 {
            let crowd = key == 7 && window >= windows - 4;
            let count = if crowd { 90 } else { 3 + u64::try_from((window + key) % 3).unwrap() };
            judge.count(&format!("product-{key}"), window * 10_000, count);
        }
        judge.close((window + 1) * 10_000);
    }
}

fn activity(judge: &mut Judge) -> Activity {
    judge.partition.take_activity().next().unwrap()
}

#[test]
fn an_alert_is_raised_once_however_often_it_is_brought_up_to_date() {
    let mut judge = Judge::new(watched("10s", DETECTORS));
    run(&mut judge, 300);
    for detector in ["crowd", "level", "old"] {
        let records: Vec<_> = judge.alerts.iter().filter(|alert| alert.detector == detector).collect();
        let of_crowd = records.iter().filter(|alert| alert.key == "product-7");
        assert_eq!(of_crowd.clone().filter(|alert| alert.is_raised()).count(), 1, "{detector}: {records:#?}");
        assert!(of_crowd.count() > 2, "{detector} brought its alert up to date");
        let mut ids: Vec<_> = records.iter().map(|alert| &alert.id).collect();
        ids.sort();
        ids.dedup();
        let withdrawn_or_early = ids
            .iter()
            .filter(|id| !records.iter().any(|alert| alert.id == ***id && alert.is_raised()))
            .count();
        let raised = records.iter().filter(|alert| alert.is_raised()).count();
        assert_eq!(raised + withdrawn_or_early, ids.len(), "each alert is raised once");
    }
}

#[test]
fn detectors_tell_which_keys_they_cannot_judge_yet_and_from_which_score_on_they_alert() {
    let mut judge = Judge::new(watched("10s", DETECTORS));
    run(&mut judge, 5);
    let [crowd, level, old] = activity(&mut judge).detectors[..] else { panic!("three detectors") };
    assert_eq!([crowd.warming_up, level.warming_up, old.warming_up], [50, 50, 50]);
    assert_eq!((crowd.threshold, old.threshold), (None, None));
    let mut judge = Judge::new(watched("10s", DETECTORS));
    run(&mut judge, 300);
    let [crowd, level, old] = activity(&mut judge).detectors[..] else { panic!("three detectors") };
    assert_eq!([crowd.warming_up, level.warming_up, old.warming_up], [0, 0, 0]);
    // A budget of five a day over some 430,000 windows of keys a day: one in 86,000, at least.
    assert!(crowd.threshold.is_some_and(|score| score > 4.9), "{crowd:?}");
    assert!(level.threshold.is_some_and(|score| (score - 3.0).abs() < 1e-9), "{level:?}");
    assert_eq!(old.threshold, None, "it keeps to no budget");
}

#[test]
fn events_of_known_keys_are_told_from_those_of_new_ones_once() {
    for detectors in [DETECTORS, "[{name: level, metric: views, algorithm: {level: {}}}]"] {
        let mut judge = Judge::new(watched("10s", detectors));
        judge.count("old", 0, 5);
        judge.close(10_000);
        let first = activity(&mut judge);
        assert_eq!((first.known_events, first.new_events), (0, 5));
        judge.count("old", 10_000, 3);
        judge.count("new", 10_000, 4);
        judge.close(20_000);
        let second = activity(&mut judge);
        assert_eq!((second.known_events, second.new_events), (3, 4));
        let nothing = activity(&mut judge);
        assert_eq!((nothing.known_events, nothing.new_events), (0, 0));
    }
}
