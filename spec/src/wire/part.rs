//! What fold tells judge: the value of a window so far, and how far its source has come.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Fingerprint, VERSION, WireError, check_version};
use crate::pipeline::AggregateFunction;
use crate::units::{EventTime, Offset, Partition, WallTime};

/// What was counted. One shape for every kind of metric; a metric reads its value from it.
///
/// Two aggregates of *different* sources add up; of the *same* source the one with the higher version wins, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregate {
    /// Events.
    pub count: u64,
    /// Sum of the field in millionths: whole numbers, so that the order of addition does not matter. Zero for metrics
    /// that sum nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sum: i128,
    /// Sketch of the distinct values seen, base64, for metrics that count unique values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sketch: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &i128) -> bool {
    *n == 0
}

/// One source partition's value of one (metric, key, window), so far: cumulative, so that only the newest matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The metric's name.
    pub metric: Cow<'a, str>,
    /// What the metric was when this was counted; none in parts that were sent before parts said so.
    pub shape: Option<Shape>,
    /// The key, e.g. an item id.
    pub key: Cow<'a, str>,
    /// Start of the window.
    pub start: EventTime,
    /// The partition of `events` it was counted from.
    pub source: Partition,
    /// The offset from which this source counted events by this definition: 0, or where the definition came into force.
    /// Values of one source with different `since` are of different events, and add up.
    pub since: Offset,
    /// The offset of the last event in it.
    pub version: Offset,
    /// The value.
    pub value: Aggregate,
}

/// What a metric was when a part was counted: enough to close the window of a definition that the reader does not have, or has
/// no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The metric's definition.
    pub definition: Fingerprint,
    /// Length of its windows in milliseconds.
    pub size_ms: u64,
    /// What is computed.
    pub function: AggregateFunction,
}

/// How a source partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// Events come.
    Active,
    /// Read to the end of the log, nothing new for two emit intervals.
    Idle,
    /// Never had an event.
    Empty,
}

/// A source's promise: every part of a window that ends at or before `watermark` was sent before this record, and the total of
/// every such window stands in this record or in one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The partition of `events` that speaks.
    pub source: Partition,
    /// How many partitions `events` has, as the speaker knows it.
    pub sources: u32,
    /// Its watermark; none before its first event.
    pub watermark: Option<EventTime>,
    /// How it is doing.
    pub state: SourceState,
    /// When it said so: all that was sent to this source before `at` has been read.
    pub at: WallTime,
    /// What the source has counted over all keys in the windows that changed since it last said so. Every partition of `parts`
    /// gets all of them, so that each judge knows the traffic of the whole metric.
    pub totals: Vec<SourceTotal>,
}

/// How many events one source has counted in one window of a metric, over all keys, so far: cumulative, like a [`Part`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTotal {
    /// The metric's name.
    pub metric: String,
    /// Its definition.
    #[serde(rename = "def")]
    pub definition: Fingerprint,
    /// Start of the window.
    pub start: EventTime,
    /// See [`Part::since`].
    #[serde(default, skip_serializing_if = "is_start")]
    pub since: Offset,
    /// The offset of the last event in it.
    pub version: Offset,
    /// Events.
    pub count: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_start(offset: &Offset) -> bool {
    offset.0 == 0
}

/// More partitions than any topic of ours has. A word of more sources is no word: believed, it would hold every window open.
const MOST_SOURCES: u32 = 10_000;

/// A record of the `parts` topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartRecord<'a> {
    /// A value.
    Part(Part<'a>),
    /// A promise.
    Watermark(Watermark),
}

/// Both kinds in one flat shape: an internally tagged enum would buffer every record before reading it.
#[derive(Serialize, Deserialize)]
struct Flat<'a> {
    v: u8,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    metric: Option<Cow<'a, str>>,
    #[serde(default, rename = "def", skip_serializing_if = "Option::is_none")]
    definition: Option<Fingerprint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size_ms: Option<u64>,
    #[serde(default, rename = "fn", skip_serializing_if = "Option::is_none")]
    function: Option<AggregateFunction>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<EventTime>,
    source: Partition,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Offset>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Offset>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Aggregate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sources: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    watermark: Option<EventTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<SourceState>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    totals: Vec<SourceTotal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<WallTime>,
}

impl<'a> PartRecord<'a> {
    /// Reads a record of the `parts` topic.
    ///
    /// # Errors
    /// [`WireError`] if it is neither a part nor a watermark, or of another version.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        const RECORD: &str = "part";
        let flat: Flat<'a> = serde_json::from_slice(bytes)
            .map_err(|source| WireError::Malformed { record: RECORD, source })?;
        check_version(RECORD, flat.v)?;
        let missing = |field| WireError::Field { record: RECORD, field };
        if let Some(state) = flat.state {
            if flat.source.0 >= MOST_SOURCES || flat.sources.is_some_and(|sources| sources > MOST_SOURCES) {
                return Err(missing("source"));
            }
            return Ok(Self::Watermark(Watermark {
                source: flat.source,
                sources: flat.sources.ok_or(missing("sources"))?,
                watermark: flat.watermark,
                state,
                at: flat.at.ok_or(missing("at"))?,
                totals: flat.totals,
            }));
        }
        let shape = match flat.definition {
            Some(definition) => Some(Shape {
                definition,
                size_ms: flat.size_ms.filter(|size| *size > 0).ok_or(missing("size_ms"))?,
                function: flat.function.ok_or(missing("fn"))?,
            }),
            None => None,
        };
        Ok(Self::Part(Part {
            metric: flat.metric.ok_or(missing("metric"))?,
            shape,
            since: flat.since.unwrap_or_default(),
            key: flat.key.ok_or(missing("key"))?,
            start: flat.start.ok_or(missing("start"))?,
            source: flat.source,
            version: flat.version.ok_or(missing("version"))?,
            value: flat.value.ok_or(missing("value"))?,
        }))
    }

    /// Appends the record's bytes to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let flat = match self {
            Self::Part(p) => Flat {
                v: VERSION,
                metric: Some(Cow::Borrowed(&p.metric)),
                definition: p.shape.map(|shape| shape.definition),
                size_ms: p.shape.map(|shape| shape.size_ms),
                function: p.shape.map(|shape| shape.function),
                since: Some(p.since).filter(|since| since.0 > 0),
                key: Some(Cow::Borrowed(&p.key)),
                start: Some(p.start),
                source: p.source,
                version: Some(p.version),
                value: Some(p.value.clone()),
                sources: None,
                watermark: None,
                state: None,
                at: None,
                totals: Vec::new(),
            },
            Self::Watermark(w) => Flat {
                v: VERSION,
                metric: None,
                definition: None,
                size_ms: None,
                function: None,
                since: None,
                key: None,
                start: None,
                source: w.source,
                version: None,
                value: None,
                sources: Some(w.sources),
                watermark: w.watermark,
                state: Some(w.state),
                at: Some(w.at),
                totals: w.totals.clone(),
            },
        };
        super::write_json(out, &flat);
    }
}
