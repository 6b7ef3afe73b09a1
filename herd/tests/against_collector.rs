//! `generate`, `replay` and `dlq` against a real collector over the embedded bus.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, HashSet};

use support::{Collector, PIPELINE, herd, json, stderr, stdout};

fn id(event: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    event["event_id"].as_str().unwrap().to_owned()
}

#[test]
fn valid_generated_events_are_accepted_and_invalid_ones_become_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path());
    let output = herd(
        folder.path(),
        &[
            "generate",
            "--to",
            &collector.url,
            "--rate",
            "2000",
            "--events",
            "3000",
            "--batch",
            "20",
            "--duplicates",
            "5",
            "--invalid",
            "2",
            "--disorder",
            "5s",
            "--record",
            "sent.ndjson",
            "--json",
        ],
    );
    let report = json(&output);
    assert_eq!(report["events"], 3_000);
    assert_eq!(report["failed"], 0);
    assert_eq!(report["refused"], report["invalid"]);
    assert!(
        report["invalid"].as_u64().unwrap() > 20 && report["duplicates"].as_u64().unwrap() > 50,
        "{report}"
    );

    let mut fresh = HashSet::new();
    let mut invalid = Vec::new();
    let mut accepted = 0;
    for line in std::fs::read_to_string(folder.path().join("sent.ndjson")).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let raw = line["raw"].as_str().unwrap().to_owned();
        match line["kind"].as_str().unwrap() {
            "fresh" => assert!(fresh.insert(id(&raw))),
            "duplicate" => {}
            "invalid" => invalid.push(raw),
            other => panic!("{other}"),
        }
        accepted += u64::from(line["outcome"] == "accepted");
    }
    let events = collector.read(&collector.plan.topics.events);
    assert_eq!(events.len() as u64, accepted);
    assert_eq!(events.iter().map(|event| id(event)).collect::<HashSet<_>>(), fresh);
    let mut dead_letters = collector.read(&collector.plan.topics.dead_letter);
    dead_letters.sort();
    invalid.sort();
    assert_eq!(dead_letters, invalid);
    collector.stop();
}

#[test]
fn a_repeated_replay_sends_the_same_ids() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path());
    let mut csv = "ts_ms,user,item,event\n".to_owned();
    for n in 0..500 {
        csv.push_str(&format!("{},{},{},purchase\n", 1_259_653_500_000_i64 + n * 1_000, n % 50, n % 7));
    }
    std::fs::write(folder.path().join("sales.csv"), csv).unwrap();
    let arguments =
        ["replay", "sales.csv", "--to", &collector.url, "--speed", "max", "--batch", "100", "--json"];
    for _ in 0..2 {
        let report = json(&herd(folder.path(), &arguments));
        assert_eq!((&report["events"], &report["accepted"]), (&500.into(), &500.into()), "{report}");
    }
    let events = collector.read(&collector.plan.topics.events);
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for event in &events {
        *times.entry(id(event)).or_default() += 1;
    }
    assert_eq!(times.len(), 500);
    assert!(times.values().all(|times| *times == 2));
    let first: serde_json::Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(first["type"], "purchase");
    assert!(first["time"].as_i64().unwrap() < 1_300_000_000_000, "times are unchanged without --rebase");
    collector.stop();
}

#[test]
fn dead_letters_can_be_listed_shown_and_resent() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yaml"), PIPELINE).unwrap();
    let collector = Collector::start(&folder.path().join("data"));
    let bad = r#"{"event_id":"e1","user_id":"u"}"#;
    std::fs::write(folder.path().join("bad.ndjson"), format!("{bad}\n")).unwrap();
    let report = json(&herd(
        folder.path(),
        &["generate", "--to", &collector.url, "--events", "40", "--rate", "400", "--invalid", "50", "--json"],
    ));
    let refused = usize::try_from(report["refused"].as_u64().unwrap()).unwrap();
    assert!(refused > 5, "{report}");
    collector.stop();

    let source = ["--pipeline", "shop.yaml", "--data", "data"];
    let listed = stdout(&herd(folder.path(), &[&["dlq", "ls", "--json"], &source[..]].concat()));
    assert_eq!(listed.lines().count(), refused);
    let record: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    let position = record["letter"].as_str().unwrap();
    let shown = stdout(&herd(folder.path(), &[&["dlq", "show", position], &source[..]].concat()));
    assert!(shown.contains("__connect.errors.exception.message: "), "{shown}");
    assert!(shown.contains(record["bytes"].as_str().unwrap()), "{shown}");
    let none = herd(folder.path(), &[&["dlq", "show", "0/999999"], &source[..]].concat());
    assert!(stderr(&none).contains("there is no dead-letter record at 0/999999"), "{}", stderr(&none));

    let other = Collector::start(&folder.path().join("other"));
    let arguments = [&["dlq", "replay", "--to", &other.url, "--json"], &source[..]].concat();
    let again = herd(folder.path(), &arguments);
    assert!(!again.status.success(), "invalid events are refused again");
    let report: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(report["refused"].as_u64().unwrap() as usize, refused, "{report}");
    let mut dead_letters = other.read(&other.plan.topics.dead_letter);
    dead_letters.sort();
    let mut sent: Vec<String> = listed
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["bytes"].as_str().unwrap().to_owned()
        })
        .collect();
    sent.sort();
    assert_eq!(dead_letters, sent);
    other.stop();
}

/// A message of Segment's API is sent again as one, and its time corrected as at the first time, by the clock of its sender.
#[test]
fn dead_letters_of_segments_api_can_be_resent() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yaml"), PIPELINE).unwrap();
    let without_buy = PIPELINE.replace("{maxLateness", "{types: [view], maxLateness");
    let collector = Collector::start_with(&folder.path().join("data"), &without_buy);
    // The clock of the sender is an hour ahead.
    let now = herd_stage::Clock::now(&herd_stage::SystemClock).0;
    let (sent, time) = (now + 3_600_000, now + 3_540_000);
    let batched = format!(r#"{{"type":"track","event":"buy","messageId":"a","timestamp":{time}}}"#);
    let single = format!(r#"{{"event":"buy","messageId":"b","timestamp":{time},"sentAt":{sent}}}"#);
    collector.post("/v1/batch", format!(r#"{{"batch":[{batched}],"sentAt":{sent}}}"#));
    collector.post("/v1/track", single);
    assert_eq!(collector.read(&collector.plan.topics.dead_letter).len(), 2);
    collector.stop();

    let other = Collector::start(&folder.path().join("other"));
    let arguments =
        ["dlq", "replay", "--to", &other.url, "--json", "--pipeline", "shop.yaml", "--data", "data"];
    let report = json(&herd(folder.path(), &arguments));
    assert_eq!(report["accepted"], 2, "{report}");
    let events = other.read(&other.plan.topics.events);
    let mut ids: Vec<String> = events.iter().map(|event| id(event)).collect();
    ids.sort();
    assert_eq!(ids, ["a", "b"]);
    for event in &events {
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        assert_eq!((&event["type"], &event["time"]), (&"buy".into(), &(now - 60_000).into()), "{event}");
    }
    other.stop();
}

#[test]
fn ready_returns_when_the_probe_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(folder.path());
    let output = herd(folder.path(), &["ready", &collector.ops, "--within", "20s"]);
    assert_eq!(stdout(&output), format!("{}/readyz is ready\n", collector.ops));

    // A given path is kept; this one never returns 200.
    let nowhere = format!("{}/nowhere", collector.ops);
    let output = herd(folder.path(), &["ready", &nowhere, "--within", "1s"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("404"), "{}", stderr(&output));
    collector.stop();
}
