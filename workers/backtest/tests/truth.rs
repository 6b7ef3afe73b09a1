//! The comparison with labels gives the figures of `found.py`, an implementation in another language of the same rules.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Command;

use herd_backtest::truth::{Crowd, Found, Truth};
use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertId, AlertState, Fingerprint, Severity};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rstest::rstest;

const BASE: i64 = 1_700_000_000_000;
const WINDOW: i64 = 10_000;

fn alert(detector: &str, key: String, start: i64, state: AlertState) -> Alert {
    Alert {
        v: 1,
        id: AlertId::of("shop", detector, &key, EventTime(start)),
        pipeline: "shop".into(),
        detector: detector.into(),
        metric: "views".into(),
        rule: Fingerprint::default(),
        key,
        severity: Severity::Warning,
        state,
        start: EventTime(start),
        size_ms: WINDOW.unsigned_abs(),
        span_ms: WINDOW.unsigned_abs(),
        count: 1,
        value: 1.0,
        expected: 1.0,
        spread: 1.0,
        score: 1.0,
        summary: String::new(),
        resolved: None,
        episode: None,
        explanation: None,
    }
}

/// As `found.py` prints it.
fn line(found: &Found) -> String {
    let unit = if found.in_days { "a day" } else { "an hour" };
    let mut kinds: Vec<_> = found.kinds.iter().collect();
    kinds.sort_by_key(|(kind, _)| (kind.len(), (*kind).clone()));
    let kinds: Vec<String> = kinds.iter().map(|(kind, (hit, all))| format!("{kind}: {hit}/{all}")).collect();
    let head = format!(
        "{:24} found {}/{} {:.3}  false {} ({:.2} {unit})  {}",
        found.detector,
        found.found,
        found.crowds,
        found.share(),
        found.false_alerts,
        found.false_rate(),
        kinds.join("  ")
    );
    head.trim_end().to_owned()
}

#[rstest]
fn finds_what_the_other_implementation_finds(#[values(1, 2, 3, 4)] seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let windows = 400;
    let at = |window: i64| BASE + window * WINDOW;
    let truth: Vec<Crowd> = (0..random.random_range(0..40))
        .map(|_| {
            let from = random.random_range(0..windows);
            let length = random.random_range(1..5);
            let why = ["6", "12", "48", "again"][random.random_range(0..4)].to_owned();
            Crowd {
                item: format!("item-{}", random.random_range(0..8)),
                from: at(from),
                to: at(from + length),
                why,
            }
        })
        .collect();
    let truth = Truth {
        scenario: "random".into(),
        windows,
        base: BASE,
        window: WINDOW,
        t0: seed.is_multiple_of(2).then(|| at(100)),
        days: (seed > 2).then_some(30.0),
        truth,
        global: vec![(at(200), at(220)), (at(300), at(301))],
    };
    let states = [AlertState::Firing, AlertState::Resolved, AlertState::Withdrawn];
    let alerts: Vec<Alert> = (0..600)
        .map(|_| {
            let key = match random.random_range(0..10) {
                0 => "(all)".to_owned(),
                n => format!("item-{n}"),
            };
            let detector = ["a", "b"][random.random_range(0..2)];
            alert(detector, key, at(random.random_range(-5..windows + 5)), states[random.random_range(0..3)])
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let (labels, lines) = (folder.path().join("truth.json"), folder.path().join("alerts.ndjson"));
    std::fs::write(&labels, serde_json::to_string(&truth).unwrap()).unwrap();
    let written: String = alerts.iter().map(|alert| serde_json::to_string(alert).unwrap() + "\n").collect();
    std::fs::write(&lines, written).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/found.py");
    let output =
        Command::new("python3").args([script.as_ref(), labels.as_os_str(), lines.as_os_str()]).output();
    let output = output.expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let expected: Vec<&str> = printed.lines().map(str::trim_end).collect();
    let read = Truth::read(&labels).unwrap();
    assert_eq!(read, truth);
    let found = read.compare(&alerts, &["a".to_owned(), "b".to_owned()]);
    assert_eq!(found.iter().map(line).collect::<Vec<_>>(), expected);
}
