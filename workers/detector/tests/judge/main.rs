//! One partition of judge, driven by hand: long silence, what is no item, and what is left of a spec that was changed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod activity;
mod users;
mod whole;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use herd_detector::commit::Position;
use herd_detector::judge::output::{Output, ReadOutcome, Saved};
use herd_detector::judge::partition::JudgePartition;
use herd_detector::judge::watch::Watched;
use herd_spec::pipeline::HerdPipeline;
use herd_spec::plan::{OTHER_KEY, Plan};
use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{
    Aggregate, Alert, AlertState, Ending, Part, PartRecord, Shape, SourceState, SourceTotal, Watermark,
    Window,
};
use proptest::prelude::*;

/// A pipeline with the metric `views`, windows of `window`, and these detectors.
fn watched(window: &str, detectors: &str) -> Vec<Arc<Watched>> {
    let spec = format!(
        "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {{name: shop}}\nspec:\n  events: {{maxLateness: 0s}}\n  \
         metrics: [{{name: views, window: {window}, emit: 1s}}]\n  detectors: {detectors}\n"
    );
    let pipeline: HerdPipeline = serde_yaml::from_str(&spec).unwrap();
    Watched::all(&Plan::parse(&pipeline).unwrap())
}

struct Judge {
    partition: JudgePartition,
    watched: Vec<Arc<Watched>>,
    next: i64,
    /// Events counted so far, by start of the window.
    totals: BTreeMap<i64, u64>,
    windows: Vec<Window<'static>>,
    alerts: Vec<Alert>,
}

impl Judge {
    fn new(watched: Vec<Arc<Watched>>) -> Self {
        let partition =
            JudgePartition::resume("shop", &Position::START, &watched).watching_totals(Partition(0), 1);
        Self { partition, watched, next: 0, totals: BTreeMap::new(), windows: Vec::new(), alerts: Vec::new() }
    }

    /// Another judge that takes over from what this one saved, with another spec.
    fn successor(&mut self, watched: Vec<Arc<Watched>>) -> Self {
        let position = self.partition.position();
        let mut successor = Self::new(watched);
        successor.partition =
            JudgePartition::resume("shop", &position, &successor.watched).watching_totals(Partition(0), 1);
        successor.next = self.next;
        let mut saved = Vec::new();
        let mut save = |key: &[u8], record: Saved<'static>| {
            saved.push((key.to_vec(), record));
            Ok::<_, Infallible>(())
        };
        let Ok(()) = self.partition.save_populations(&mut save);
        let Ok(()) = self.partition.save(&mut save);
        for (key, record) in saved {
            let (value, at) = match &record {
                Saved::Kept(value) => (Some(value.as_ref()), 0),
                Saved::Forgotten(at) => (None, *at),
            };
            successor.partition.recall(&key, value, at);
        }
        successor
    }

    fn read(&mut self, record: &PartRecord<'_>) -> ReadOutcome {
        let (windows, alerts) = (&mut self.windows, &mut self.alerts);
        let offset = Offset(self.next);
        self.next += 1;
        let mut out = |output: Output<'_>| take(output, windows, alerts);
        let Ok(outcome) = self.partition.read(offset, record, WallTime(0), &mut out);
        outcome
    }

    fn count(&mut self, key: &str, start: i64, count: u64) -> ReadOutcome {
        self.add(key, start, Aggregate { count, sum: 0, sketch: None })
    }

    /// Reads a part with what a window of a key holds.
    fn add(&mut self, key: &str, start: i64, value: Aggregate) -> ReadOutcome {
        let metric = &self.watched[0];
        let shape = Shape {
            definition: metric.definition,
            size_ms: u64::try_from(metric.metric.window.as_millis()).unwrap(),
            function: metric.metric.aggregate.function(),
        };
        let part = Part {
            metric: "views".into(),
            shape: Some(shape),
            key: key.to_owned().into(),
            start: EventTime(start),
            source: Partition(0),
            since: Offset(0),
            version: Offset(self.next),
            value,
        };
        *self.totals.entry(start).or_default() += part.value.count;
        self.read(&PartRecord::Part(part))
    }

    /// The source announces how much it has counted so far.
    fn announce(&mut self, until: i64) {
        let total = |(start, count): (&i64, &u64)| SourceTotal {
            metric: "views".into(),
            definition: self.watched[0].definition,
            start: EventTime(*start),
            since: Offset(0),
            version: Offset(self.next),
            count: *count,
        };
        let watermark = Watermark {
            source: Partition(0),
            sources: 1,
            watermark: Some(EventTime(until)),
            state: SourceState::Active,
            at: WallTime(0),
            totals: self.totals.iter().map(total).collect(),
        };
        self.read(&PartRecord::Watermark(watermark));
    }

    /// Everything up to here is in.
    fn close(&mut self, until: i64) {
        self.announce(until);
        self.totals.clear();
        let (windows, alerts) = (&mut self.windows, &mut self.alerts);
        let mut out = |output: Output<'_>| take(output, windows, alerts);
        let Ok(()) = self.partition.resolve_disowned(&mut out);
        let Ok(_) = self.partition.close(&mut out);
        while self.partition.is_behind() {
            let Ok(_) = self.partition.close(&mut out);
        }
    }

    fn told(&self) -> Vec<(String, AlertState, i64, Option<i64>)> {
        let of = |alert: &Alert| {
            (alert.detector.clone(), alert.state, alert.start.0, alert.resolved.map(|time| time.0))
        };
        self.alerts.iter().map(of).collect()
    }
}

fn take(
    output: Output<'_>,
    windows: &mut Vec<Window<'static>>,
    alerts: &mut Vec<Alert>,
) -> Result<(), Infallible> {
    match output {
        Output::Window(window) => {
            let mut bytes = Vec::new();
            window.write(&mut bytes);
            let window: Window<'_> = serde_json::from_slice(&bytes).unwrap();
            let (metric, key) = (window.metric.into_owned().into(), window.key.into_owned().into());
            windows.push(Window { metric, key, ..window });
        }
        Output::Alert(alert) => alerts.push(alert),
    }
    Ok(())
}

/// Seconds from 1970 to 2026.
const YEARS: i64 = 56 * 365 * 24 * 3600;

/// Judged one by one, 1.7 thousand million windows would take half an hour.
#[test]
fn judges_a_silence_of_56_years_at_once() {
    let detectors = "[{name: low, metric: views, algorithm: {threshold: {below: 5}}}, \
                     {name: both, metric: views, direction: both, algorithm: {poisson: {}}}, \
                     {name: level, metric: views, direction: down, algorithm: {ewma: {}}}, \
                     {name: middle, metric: views, direction: both, algorithm: {mad: {}}}]";
    let mut judge = Judge::new(watched("1s", detectors));
    judge.count("a", 0, 1);
    judge.close(YEARS * 1_000);
    assert_eq!(judge.told(), [("low".into(), AlertState::Firing, 0, None)]);
    judge.count("a", YEARS * 1_000, 9);
    judge.close((YEARS + 1) * 1_000);
    assert_eq!(
        judge.told()[1..],
        [("low".into(), AlertState::Resolved, 0, Some(YEARS * 1_000))],
        "the silence lasted until the key came back"
    );
    assert_eq!(judge.windows.iter().filter(|window| window.is_final).count(), 2);
}

#[test]
fn threshold_fires_again_in_a_silence_after_its_cooldown() {
    let detectors =
        "[{name: low, metric: views, cooldown: 1h, algorithm: {threshold: {below: 5, above: 20}}}]";
    let mut judge = Judge::new(watched("1s", detectors));
    judge.count("a", 0, 30);
    judge.count("a", 1_000, 10);
    judge.close(2_000);
    judge.close(YEARS * 1_000);
    let firing = |start| ("low".to_owned(), AlertState::Firing, start, None);
    let mut told = judge.told();
    told.retain(|(_, state, ..)| *state != AlertState::Early);
    assert_eq!(told, [firing(0), ("low".into(), AlertState::Resolved, 0, Some(1_000)), firing(3_600_000)]);
}

const DETECTORS: &str = "[{name: low, metric: views, cooldown: 20s, algorithm: {threshold: {below: 2}}}, \
    {name: both, metric: views, direction: both, minCount: 1, algorithm: {poisson: {probability: 0.05, halfLife: 4, warmup: 2}}}, \
    {name: level, metric: views, direction: both, minCount: 1, algorithm: {ewma: {sigmas: 1.5, halfLife: 4, warmup: 2}}}, \
    {name: ring, metric: views, direction: both, minCount: 1, algorithm: {zscore: {sigmas: 1, history: 5, warmup: 2}}}]";

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// It does not matter whether windows close one by one or a silence closes at once.
    #[test]
    fn silence_judged_at_once_equals_silence_judged_window_by_window(
        blocks in prop::collection::vec((prop::collection::vec(0_u64..40, 1..12), 1_i64..400), 1..4),
        without in 0_usize..5,
    ) {
        let of = || {
            let mut watched = watched("1s", DETECTORS);
            if without < 4 {
                Arc::make_mut(&mut watched[0]).watches.remove(without);
            }
            Judge::new(watched)
        };
        let (mut slow, mut quick) = (of(), of());
        let mut at = 0;
        for (counts, silence) in blocks {
            for count in counts {
                for judge in [&mut slow, &mut quick] {
                    if count > 0 {
                        judge.count("a", at * 1_000, count);
                    }
                    judge.close((at + 1) * 1_000);
                }
                at += 1;
            }
            (at..at + silence).for_each(|window| slow.close((window + 1) * 1_000));
            at += silence;
            quick.close(at * 1_000);
        }
        prop_assert_eq!(&slow.windows, &quick.windows);
        prop_assert_eq!(slow.told(), quick.told());
    }
}

#[test]
fn the_overflow_key_is_counted_and_never_alerts() {
    let mut judge = Judge::new(watched(
        "1s",
        "[{name: many, metric: views, minCount: 1, algorithm: {threshold: {above: 5}}}]",
    ));
    judge.count(OTHER_KEY, 0, 1_000);
    judge.count("a", 0, 1_000);
    judge.close(1_000);
    let counted = judge.windows.iter().filter(|window| window.is_final);
    let mut counted: Vec<_> =
        counted.map(|window| (window.key.to_string(), window.count, window.bands.len())).collect();
    counted.sort();
    assert_eq!(counted, [(OTHER_KEY.to_owned(), 1_000, 0), ("a".into(), 1_000, 1)]);
    assert!(judge.alerts.iter().all(|alert| alert.key == "a") && !judge.alerts.is_empty());
}

const MANY: &str = "[{name: many, metric: views, minCount: 1, algorithm: {threshold: {above: 5}}}]";

/// A judge with one alert of `many` that fires.
fn firing() -> Judge {
    let mut judge = Judge::new(watched("1s", MANY));
    judge.count("a", 0, 9);
    judge.close(1_000);
    assert_eq!(judge.told().last(), Some(&("many".into(), AlertState::Firing, 0, None)));
    judge
}

#[rstest::rstest]
#[case::removed("1s", "[]", "detector `many` was removed from metric `views`")]
#[case::renamed(
    "1s",
    "[{name: lots, metric: views, algorithm: {threshold: {above: 5}}}]",
    "detector `many` was removed from metric `views`"
)]
#[case::another_algorithm(
    "1s",
    "[{name: many, metric: views, algorithm: {poisson: {}}}]",
    "the algorithm of detector `many` was changed"
)]
#[case::another_window("5s", MANY, "the definition of metric `views` was changed")]
fn an_alert_that_no_detector_owns_any_more_is_resolved_once_with_the_reason(
    #[case] window: &str,
    #[case] detectors: &str,
    #[case] reason: &str,
) {
    let mut judge = firing();
    let mut successor = judge.successor(watched(window, detectors));
    successor.close(1_000);
    let [resolved] = &successor.alerts[..] else { panic!("{:?}", successor.alerts) };
    assert_eq!(
        (resolved.state, resolved.start, &resolved.id),
        (AlertState::Resolved, EventTime(0), &judge.alerts[0].id)
    );
    assert!(resolved.summary.ends_with(&format!("; resolved because {reason}")), "{}", resolved.summary);
    let mut after_restart = successor.successor(watched(window, detectors));
    after_restart.close(1_000);
    assert_eq!(after_restart.alerts, []);
}

#[test]
fn an_alert_whose_bound_is_changed_goes_on() {
    let mut judge = firing();
    let mut successor = judge.successor(watched(
        "1s",
        "[{name: many, metric: views, minCount: 1, algorithm: {threshold: {above: 7}}}]",
    ));
    successor.close(1_000);
    assert_eq!(successor.alerts, []);
    successor.count("a", 1_000, 6);
    successor.close(2_000);
    assert_eq!(successor.told(), [("many".into(), AlertState::Resolved, 0, Some(1_000))]);
}

#[test]
fn an_open_alert_in_no_baseline_is_resolved_if_no_detector_owns_it() {
    let judge = firing();
    let mut other = Judge::new(watched("5s", MANY));
    other.partition.review(judge.alerts[0].clone());
    other.close(5_000);
    assert_eq!(other.told(), [("many".into(), AlertState::Resolved, 0, Some(1_000))]);
    let mut owner = Judge::new(watched("1s", MANY));
    owner.partition.review(judge.alerts[0].clone());
    owner.close(5_000);
    assert_eq!(owner.told(), []);
}

/// A window of 2 s became one of 5 s: nothing of either is lost, and what was learnt of 2 s says nothing of 5 s.
#[test]
fn a_longer_window_closes_and_is_judged_by_what_it_has_learnt_itself() {
    let detectors = "[{name: crowd, metric: views, minCount: 1, algorithm: {poisson: {warmup: 2}}}]";
    let mut judge = Judge::new(watched("2s", detectors));
    for window in 0..30 {
        judge.count("a", window * 2_000, 2);
        judge.close((window + 1) * 2_000);
    }
    judge.count("a", 60_000, 1);
    let two = judge.watched[0].definition;
    let mut successor = judge.successor(watched("5s", detectors));
    // What the old definition had counted is read again from the open window on.
    let left = Part {
        metric: "views".into(),
        shape: Some(Shape {
            definition: two,
            size_ms: 2_000,
            function: judge.watched[0].metric.aggregate.function(),
        }),
        key: "a".into(),
        start: EventTime(60_000),
        source: Partition(0),
        since: Offset(0),
        version: Offset(successor.next),
        value: Aggregate { count: 1, sum: 0, sketch: None },
    };
    successor.read(&PartRecord::Part(left));
    for window in 12..40 {
        successor.count("a", window * 5_000, if window == 39 { 60 } else { 6 });
        successor.close((window + 1) * 5_000);
    }
    let finals = successor.windows.iter().filter(|window| window.is_final);
    let counted: Vec<(u64, i64, u64)> =
        finals.map(|window| (window.size_ms, window.start.0, window.count)).collect();
    assert_eq!(counted[0], (2_000, 60_000, 1));
    assert_eq!(counted.len(), 1 + 28);
    assert_eq!(counted[1..].iter().map(|(.., count)| count).sum::<u64>(), 27 * 6 + 60);
    let raised: Vec<i64> = successor.alerts.iter().map(|alert| alert.start.0).collect();
    assert!(raised.iter().all(|start| *start == 195_000) && !raised.is_empty(), "{raised:?}");
    assert!(successor.alerts[0].expected > 4.0, "learnt of windows of 5 s: {:?}", successor.alerts[0]);
}

const HERD: &str = "[{name: herd, metric: views}]";

/// Twenty items with a few views in each of these windows, and crowds: item, window, views.
fn traffic(judge: &mut Judge, windows: std::ops::Range<i64>, crowds: &[(&str, i64, u64)]) {
    for window in windows {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for item in 0..20 {
            let count = u64::try_from((window * 7 + item * 13) % 4).unwrap();
            counts.insert(format!("item-{item}"), count);
        }
        for (item, _, count) in crowds.iter().filter(|(_, at, _)| *at == window) {
            *counts.entry((*item).to_owned()).or_default() += count;
        }
        for (item, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            judge.count(&item, window * 10_000, count);
        }
        judge.close((window + 1) * 10_000);
    }
}

/// The alerts as they stand in the end.
fn stand(judge: &Judge) -> Vec<Alert> {
    let mut stand: BTreeMap<(i64, String), Alert> = BTreeMap::new();
    for alert in &judge.alerts {
        let at = (alert.start.0, alert.id.0.clone());
        let known = stand.entry(at).or_insert_with(|| alert.clone());
        let rank = |alert: &Alert| (alert.state, alert.episode.as_ref().map(|episode| episode.until));
        if rank(alert) >= rank(known) {
            *known = alert.clone();
        }
    }
    stand.into_values().collect()
}

const CROWDS: [(&str, i64, u64); 4] =
    [("item-7", 60, 40), ("item-7", 90, 40), ("new", 110, 40), ("item-7", 130, 40)];

#[test]
fn three_crowds_on_one_item_and_one_on_a_new_item_are_four_alerts() {
    let mut judge = Judge::new(watched("10s", HERD));
    traffic(&mut judge, 0..180, &CROWDS);
    let stand = stand(&judge);
    let raised: Vec<_> = stand.iter().filter(|alert| alert.state != AlertState::Withdrawn).collect();
    let found: Vec<_> =
        raised.iter().map(|alert| (alert.key.as_str(), alert.start.0 / 10_000, alert.state)).collect();
    let expected = CROWDS.map(|(item, at, _)| (item, at, AlertState::Resolved));
    assert_eq!(found, expected, "{:#?}", judge.alerts);
    let new = raised[2];
    assert_eq!(new.episode.as_ref().unwrap().ending, Some(Ending::Usual));
    assert!(
        new.summary.starts_with("new is back to usual after 10 s: peak 40 views in 10 s"),
        "{}",
        new.summary
    );
}

#[test]
fn a_newsletter_raises_one_alert_and_none_of_single_items() {
    let mut judge = Judge::new(watched("10s", HERD));
    traffic(&mut judge, 0..60, &[]);
    let newsletter: Vec<(String, i64, u64)> = (60..75)
        .flat_map(|window| {
            (0..20).map(move |item| {
                (format!("item-{item}"), window, u64::try_from((window * 5 + item * 3) % 10).unwrap())
            })
        })
        .collect();
    let crowds: Vec<_> = newsletter.iter().map(|(item, at, count)| (item.as_str(), *at, *count)).collect();
    traffic(&mut judge, 60..90, &crowds);
    let stand = stand(&judge);
    let raised = stand.iter().filter(|alert| alert.state != AlertState::Withdrawn);
    assert_eq!(raised.map(|alert| alert.key.as_str()).collect::<Vec<_>>(), ["(all)"]);
}

/// A judge dies at any moment after it has saved the population, the keys or some of them, and another one takes over.
#[test]
fn a_successor_raises_the_alerts_that_its_predecessor_would_have() {
    let mut whole = Judge::new(watched("10s", HERD));
    traffic(&mut whole, 0..180, &CROWDS);
    for at in [40, 59, 60, 61, 62, 70, 90, 91, 110, 111, 131, 134, 150] {
        let mut judge = Judge::new(watched("10s", HERD));
        traffic(&mut judge, 0..at, &CROWDS);
        let alerts = std::mem::take(&mut judge.alerts);
        let mut successor = judge.successor(watched("10s", HERD));
        successor.alerts = alerts;
        traffic(&mut successor, at..180, &CROWDS);
        let (found, expected) = (stand(&successor), stand(&whole));
        assert_eq!(found, expected, "taken over after window {at}");
    }
}

const LEVEL: &str = "[{name: value, metric: views, algorithm: {level: {}}, alerts: {budget: 100 per day}}]";

#[test]
fn a_level_is_watched_over_silence_and_takeovers() {
    // About twenty in each window of one key, silent every tenth, once forty windows of two hundred.
    let run = |until: i64, judge: &mut Judge, from: i64| {
        for window in from..until {
            let count = if (300..340).contains(&window) { 200 } else { 18 + window * 7 % 5 };
            if window % 10 != 3 {
                judge.count("a", window * 10_000, u64::try_from(count).unwrap());
            }
            judge.close((window + 1) * 10_000);
        }
    };
    let mut whole = Judge::new(watched("10s", LEVEL));
    run(600, &mut whole, 0);
    let expected = stand(&whole);
    assert_eq!(expected.len(), 1, "{expected:#?}");
    assert_eq!((expected[0].start.0, expected[0].state), (3_000_000, AlertState::Resolved));
    for at in [299, 300, 301, 320, 340, 345, 500] {
        let mut judge = Judge::new(watched("10s", LEVEL));
        run(at, &mut judge, 0);
        let mut successor = judge.successor(watched("10s", LEVEL));
        successor.alerts = judge.alerts;
        run(600, &mut successor, at);
        assert_eq!(stand(&successor), expected, "taken over after window {at}");
    }
}
