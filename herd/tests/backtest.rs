//! `herd backtest`: reports, files and errors.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fmt::Write as _;
use std::path::Path;

use rstest::rstest;
use serde_json::Value;
use support::{herd, json, stderr, stdout};

const PIPELINE: &str = "
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata: {name: shop}
spec:
  metrics:
    - {name: views, window: 10s}
  detectors:
    - {name: some, metric: views, algorithm: {threshold: {above: 30}}, cooldown: 60s}
    - {name: high, metric: views, algorithm: {threshold: {above: 50}}, cooldown: 60s}
    - {name: none, metric: views, algorithm: {poisson: {}}, minCount: 1000}
";
const BASE: i64 = 1_700_000_000_000;

/// 100 windows of 10 s, two views of each of three items in each of them; 40 views of `item-1` in the window 60 and 70 in the
/// window 80, and 60 of `item-2` in the window 90, which the labels do not contain.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut csv = String::from("ts,event,item,user\n");
    for window in 0..100 {
        let mut row = |item: usize, place: i64| {
            let time = BASE + window * 10_000 + place % 10_000;
            writeln!(csv, "{time},view,item-{item},u{}", place % 97).unwrap();
        };
        for place in 0..2 {
            (0..3).for_each(|item| row(item, place * 4_000 + item as i64 * 100));
        }
        let (item, views) = match window {
            60 => (1, 40),
            80 => (1, 70),
            90 => (2, 60),
            _ => (0, 0),
        };
        (0..views).for_each(|place| row(item, 5_000 + place * 10));
    }
    std::fs::write(folder.path().join("events.csv"), csv).unwrap();
    std::fs::write(folder.path().join("shop.yaml"), PIPELINE).unwrap();
    let crowd = |window: i64| {
        let from = BASE + window * 10_000;
        serde_json::json!({"item": "item-1", "from": from, "to": from + 20_000, "why": "again", "events": 40})
    };
    let truth = serde_json::json!({
        "scenario": "test", "windows": 100, "base": BASE, "window": 10_000, "truth": [crowd(60), crowd(80)], "global": []
    });
    std::fs::write(folder.path().join("truth.json"), truth.to_string()).unwrap();
    folder
}

fn report(folder: &Path, options: &[&str]) -> Value {
    let arguments = [&["backtest", "shop.yaml", "--events", "events.csv", "--json"], options].concat();
    json(&herd(folder, &arguments))
}

#[test]
fn prints_alerts_by_detector_day_and_key() {
    let folder = folder();
    let text = stdout(&herd(folder.path(), &["backtest", "shop.yaml", "--events", "events.csv"]));
    let expected = [
        "770 events from 2023-11-14 22:13 to 2023-11-14 22:29 UTC",
        "high           2",
        "2023-11-14     ",
        "item-1       ",
        "2023-11-14 22:26:40  high  item-1 is within the bound again after 10 s: peak 72 views in 10 s",
    ];
    for line in expected {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    let report = report(folder.path(), &[]);
    assert_eq!(report["rows"], 770);
    let pipeline = &report["pipelines"][0];
    assert_eq!(pipeline["counts"]["windows"], 300);
    assert_eq!(pipeline["detectors"][0]["alerts"], 3);
    assert_eq!(pipeline["days"]["2023-11-14"]["some"], 3);
    assert_eq!(pipeline["keys"][0], serde_json::json!(["item-1", 3]));
}

/// 200 windows with four views of each of two items; 40 more of `item-1` in the window 100, from one country with one device, which are
/// both common but not together, and 60 more of `item-2` in the window 150, by one user.
#[test]
fn explains_the_alerts_that_it_lists() {
    let folder = tempfile::tempdir().unwrap();
    let mut csv = String::from("ts,event,item,user,country,device\n");
    for window in 0..200 {
        let mut user = window * 100;
        let mut row = |item: usize, place: i64, bot: bool, from: (&str, &str)| {
            user += 1;
            let (time, user) = (BASE + window * 10_000 + place, if bot { 7 } else { user });
            writeln!(csv, "{time},view,item-{item},u{user},{},{}", from.0, from.1).unwrap();
        };
        for place in 0..4 {
            let from = if (window + place) % 2 == 0 { ("BR", "desktop") } else { ("DE", "mobile") };
            (1..3).for_each(|item| row(item, place * 2_000, false, from));
        }
        (0..if window == 100 { 40 } else { 0 })
            .for_each(|place| row(1, 8_000 + place, false, ("BR", "mobile")));
        (0..if window == 150 { 60 } else { 0 })
            .for_each(|place| row(2, 8_000 + place, true, ("DE", "mobile")));
    }
    std::fs::write(folder.path().join("events.csv"), csv).unwrap();
    std::fs::write(folder.path().join("shop.yaml"), PIPELINE).unwrap();
    let backtest = ["backtest", "shop.yaml", "--events", "events.csv"];
    let text = stdout(&herd(folder.path(), &backtest));
    for line in [
        "100 % of the excess from country BR and device mobile; 44 people",
        "1 user made 94 % of it: looks automated",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    let explained = |options: &[&str]| {
        herd(
            folder.path(),
            &[backtest.as_slice(), &["--json", "--alerts", "alerts.ndjson"], options].concat(),
        );
        let alerts = std::fs::read_to_string(folder.path().join("alerts.ndjson")).unwrap();
        let alerts = alerts.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        alerts.map(|alert| alert["explanation"]["summary"].clone()).collect::<Vec<_>>()
    };
    let all = explained(&[]);
    assert!(all.len() >= 3 && all.iter().all(Value::is_string), "{all:?}");
    // Up to the middle of the second crowd.
    let some = explained(&["--limit", "1290"]);
    assert_eq!(some[0], all[0]);
    assert!(some[1].as_str().unwrap().starts_with("1 user made 9"), "{some:?}");
    assert_ne!(some[1], all[1]);
    std::fs::write(folder.path().join("shop.yaml"), PIPELINE.replace("cooldown: 60s", "explain: []"))
        .unwrap();
    assert!(explained(&[]).iter().all(Value::is_null));
}

#[test]
fn compares_alerts_with_labels() {
    let folder = folder();
    let found = &report(folder.path(), &["--truth", "truth.json"])["pipelines"][0]["found"];
    let seen = |place: usize| (found[place]["found"].as_u64(), found[place]["false_alerts"].as_u64());
    assert_eq!((seen(0), seen(1)), ((Some(2), Some(1)), (Some(1), Some(1))), "{found}");
    let text = stdout(&herd(
        folder.path(),
        &["backtest", "shop.yaml", "--events", "events.csv", "--truth", "truth.json"],
    ));
    assert!(text.contains("found 2/2 1.000  false 1 (3.60 an hour)  again: 2/2"), "{text}");
}

#[test]
fn shows_values_of_a_field_and_another_pipeline_side_by_side() {
    let folder = folder();
    std::fs::write(folder.path().join("other.yaml"), PIPELINE.replace("above: 50", "above: 65")).unwrap();
    let options = ["--sweep", "above=30,50", "--compare", "other.yaml"];
    let report = report(folder.path(), &options);
    let alerts = |place: usize| report["pipelines"][place]["detectors"][1]["alerts"].as_u64();
    assert_eq!([alerts(0), alerts(1), alerts(2)], [Some(3), Some(2), Some(1)]);
    let arguments = [&["backtest", "shop.yaml", "--events", "events.csv"], options.as_slice()].concat();
    let text = stdout(&herd(folder.path(), &arguments));
    assert!(text.contains("high      above=30         3"), "{text}");
    assert!(text.contains("high      other.yaml       1"), "{text}");
}

#[test]
fn writes_alerts_and_a_plot() {
    let folder = folder();
    let options = ["--alerts", "alerts.ndjson", "--plot", "item-1", "--out", "item-1.svg"];
    let _ = report(folder.path(), &options);
    let alerts = std::fs::read_to_string(folder.path().join("alerts.ndjson")).unwrap();
    let alerts: Vec<Value> = alerts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(alerts.len(), 5);
    assert!(alerts.iter().all(|alert| alert["state"] == "resolved"), "{alerts:?}");
    let svg = std::fs::read_to_string(folder.path().join("item-1.svg")).unwrap();
    assert!(svg.contains("item-1: views in 10 s") && svg.contains("shaded: 3 alerts"), "{svg}");
}

#[rstest]
#[case(&["--events", "none.csv"], "cannot open none.csv")]
#[case(&["--events", "shop.yaml"], "the format of shop.yaml is unknown")]
#[case(&["--events", "events.csv", "--map", "item=sku"], "`--map item=sku` names a column that does not exist")]
#[case(&["--events", "events.csv", "--sweep", "sigma=3"], "no detector of `shop` has the field `sigma`")]
#[case(&["--events", "events.csv", "--sweep", "probability=2"], "must be more than 0 and at most 0.1")]
#[case(&["--events", "events.csv", "--sweep", "probability"], "write FIELD=VALUE,VALUE,…")]
#[case(&["--events", "events.csv", "--compare", "none.yaml"], "cannot read none.yaml")]
#[case(&["--events", "events.csv", "--truth", "events.csv"], "events.csv does not contain labels")]
#[case(&["--events", "events.csv", "--truth", "old.json"], "the labels are of 2001-09-09 01:46 to 2001-09-09 01:46")]
#[case(&["--events", "events.csv", "--plot", "item-9"], "no window of the metric `views` has the key `item-9`")]
#[case(&["--events", "events.csv", "--plot", "item-1", "--metric", "vews"], "the pipeline has no metric `vews`")]
#[case(&["--events", "events.csv", "--plot", "item-1", "--out", "no/plot.svg"], "cannot write no/plot.svg")]
#[case(&["--events", "events.csv", "--alerts", "no/alerts.ndjson"], "cannot write no/alerts.ndjson")]
#[case(&["--events", "empty.csv"], "empty.csv: the file contains no events")]
#[case(&["--events", "broken.csv"], "broken.csv, line 3: \"soon\" is not a time")]
#[case(&["--events", "timeless.ndjson"], "no column is recognised as the time")]
fn explains_what_is_wrong(#[case] options: &[&str], #[case] expected: &str) {
    let folder = folder();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("empty.csv", "ts,event,item,user\n");
    write("broken.csv", "ts,event,item\n1700000000,view,a\nsoon,view,a\n");
    write("timeless.ndjson", "{\"item\":\"a\",\"type\":\"view\"}\n");
    write("old.json", r#"{"scenario":"old","base":1000000000000,"window":1000,"windows":5,"truth":[]}"#);
    let output = herd(folder.path(), &[&["backtest", "shop.yaml"], options].concat());
    assert!(!output.status.success());
    // Long messages are wrapped.
    let flat = |text: &str| text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    let message = flat(&stderr(&output));
    assert!(message.contains(&flat(expected)), "{message}");
}

#[test]
fn refuses_events_that_the_collector_would_refuse() {
    let folder = folder();
    let types = PIPELINE.replace("spec:\n", "spec:\n  events: {types: [purchase]}\n");
    std::fs::write(folder.path().join("shop.yaml"), types).unwrap();
    let output = herd(folder.path(), &["backtest", "shop.yaml", "--events", "events.csv"]);
    assert!(!output.status.success());
    let message = stderr(&output);
    assert!(
        message.contains("would refuse all 770 events") && message.contains("`view` is not"),
        "{message}"
    );
}
