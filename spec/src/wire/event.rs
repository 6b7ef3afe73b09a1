//! An event as it stands in the `events` topic: mapped, checked, with the time it was received.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{WireError, check_version};
use crate::units::{EventTime, WallTime};

/// One thing a user did. Owned; the stages that handle every event borrow it instead: [`EventRef`].
///
/// ```json
/// {"v":1,"event_id":"0199…","type":"view","user_id":"u-7","item_id":"product-123",
///  "time":1700000000000,"received":1700000000100,"properties":{"price":9.5}}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// [`super::VERSION`].
    pub v: u8,
    /// Unique for this thing that happened: the same id twice is the same event. At most 256 bytes.
    pub event_id: String,
    /// What was done, in the pipeline's words: `view`, `purchase`…
    #[serde(rename = "type")]
    pub event_type: String,
    /// Who did it, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// To what, if to anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// When it happened, by the event's own account.
    pub time: EventTime,
    /// When the collector received it.
    pub received: WallTime,
    /// All other fields of the event as it came, as a JSON object.
    #[serde(default)]
    pub properties: serde_json::Map<String, serde_json::Value>,
}

impl Event {
    /// Reads a record of the `events` topic.
    ///
    /// # Errors
    /// [`WireError`] if it is not one, or of another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let event: Self = serde_json::from_slice(bytes)
            .map_err(|source| WireError::Malformed { record: "event", source })?;
        check_version("event", event.v)?;
        Ok(event)
    }
}

/// An [`Event`] that borrows from the record: strings without escapes are not copied and properties are not parsed
/// until a field of them is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventRef<'a> {
    /// [`super::VERSION`].
    pub v: u8,
    /// See [`Event::event_id`].
    #[serde(borrow)]
    pub event_id: Cow<'a, str>,
    /// See [`Event::event_type`].
    #[serde(borrow, rename = "type")]
    pub event_type: Cow<'a, str>,
    /// See [`Event::user_id`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Cow<'a, str>>,
    /// See [`Event::item_id`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub item_id: Option<Cow<'a, str>>,
    /// See [`Event::time`].
    pub time: EventTime,
    /// See [`Event::received`].
    pub received: WallTime,
    /// See [`Event::properties`]; a JSON object, unparsed.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<&'a RawValue>,
}

impl<'a> EventRef<'a> {
    /// Reads a record of the `events` topic.
    ///
    /// # Errors
    /// [`WireError`] if it is not one, or of another version.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let event: Self = serde_json::from_slice(bytes)
            .map_err(|source| WireError::Malformed { record: "event", source })?;
        check_version("event", event.v)?;
        Ok(event)
    }
}

/// An [`Event`] to be written, with properties that are whatever serializes as a JSON object.
#[derive(Debug, Serialize)]
pub struct NewEvent<'a, P> {
    /// [`super::VERSION`].
    pub v: u8,
    /// See [`Event::event_id`].
    pub event_id: &'a str,
    /// See [`Event::event_type`].
    #[serde(rename = "type")]
    pub event_type: &'a str,
    /// See [`Event::user_id`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a str>,
    /// See [`Event::item_id`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<&'a str>,
    /// See [`Event::time`].
    pub time: EventTime,
    /// See [`Event::received`].
    pub received: WallTime,
    /// See [`Event::properties`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<P>,
}

impl<P: Serialize> NewEvent<'_, P> {
    /// Appends the record of the `events` topic.
    pub fn write(&self, out: &mut Vec<u8>) {
        super::write_json(out, self);
    }
}

/// A field of an event by name: one of the event's own, or a path into its properties.
///
/// Written `event_id`, `type`, `user_id`, `item_id`, or any other dotted path (`price`, `cart.total`), which is looked
/// up in the properties; a leading `properties.` may be written and means the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldPath {
    /// `event_id`
    EventId,
    /// `type`
    Type,
    /// `user_id`
    UserId,
    /// `item_id`
    ItemId,
    /// Object keys from the properties down.
    Property(Vec<String>),
}

impl FieldPath {
    /// Reads the written form. Every non-empty string is a valid path; empty segments are not.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        Some(match written {
            "event_id" => Self::EventId,
            "type" => Self::Type,
            "user_id" => Self::UserId,
            "item_id" => Self::ItemId,
            other => {
                let path = other.strip_prefix("properties.").unwrap_or(other);
                let segments: Vec<String> = path.split('.').map(str::to_owned).collect();
                if segments.iter().any(String::is_empty) {
                    return None;
                }
                Self::Property(segments)
            }
        })
    }
}

impl std::fmt::Display for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EventId => f.write_str("event_id"),
            Self::Type => f.write_str("type"),
            Self::UserId => f.write_str("user_id"),
            Self::ItemId => f.write_str("item_id"),
            Self::Property(path) => write!(f, "properties.{}", path.join(".")),
        }
    }
}

impl TryFrom<String> for FieldPath {
    type Error = String;
    fn try_from(written: String) -> Result<Self, String> {
        Self::parse(&written)
            .ok_or_else(|| format!("`{written}` is not a field path: write names joined by single dots"))
    }
}

impl From<FieldPath> for String {
    fn from(path: FieldPath) -> Self {
        path.to_string()
    }
}

impl Serialize for FieldPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
