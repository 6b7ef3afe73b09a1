//! Messages of Segment's HTTP API, as the SDKs of Segment, RudderStack and Jitsu send them: `POST /v1/batch` with many, `POST /v1/track`
//! and its like with one. <https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/>

use std::borrow::Cow;

use herd_spec::units::{EventTime, WallTime};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{self, Fields, Value};
use super::refusal::{Code, Refusal};
use super::split::{self, Item};
use super::{DraftTime, time};

/// The skew of a clock is corrected in steps of this, in milliseconds. It is measured with the time that a request took: without steps,
/// the same event would have another time at each attempt, and might be counted in two windows.
const SKEW_STEP: i64 = 10_000;
/// Fields that serve the transport only.
const TRANSPORT: [&str; 7] =
    ["type", "sentAt", "receivedAt", "originalTimestamp", "writeKey", "integrations", "_metadata"];

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A user did something.
    Track,
    /// A user saw a page.
    Page,
    /// A user saw a screen of an app.
    Screen,
    /// Who a user is.
    Identify,
    /// To which group a user belongs.
    Group,
    /// A user has another id.
    Alias,
}

impl Call {
    const ALL: [Self; 6] = [Self::Track, Self::Page, Self::Screen, Self::Identify, Self::Group, Self::Alias];

    /// The value of `type`, and the end of the path.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Identify => "identify",
            Self::Group => "group",
            Self::Alias => "alias",
        }
    }

    /// The call of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.as_str() == name)
    }

    /// The type of its events; none: `event` has it.
    fn event_type(self) -> Option<&'static str> {
        match self {
            Self::Track => None,
            Self::Page => Some("page_view"),
            Self::Screen => Some("screen_view"),
            Self::Identify | Self::Group | Self::Alias => Some(self.as_str()),
        }
    }

    /// Whether it is about a user, and says nothing that happened.
    fn describes_user(self) -> bool {
        matches!(self, Self::Identify | Self::Group | Self::Alias)
    }
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Its JSON.
    pub(super) json: &'a str,
    /// By the path of the request; none: `type` says it.
    call: Option<Call>,
    /// When its batch was sent, by the clock of the sender.
    sent_at: Option<EventTime>,
    /// When it was received, for the skew of that clock.
    received: WallTime,
}

/// A body.
#[derive(Debug)]
pub struct Body<'a> {
    /// The write key in it.
    pub write_key: Option<String>,
    /// Its messages.
    pub items: Vec<Item<'a>>,
}

/// The fields of a message.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) event_type: Cow<'a, str>,
    pub(super) user: Option<Cow<'a, str>>,
    /// The item, if none is mapped from the properties.
    pub(super) item: Option<Cow<'a, str>>,
    pub(super) time: Option<DraftTime<'a>>,
    pub(super) properties: Option<Value<'a>>,
    /// All other fields.
    pub(super) rest: Vec<(Cow<'a, str>, Value<'a>)>,
}

/// The messages of a body; `call` is by its path, none: a batch. `received` is the time of receipt.
///
/// # Errors
/// [`Refusal`] of the whole body.
pub fn body(bytes: &[u8], call: Option<Call>, received: WallTime) -> Result<Body<'_>, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Envelope<'a> {
        #[serde(borrow)]
        batch: Option<Vec<&'a RawValue>>,
        #[serde(borrow)]
        write_key: Option<&'a RawValue>,
        #[serde(borrow)]
        sent_at: Option<&'a RawValue>,
    }
    let text = split::text(bytes)?;
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            let expected = if call.is_some() { "a message" } else { "{\"batch\":[…]}" };
            let detail = format!("the body is not {expected} of Segment's HTTP API: {error}");
            Refusal::new(Code::NotAnObject, detail)
        } else {
            Refusal::new(Code::InvalidJson, format!("the body is not JSON: {error}"))
        }
    })?;
    let write_key = envelope.write_key.and_then(|raw| serde_json::from_str(raw.get()).ok());
    let message = |json, sent_at| Item::Segment(Message { json, call, sent_at, received });
    let items = match (call, envelope.batch) {
        (Some(_), _) => vec![message(text, None)],
        (None, Some(batch)) => {
            let sent_at = envelope.sent_at.and_then(|raw| read_time(&Value::Raw(raw)));
            batch.into_iter().map(|raw| message(raw.get(), sent_at)).collect()
        }
        (None, None) => {
            let detail = "the body has no `batch`: send {\"batch\":[…]}, or one message to /v1/track";
            return Err(Refusal::new(Code::MissingField, detail));
        }
    };
    Ok(Body { write_key, items })
}

fn read_time(value: &Value<'_>) -> Option<EventTime> {
    time::read(value.text().ok()?.as_ref()).ok()
}

/// A time by the clock of the sender, as Segment corrects it: what that clock was behind when the message was sent is added.
fn corrected(time: EventTime, sent_at: EventTime, received: WallTime) -> EventTime {
    let behind = received.0.saturating_sub(sent_at.0);
    let steps = behind.saturating_add(SKEW_STEP / 2).div_euclid(SKEW_STEP);
    EventTime(time.0.saturating_add(steps.saturating_mul(SKEW_STEP)))
}

impl<'a> Message<'a> {
    pub(super) fn with_json<'b>(&self, json: &'b str) -> Message<'b> {
        Message { json, call: self.call, sent_at: self.sent_at, received: self.received }
    }

    /// When its batch was sent, by the clock of the sender.
    #[must_use]
    pub fn sent_at(&self) -> Option<EventTime> {
        self.sent_at
    }

    /// The type of the event, if it is about a user and says nothing that happened.
    pub(super) fn user_description(&self) -> Option<&'static str> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
        }
        let by_type = || Call::of(&serde_json::from_str::<Head<'_>>(self.json).ok()?.kind);
        let call = self.call.or_else(by_type).filter(|call| call.describes_user())?;
        call.event_type()
    }

    pub(super) fn read(&self) -> Result<Event<'a>, Refusal> {
        let mut fields = Fields::parse(self.json)?;
        fields::check(self.json)?;
        let call = match self.call {
            Some(call) => call,
            None => called(&fields)?,
        };
        let time = self.time(&fields)?;
        let mut take = |name: &str| -> Result<Option<Cow<'a, str>>, Refusal> {
            let found = text(&fields, name)?;
            if found.is_some() {
                fields.0.retain(|(known, _)| known != name);
            }
            Ok(found)
        };
        let id = take("messageId")?;
        take("timestamp")?;
        let event_type = match call.event_type() {
            Some(event_type) => event_type.into(),
            None => take("event")?.ok_or_else(|| {
                Refusal::new(Code::MissingField, "the message has no `event`: name what the user did")
            })?,
        };
        // What an anonymous visitor did before is found by the property.
        let user = match take("userId")? {
            Some(user) => Some(user),
            None => take("anonymousId")?,
        };
        let place = fields.get("properties").map(|(place, _)| place);
        let properties = place.map(|place| fields.0.remove(place).1);
        let item = match call {
            Call::Page => path_of(properties.as_ref()).or(text(&fields, "name")?),
            Call::Screen => text(&fields, "name")?,
            _ => None,
        };
        let mut rest = fields.0;
        rest.retain(|(name, _)| !TRANSPORT.contains(&name.as_ref()));
        Ok(Event { id, event_type, user, item, time, properties, rest })
    }

    /// `timestamp`, or `originalTimestamp`, corrected by the skew of the sender's clock. A message with both was corrected before.
    fn time(&self, fields: &Fields<'a>) -> Result<Option<DraftTime<'a>>, Refusal> {
        let (timestamp, original) = (text(fields, "timestamp")?, text(fields, "originalTimestamp")?);
        let written = match (timestamp, original) {
            (Some(written), Some(_)) => return Ok(Some(DraftTime::Written(written))),
            (one, other) => one.or(other),
        };
        let Some(written) = written else { return Ok(None) };
        let sent_at = fields.get("sentAt").and_then(|(_, value)| read_time(value)).or(self.sent_at);
        Ok(Some(match (sent_at, time::read(&written)) {
            (Some(sent_at), Ok(time)) => DraftTime::Read(corrected(time, sent_at, self.received)),
            // What is no time is refused later.
            _ => DraftTime::Written(written),
        }))
    }
}

fn called(fields: &Fields<'_>) -> Result<Call, Refusal> {
    let names = || Call::ALL.map(Call::as_str).join(", ");
    let kind = text(fields, "type")?.ok_or_else(|| {
        Refusal::new(Code::MissingField, format!("the message has no `type`: use one of {}", names()))
    })?;
    Call::of(&kind).ok_or_else(|| {
        let shown = super::shorten(&kind);
        let detail = format!("`{shown}` is not a type of Segment's messages: use one of {}", names());
        Refusal::new(Code::InvalidField, detail)
    })
}

/// A field as text; none if it is absent or empty.
fn text<'a>(fields: &Fields<'a>, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
    let Some((_, value)) = fields.get(name) else { return Ok(None) };
    let text = value.text().map_err(|kind| {
        Refusal::new(Code::InvalidField, format!("`{name}` must be a string or a number, not {kind}"))
    })?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The path of a page, as SDKs write it into its properties.
fn path_of<'a>(properties: Option<&Value<'a>>) -> Option<Cow<'a, str>> {
    let Some(Value::Raw(raw)) = properties else { return None };
    let properties: Fields<'a> = serde_json::from_str(raw.get()).ok()?;
    text(&properties, "path").ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOW: i64 = 1_800_000_000_000;

    #[rstest]
    #[case::a_right_clock(NOW - 80, NOW - 5_000, NOW - 5_000)]
    #[case::a_slow_request(NOW - 4_900, NOW - 9_000, NOW - 9_000)]
    #[case::a_minute_behind(NOW - 60_080, NOW - 65_000, NOW - 5_000)]
    #[case::a_day_ahead(NOW + 86_399_900, NOW + 86_395_000, NOW - 5_000)]
    fn the_skew_is_corrected_in_steps(#[case] sent: i64, #[case] time: i64, #[case] expected: i64) {
        assert_eq!(corrected(EventTime(time), EventTime(sent), WallTime(NOW)), EventTime(expected));
    }

    #[test]
    fn a_second_attempt_has_the_same_time() {
        let at = |latency| corrected(EventTime(NOW), EventTime(NOW - 3_600_000), WallTime(NOW + latency));
        assert_eq!(at(30), at(700));
    }
}
