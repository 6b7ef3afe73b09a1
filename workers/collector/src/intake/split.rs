//! Splits a body into items.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::cloudevents::Binary;
use super::refusal::{Code, Refusal};
use super::segment::Message;

/// Format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One event, an array of them, or `{"batch":[…]}`.
    Json,
    /// One CloudEvent with its data inside.
    CloudEvent,
    /// An array of CloudEvents.
    CloudEvents,
}

/// A part of a body that may be an event.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// JSON, mapped as configured.
    Json(&'a str),
    /// A CloudEvent in JSON.
    CloudEvent(&'a str),
    /// A CloudEvent with its attributes as headers.
    Binary(Binary<'a>),
    /// A message of Segment's HTTP API.
    Segment(Message<'a>),
}

impl Item<'_> {
    /// The bytes as received, without headers.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        match self {
            Self::Json(json) | Self::CloudEvent(json) => json.as_bytes(),
            Self::Binary(binary) => binary.body,
            Self::Segment(message) => message.json.as_bytes(),
        }
    }

    /// Its JSON, if its content type is JSON.
    pub(super) fn json(&self) -> Option<&str> {
        match self {
            Self::Json(json) | Self::CloudEvent(json) => Some(json),
            Self::Binary(binary) if binary.is_json() => std::str::from_utf8(binary.body).ok(),
            Self::Binary(_) => None,
            Self::Segment(message) => Some(message.json),
        }
    }

    /// The same item with other JSON.
    pub(super) fn with_json<'a>(&self, json: &'a str) -> Item<'a> {
        match self {
            Self::Json(_) => Item::Json(json),
            Self::CloudEvent(_) => Item::CloudEvent(json),
            Self::Binary(Binary { attributes, content_type, .. }) => Item::Binary(Binary {
                attributes: attributes.clone(),
                content_type: content_type.clone(),
                body: json.as_bytes(),
            }),
            Self::Segment(message) => Item::Segment(message.with_json(json)),
        }
    }
}

/// The items of a body, and whether it is a batch.
///
/// # Errors
/// [`Refusal`] of the whole body.
pub fn split(body: &[u8], format: Format) -> Result<(Vec<Item<'_>>, bool), Refusal> {
    let text = text(body)?;
    if text.starts_with('[') && format != Format::CloudEvent {
        return Ok((array(text, format)?, true));
    }
    if format == Format::CloudEvents {
        return Err(Refusal::new(
            Code::InvalidJson,
            "the body is not a JSON array, as required for a batch of CloudEvents",
        ));
    }
    // Looking for the word first spares single events a reading.
    if format == Format::Json
        && text.contains("\"batch\"")
        && let Some(raw) = batch(text)?
    {
        return Ok((array(raw, format)?, true));
    }
    Ok((vec![item(text, format)], false))
}

/// A body as text, without a byte order mark and the spaces around it.
pub(super) fn text(body: &[u8]) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Refusal::new(Code::InvalidJson, format!("the body is not UTF-8: {error}")))?;
    let text = text.trim_matches(['\u{FEFF}', ' ', '\n', '\r', '\t']);
    if text.is_empty() {
        return Err(Refusal::new(
            Code::InvalidJson,
            "the body is empty: send an event, e.g. {\"type\":\"view\"}",
        ));
    }
    Ok(text)
}

fn item(text: &str, format: Format) -> Item<'_> {
    if format == Format::Json { Item::Json(text) } else { Item::CloudEvent(text) }
}

fn array(text: &str, format: Format) -> Result<Vec<Item<'_>>, Refusal> {
    let items: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|error| Refusal::new(Code::InvalidJson, format!("the body is not JSON: {error}")))?;
    Ok(items.into_iter().map(|raw| item(raw.get(), format)).collect())
}

/// The array of `{"batch":[…]}`.
fn batch(text: &str) -> Result<Option<&str>, Refusal> {
    #[derive(Deserialize)]
    struct Batch<'a> {
        #[serde(borrow)]
        batch: Option<&'a RawValue>,
    }
    match serde_json::from_str::<Batch<'_>>(text) {
        Ok(Batch { batch }) => Ok(batch.map(RawValue::get).filter(|raw| raw.starts_with('['))),
        // The text is within a string, or the error is reported when the object is parsed as an event.
        Err(error) if error.is_data() => Ok(None),
        Err(error) => Err(Refusal::new(Code::InvalidJson, format!("the body is not JSON: {error}"))),
    }
}
