//! One partition of fold, driven by hand: ids it knows, and metrics whose definition changes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::convert::Infallible;

use herd_detector::commit::Position;
use herd_detector::fold::{ApplyOutcome, Source};
use herd_detector::metric::Metrics;
use herd_spec::pipeline::HerdPipeline;
use herd_spec::plan::Plan;
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::EventRef;

fn metrics(metrics: &str) -> Metrics {
    let spec = format!(
        "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {{name: shop}}\nspec:\n  events: {{maxLateness: 0s}}\n  metrics: {metrics}\n"
    );
    let pipeline: HerdPipeline = serde_yaml::from_str(&spec).unwrap();
    Metrics::of(&Plan::parse(&pipeline).unwrap())
}

struct Fold {
    source: Source,
    metrics: Metrics,
    next: i64,
    /// What was sent last of each metric, window, key and beginning.
    sent: BTreeMap<(String, i64, String, i64), u64>,
}

impl Fold {
    fn resume(position: &Position, next: i64, metrics: Metrics) -> Self {
        let source = Source::resume(Partition(0), position, &metrics, WallTime(0));
        Self { source, metrics, next, sent: BTreeMap::new() }
    }

    fn event(&mut self, id: &str, time: i64) -> ApplyOutcome {
        self.event_of(id, "a", time)
    }

    fn event_of(&mut self, id: &str, key: &str, time: i64) -> ApplyOutcome {
        let event =
            format!(r#"{{"v":1,"event_id":"{id}","type":"t","item_id":"{key}","time":{time},"received":0}}"#);
        let offset = Offset(self.next);
        self.next += 1;
        self.source.apply(offset, &EventRef::parse(event.as_bytes()).unwrap(), &self.metrics, WallTime(0))
    }

    fn emit(&mut self) {
        let sent = &mut self.sent;
        let due = vec![true; self.metrics.all.len()];
        let emitted = self.source.emit(&self.metrics, &due, |part| {
            let shape = part.shape.unwrap();
            let name = format!("{} {} s", part.metric, shape.size_ms / 1_000);
            sent.insert((name, part.start.0, part.key.to_string(), part.since.0), part.value.count);
            Ok::<_, Infallible>(())
        });
        let Ok(()) = emitted;
    }

    /// The early parts that are sent now: key and events, the totals of their windows.
    fn emit_early(&mut self) -> (Vec<(String, u64)>, Vec<u64>) {
        let mut parts = Vec::new();
        let totals = self.source.emit_early(&self.metrics, |part| {
            parts.push((part.key.to_string(), part.value.count));
            Ok::<_, Infallible>(())
        });
        let Ok(totals) = totals;
        parts.sort();
        (parts, totals.iter().map(|total| total.count).collect())
    }

    /// Metric and window, start, beginning, events.
    fn sent(&self) -> Vec<(&str, i64, i64, u64)> {
        let sent = self.sent.iter();
        sent.map(|((name, start, _, since), count)| (name.as_str(), *start, *since, *count)).collect()
    }
}

#[test]
fn drops_a_duplicate_while_a_window_that_overlaps_the_longest_is_open() {
    let mut fold =
        Fold::resume(&Position::START, 0, metrics("[{name: m, window: 7s}, {name: n, window: 10s}]"));
    fold.event("x", 9_500);
    // The window of 10 s is closed, the one of 7 s that begins at 7 is open.
    fold.event("y", 10_500);
    fold.emit();
    assert_eq!(fold.event("x", 9_500), ApplyOutcome { duplicate: true, late: true, too_large: false });
    fold.event("z", 30_000);
    fold.emit();
    assert!(fold.sent().contains(&("m 7 s", 7_000, 0, 2)), "{:?}", fold.sent());
}

#[test]
fn a_new_definition_counts_from_where_the_old_one_was_sent() {
    let mut old = Fold::resume(&Position::START, 0, metrics("[{name: m, window: 2s}]"));
    (0..5).for_each(|n| {
        old.event(&format!("e{n}"), 10_000 + n * 200);
    });
    old.emit();
    let position = old.source.position(&old.metrics);
    assert_eq!((position.next, position.replay_from), (Offset(5), Offset(0)));
    assert_eq!(old.sent(), [("m 2 s", 10_000, 0, 5)]);

    let mut new = Fold::resume(&position, 0, metrics("[{name: m, window: 5s}]"));
    assert_eq!(new.source.began(&position, &new.metrics), [(0, Offset(5))]);
    // Read again by the successor, and counted by the old definition already.
    (0..5).for_each(|n| {
        new.event(&format!("e{n}"), 10_000 + n * 200);
    });
    (5..8).for_each(|n| {
        new.event(&format!("e{n}"), 10_000 + n * 200);
    });
    assert!(new.event("e2", 10_400).duplicate, "ids are known across the change");
    new.emit();
    assert_eq!(new.sent(), [("m 5 s", 10_000, 5, 3)]);

    // Taken back while windows are open: other events of the same window, which add up to the first ones.
    let position = new.source.position(&new.metrics);
    let mut back = Fold::resume(&position, 0, metrics("[{name: m, window: 2s}]"));
    (0..8).for_each(|n| {
        back.event(&format!("e{n}"), 10_000 + n * 200);
    });
    back.event("e2", 10_400);
    back.event("e9", 11_900);
    back.emit();
    assert_eq!(back.sent(), [("m 2 s", 10_000, 9, 1)]);
}

#[test]
fn an_unchanged_definition_keeps_counting() {
    let spec = "[{name: m, window: 2s}, {name: n, window: 10s}]";
    let mut first = Fold::resume(&Position::START, 0, metrics(spec));
    (0..5).for_each(|n| {
        first.event(&format!("e{n}"), 10_000 + n * 200);
    });
    first.emit();
    let position = first.source.position(&first.metrics);
    let mut second = Fold::resume(&position, 0, metrics(spec));
    assert_eq!(second.source.began(&position, &second.metrics), []);
    (0..6).for_each(|n| {
        second.event(&format!("e{n}"), 10_000 + n * 200);
    });
    second.emit();
    assert_eq!(second.sent(), [("m 2 s", 10_000, 0, 6), ("n 10 s", 10_000, 0, 6)]);
}

#[test]
fn an_event_that_was_late_before_a_longer_window_came_stays_late() {
    let mut old = Fold::resume(&Position::START, 0, metrics("[{name: m, window: 2s}]"));
    old.event("x", 10_500);
    old.event("y", 15_000);
    old.emit();
    let position = old.source.position(&old.metrics);
    let mut new = Fold::resume(&position, 1, metrics("[{name: m, window: 20s}]"));
    new.event("y", 15_000);
    // Whether this is the first event again, nobody knows any more.
    assert!(new.event("x", 10_500).late);
    new.event("z", 15_100);
    new.emit();
    assert_eq!(new.sent(), [("m 20 s", 0, 2, 1)]);
}

/// A pipeline whose metric sends early parts, and announces its totals.
fn adaptive() -> Metrics {
    let spec = "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {name: shop}\nspec:\n  events: {maxLateness: 0s}\n  \
                metrics: [{name: m, window: 10s, emit: adaptive}]\n  detectors: [{name: herd, metric: m}]\n";
    let pipeline: HerdPipeline = serde_yaml::from_str(spec).unwrap();
    Metrics::of(&Plan::parse(&pipeline).unwrap())
}

#[test]
fn early_parts_are_of_keys_with_new_events_and_go_out_once() {
    let mut fold = Fold::resume(&Position::START, 0, adaptive());
    for (id, key) in [("1", "a"), ("2", "a"), ("3", "b")] {
        fold.event_of(id, key, 1_000);
    }
    assert_eq!(fold.emit_early(), (vec![("a".into(), 2), ("b".into(), 1)], vec![3]));
    assert_eq!(fold.emit_early(), (vec![], vec![]), "nothing is new");
    fold.event_of("4", "b", 2_000);
    assert_eq!(fold.emit_early(), (vec![("b".into(), 2)], vec![4]));
}

#[test]
fn early_parts_are_not_taken_for_sent() {
    let mut fold = Fold::resume(&Position::START, 0, adaptive());
    fold.event("1", 1_000);
    fold.emit_early();
    let sent = fold.source.position(&fold.metrics).counting.unwrap().metrics[0].sent;
    assert_eq!(sent, Offset(0));
    assert_eq!(fold.source.take_totals(&fold.metrics).len(), 1);
    fold.emit();
    assert_eq!(fold.sent(), [("m 10 s", 0, 0, 1)]);
}

#[test]
fn early_parts_are_bounded_to_the_keys_that_grow_fastest() {
    let mut fold = Fold::resume(&Position::START, 0, adaptive());
    for key in 0..1_000 {
        fold.event_of(&format!("one {key}"), &key.to_string(), 1_000);
    }
    for id in 0..5 {
        fold.event_of(&format!("more {id}"), "777", 1_000);
    }
    let (parts, totals) = fold.emit_early();
    assert_eq!((parts.len(), totals), (256, vec![1_005]));
    assert!(parts.contains(&("777".into(), 6)), "{parts:?}");
}

#[test]
fn a_metric_with_an_interval_sends_no_early_parts() {
    let mut fold = Fold::resume(&Position::START, 0, metrics("[{name: m, window: 2s}]"));
    fold.event("1", 1_000);
    assert_eq!(fold.emit_early(), (vec![], vec![]));
}
