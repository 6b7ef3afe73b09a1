//! A window's value as judge sees it: running while it is open, final once its sources have passed it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Fingerprint, WireError, check_version, write_json};
use crate::units::EventTime;

/// A record of the `windows` topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window<'a> {
    /// [`super::VERSION`].
    pub v: u8,
    /// The metric's name.
    #[serde(borrow)]
    pub metric: Cow<'a, str>,
    /// What the metric was when this was counted: windows of two definitions are of different metrics, also where they start
    /// together. All zeros in records from before windows said so.
    #[serde(default)]
    pub definition: Fingerprint,
    /// The key, e.g. an item id.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// Start of the window, event time.
    pub start: EventTime,
    /// Its length in milliseconds.
    pub size_ms: u64,
    /// Events in it.
    pub count: u64,
    /// The metric's value: count, sum, mean, or estimated number of unique values.
    pub value: f64,
    /// Whether the window is closed: a final value never changes.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// What each warmed-up detector of the metric expected of this window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bands: Vec<Band>,
}

/// The range a detector takes for usual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// The detector's name.
    pub detector: String,
    /// The value it expected.
    pub expected: f64,
    /// The lowest value that would not alert.
    pub lower: f64,
    /// The highest value that would not alert.
    pub upper: f64,
    /// How unusual the window's value is, in the detector's own measure.
    pub score: f64,
}

impl<'a> Window<'a> {
    /// Reads a record of the `windows` topic.
    ///
    /// # Errors
    /// [`WireError`] if it is not one, or of another version.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let window: Self = serde_json::from_slice(bytes)
            .map_err(|source| WireError::Malformed { record: "window", source })?;
        check_version("window", window.v)?;
        Ok(window)
    }

    /// Appends the record's bytes to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_json(out, self);
    }

    /// The first moment after the window.
    #[must_use]
    pub fn end(&self) -> EventTime {
        EventTime(self.start.0.saturating_add_unsigned(self.size_ms))
    }
}
