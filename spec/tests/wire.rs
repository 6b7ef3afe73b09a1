//! What is written to a topic is read back as it was, whatever it holds.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::borrow::Cow;

use herd_spec::pipeline::AggregateFunction;
use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{
    Aggregate, Alert, AlertId, AlertState, Band, Event, EventRef, Fingerprint, Part, PartRecord, Severity,
    Shape, SourceState, SourceTotal, VERSION, Watermark, Window,
};
use proptest::prelude::*;

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), -1e12..1e12_f64, any::<i32>().prop_map(f64::from)]
}

proptest! {
    #[test]
    fn an_event_is_read_as_it_was_written(
        event_id in ".{1,40}", event_type in ".{0,20}", user_id in proptest::option::of(".{0,20}"),
        item_id in proptest::option::of(".{0,20}"), time in any::<i64>(), received in any::<i64>(),
        name in ".{0,8}", value in ".{0,8}",
    ) {
        let mut properties = serde_json::Map::new();
        properties.insert(name, value.into());
        let event = Event {
            v: VERSION, event_id, event_type, user_id, item_id,
            time: EventTime(time), received: WallTime(received), properties,
        };
        let bytes = serde_json::to_vec(&event).unwrap();
        prop_assert_eq!(&Event::parse(&bytes).unwrap(), &event);
        // The borrowing reader sees the same, and writes the same bytes.
        let borrowed = EventRef::parse(&bytes).unwrap();
        prop_assert_eq!(serde_json::to_vec(&borrowed).unwrap(), bytes);
    }

    #[test]
    fn a_part_is_read_as_it_was_written(
        metric in ".{0,20}", key in ".{0,20}", start in any::<i64>(), source in any::<u32>(),
        version in any::<i64>(), count in any::<u64>(), sum in any::<i128>(),
        sketch in proptest::option::of("[a-zA-Z0-9+/]{0,20}"),
        shape in proptest::option::of((any::<u64>(), 1..u64::MAX)), since in 0..i64::MAX,
    ) {
        let shape = shape.map(|(hash, size_ms)| Shape {
            definition: Fingerprint::of_hash(hash), size_ms, function: AggregateFunction::Unique,
        });
        let part = PartRecord::Part(Part {
            metric: Cow::Owned(metric), shape, since: Offset(since), key: Cow::Owned(key), start: EventTime(start), source: Partition(source),
            version: Offset(version), value: Aggregate { count, sum, sketch },
        });
        let mut bytes = Vec::new();
        part.write(&mut bytes);
        prop_assert_eq!(PartRecord::parse(&bytes).unwrap(), part);
    }

    #[test]
    fn a_watermark_is_read_as_it_was_written(
        source in 0..10_000_u32, sources in 0..=10_000_u32, watermark in proptest::option::of(any::<i64>()),
        state in prop_oneof![Just(SourceState::Active), Just(SourceState::Idle), Just(SourceState::Empty)],
        at in any::<i64>(),
        totals in prop::collection::vec((".{0,9}", any::<u64>(), any::<i64>(), 0..i64::MAX, 0..i64::MAX, any::<u64>()), 0..4),
    ) {
        let total = |(metric, hash, start, since, version, count)| SourceTotal {
            metric, definition: Fingerprint::of_hash(hash), start: EventTime(start), since: Offset(since),
            version: Offset(version), count,
        };
        let watermark = PartRecord::Watermark(Watermark {
            source: Partition(source), sources, watermark: watermark.map(EventTime), state, at: WallTime(at),
            totals: totals.into_iter().map(total).collect(),
        });
        let mut bytes = Vec::new();
        watermark.write(&mut bytes);
        prop_assert_eq!(PartRecord::parse(&bytes).unwrap(), watermark);
    }

    #[test]
    fn a_window_is_read_as_it_was_written(
        metric in ".{0,20}", key in ".{0,20}", start in any::<i64>(), size_ms in any::<u64>(), count in any::<u64>(),
        value in number(), is_final in any::<bool>(), expected in number(), score in number(),
    ) {
        let band = Band { detector: "crowd".into(), expected, lower: -expected, upper: expected, score };
        let window = Window {
            v: VERSION, metric: metric.into(), definition: Fingerprint::of_hash(count), key: key.into(),
            start: EventTime(start), size_ms, count, value,
            is_final, bands: vec![band],
        };
        let mut bytes = Vec::new();
        window.write(&mut bytes);
        let read = Window::parse(&bytes).unwrap();
        // serde_json reads floats to within one unit in the last place.
        prop_assert!((read.value - window.value).abs() <= window.value.abs() * f64::EPSILON);
        prop_assert_eq!(read.definition, window.definition);
        prop_assert_eq!((&read.metric, &read.key, read.start, read.size_ms, read.count, read.is_final),
                        (&window.metric, &window.key, window.start, window.size_ms, window.count, window.is_final));
    }

    #[test]
    fn an_alert_is_read_as_it_was_written(
        key in ".{0,20}", start in any::<i64>(), count in any::<u64>(), value in any::<i32>(),
        resolved in proptest::option::of(any::<i64>()), summary in ".{0,40}",
    ) {
        let alert = Alert {
            v: VERSION, id: AlertId::of("shop", "crowd", &key, EventTime(start)), pipeline: "shop".into(),
            detector: "crowd".into(), metric: "views".into(), rule: Fingerprint::of_hash(count), key, severity: Severity::Critical,
            state: AlertState::Firing, start: EventTime(start), size_ms: 10_000, span_ms: 20_000, count, value: value.into(),
            expected: 1.5, spread: 0.25, score: 9.0, summary, resolved: resolved.map(EventTime), episode: None, explanation: None,
        };
        let mut bytes = Vec::new();
        alert.write(&mut bytes);
        prop_assert_eq!(Alert::parse(&bytes).unwrap(), alert);
    }
}

#[rstest::rstest]
#[case::of_a_source_that_cannot_be(u32::MAX, 6)]
#[case::of_more_sources_than_can_be(0, u32::MAX)]
fn a_word_that_would_hold_every_window_open_is_none(#[case] source: u32, #[case] sources: u32) {
    let word =
        format!(r#"{{"v":1,"source":{source},"sources":{sources},"watermark":1,"state":"active","at":1}}"#);
    assert!(PartRecord::parse(word.as_bytes()).unwrap_err().to_string().contains("source"));
}

#[test]
fn an_alert_has_the_same_id_for_ever() {
    let id = AlertId::of("shop", "flash-crowd", "product-123", EventTime(1_700_000_000_000));
    assert_eq!(id.0.len(), 32);
    assert_eq!(id, AlertId::of("shop", "flash-crowd", "product-123", EventTime(1_700_000_000_000)));
    // Parts that run together differently are different alerts.
    assert_ne!(AlertId::of("a", "bc", "d", EventTime(0)), AlertId::of("ab", "c", "d", EventTime(0)));
    insta::assert_snapshot!(id, @"5855b43c9fb34b715c3569ee37e58947");
}

#[test]
fn the_life_of_an_alert_only_goes_up() {
    let life = [AlertState::Early, AlertState::Firing, AlertState::Resolved, AlertState::Withdrawn];
    for pair in life.windows(2) {
        assert!(pair[0].rank() < pair[1].rank(), "{pair:?}");
        assert!(pair[0] < pair[1]);
    }
    assert_eq!(life.map(AlertState::is_firing), [true, true, false, false]);
}
