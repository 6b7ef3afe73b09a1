//! Alerts that need so many different users.

use herd_detector::aggregate::{Contribution, Running};
use herd_spec::plan::Plan;
use herd_spec::wire::{Aggregate, AlertState};

use super::{Judge, watched};

/// What `events` events by `users` users count for in a window.
fn counted(events: u64, users: u64) -> Aggregate {
    let mut running = Running::default();
    for event in 0..events {
        running.add(Contribution::One);
        running.add_user(&format!("user-{}", event % users));
    }
    running.to_wire()
}

/// Two crowds of ninety events a window: one of them by three users, the other by thirty.
fn told(detectors: &str, key: &str) -> Vec<(AlertState, i64)> {
    let mut judge = Judge::new(watched("10s", detectors));
    for window in 0..104 {
        let start = window * 10_000;
        for item in 0..50 {
            judge.add(
                &format!("product-{item}"),
                start,
                counted(3 + u64::try_from((window + item) % 3).unwrap(), 3),
            );
        }
        if window >= 100 {
            judge.add("crawled", start, counted(90, 3));
            judge.add("popular", start, counted(90, 30));
            judge.announce(start + 5_000);
        }
        judge.close(start + 10_000);
    }
    let of_key = judge.alerts.iter().filter(|alert| alert.key == key);
    of_key.map(|alert| (alert.state, alert.start.0)).collect()
}

fn crowd(alerts: &str) -> String {
    format!("[{{name: crowd, metric: views, alerts: {{{alerts}}}}}]")
}

#[test]
fn a_crowd_of_few_users_raises_no_alert_neither_early_nor_when_its_window_closes() {
    let detectors = crowd("minUsers: 5");
    assert_eq!(told(&detectors, "crawled"), []);
    let popular = told(&detectors, "popular");
    assert_eq!(popular[..2], [(AlertState::Early, 1_000_000), (AlertState::Firing, 1_000_000)]);
    let without = told(&crowd(""), "crawled");
    assert_eq!(without[..2], [(AlertState::Early, 1_000_000), (AlertState::Firing, 1_000_000)]);
}

#[test]
fn other_algorithms_demand_users_as_well() {
    for algorithm in ["{threshold: {above: 50}}", "{poisson: {}}", "{level: {}}"] {
        let limit = if algorithm.contains("level") { ", probability: 0.05" } else { "" };
        let detectors = |users| {
            format!(
                "[{{name: d, metric: views, algorithm: {algorithm}, alerts: {{minUsers: {users}{limit}}}}}]"
            )
        };
        assert_eq!(told(&detectors(5), "crawled"), [], "{algorithm}");
        if !algorithm.contains("threshold") {
            continue; // keys without a past are judged by bounds alone
        }
        assert_eq!(told(&detectors(5), "popular")[0].1, 1_000_000, "{algorithm}");
        assert_eq!(told(&detectors(3), "crawled")[0].1, 1_000_000, "{algorithm}");
    }
}

#[test]
fn users_are_counted_only_where_a_detector_demands_them() {
    let plan = |aggregate: &str, alerts: &str| {
        let spec = format!(
            "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {{name: shop}}\nspec:\n  metrics: [{{name: views{aggregate}}}, {{name: other}}]\n  \
             detectors: [{{name: d, metric: views, alerts: {{{alerts}}}}}]\n"
        );
        Plan::parse(&serde_yaml::from_str(&spec).unwrap()).unwrap()
    };
    let users = |plan: Plan| plan.metrics.iter().map(|metric| metric.users).collect::<Vec<_>>();
    assert_eq!(users(plan("", "")), [false, false]);
    assert_eq!(users(plan("", "minUsers: 2")), [true, false]);
    assert_eq!(users(plan(", aggregate: {function: unique, field: user_id}", "minUsers: 2")), [false, false]);
}
