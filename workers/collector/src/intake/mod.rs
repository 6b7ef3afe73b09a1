//! From bytes to records of the `events` topic. Pure: no clock, no network. It runs for every event, so only mapped fields are
//! parsed; all others are copied as slices of the input.

mod cloudevents;
mod fields;
mod refusal;
pub mod segment;
mod split;
mod surrogates;
mod time;

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use herd_spec::pipeline::Span;
use herd_spec::plan::{EventsPlan, MappingPlan};
use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{self, FieldPath, NewEvent};

use fields::{Fields, Value};

pub use cloudevents::Binary;
pub use refusal::{Code, Refusal};
pub use split::{Format, Item, split};

/// Maximum size of an event in bytes of JSON; with headers it is below Kafka's default `message.max.bytes` (1 MiB).
pub const EVENT_BYTES: usize = 768 << 10;
/// Maximum length of id and type, in bytes.
const NAME_BYTES: usize = 256;
/// Maximum length of user and item, in bytes: the limit of a database index.
const KEY_BYTES: usize = 1024;

/// Mapping and validation of events of one pipeline.
#[derive(Debug)]
pub struct Intake {
    mapping: MappingPlan,
    types: HashSet<String>,
    listed: String,
    schema: Option<jsonschema::Validator>,
    key: FieldPath,
    max_clock_skew: Duration,
    max_age: Option<Duration>,
}

/// An accepted event. Its record has been appended to the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id, sent or assigned.
    pub event_id: String,
    /// Its partition key.
    pub key: String,
    /// Number of unpaired surrogates that were replaced by U+FFFD.
    pub replaced: u32,
}

/// The mapped fields of an event, before validation.
#[derive(Debug, Default)]
struct Draft<'a> {
    id: Option<Cow<'a, str>>,
    event_type: Option<Cow<'a, str>>,
    user: Option<Cow<'a, str>>,
    item: Option<Cow<'a, str>>,
    time: Option<DraftTime<'a>>,
    properties: Fields<'a>,
}

/// The time of an event, before validation.
#[derive(Debug)]
enum DraftTime<'a> {
    Written(Cow<'a, str>),
    Read(EventTime),
}

/// What the collector found out about a request: properties of its events. Names without a value are removed from events, because what
/// clients send under them could be forged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(pub Vec<(&'static str, Option<Found>)>);

/// A value of [`Context`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A string.
    Text(String),
    /// `true`.
    True,
}

impl Intake {
    /// The intake of this plan.
    ///
    /// # Errors
    /// If its JSON Schema does not compile; validation refuses such a spec earlier.
    pub fn new(events: &EventsPlan) -> Result<Self, String> {
        let schema = events.schema.as_ref().map(jsonschema::validator_for).transpose();
        Ok(Self {
            mapping: events.mapping.clone(),
            types: events.types.iter().cloned().collect(),
            listed: events.types.join(", "),
            schema: schema.map_err(|error| format!("spec.events.schema: {error}"))?,
            key: events.key.clone(),
            max_clock_skew: events.max_clock_skew,
            max_age: events.max_age,
        })
    }

    /// Validates an item received at `received` and appends the record of the `events` topic to `out`. `new_id` assigns an id to
    /// events without one.
    ///
    /// # Errors
    /// Why the event is invalid; `out` is unchanged then.
    pub fn accept(
        &self,
        item: &Item<'_>,
        received: WallTime,
        new_id: impl FnOnce() -> String,
        out: &mut Vec<u8>,
    ) -> Result<Accepted, Refusal> {
        self.accept_with(item, &Context::default(), received, new_id, out)
    }

    /// As [`accept`](Self::accept), of an item that came with `context`.
    ///
    /// # Errors
    /// Those of `accept`.
    pub fn accept_with(
        &self,
        item: &Item<'_>,
        context: &Context,
        received: WallTime,
        new_id: impl FnOnce() -> String,
        out: &mut Vec<u8>,
    ) -> Result<Accepted, Refusal> {
        if item.raw().len() > EVENT_BYTES {
            let detail = format!(
                "the event has {} bytes, but at most {EVENT_BYTES} are allowed: shorten it",
                item.raw().len()
            );
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        if let Some((text, replaced)) = item.json().and_then(surrogates::replace) {
            let accepted = self.validate(&item.with_json(&text), context, received, new_id, out)?;
            return Ok(Accepted { replaced, ..accepted });
        }
        self.validate(item, context, received, new_id, out)
    }

    fn validate(
        &self,
        item: &Item<'_>,
        context: &Context,
        received: WallTime,
        new_id: impl FnOnce() -> String,
        out: &mut Vec<u8>,
    ) -> Result<Accepted, Refusal> {
        let mut draft = match item {
            Item::Json(json) => {
                let draft = self.draft(json)?;
                self.satisfies_schema(json)?;
                draft
            }
            Item::CloudEvent(json) => self.draft_of_cloud_event(cloudevents::Event::structured(json)?)?,
            Item::Binary(binary) => self.draft_of_cloud_event(cloudevents::Event::binary(binary)?)?,
            Item::Segment(message) => self.draft_of_segment(message.read()?)?,
        };
        context.put_into(&mut draft.properties);
        self.finish(draft, received, new_id, out)
    }

    fn draft<'a>(&self, json: &'a str) -> Result<Draft<'a>, Refusal> {
        let mut fields = Fields::parse(json)?;
        fields::check(json)?;
        let mapping = &self.mapping;
        let mut used = Vec::with_capacity(5);
        let mut take = |part, paths| take(&fields, part, paths, &mut used);
        let (id, event_type) = (take("id", &mapping.id)?, take("type", &mapping.event_type)?);
        let (user, item) = (take("user", &mapping.user)?, take("item", &mapping.item)?);
        let time = take("time", &mapping.time)?.map(DraftTime::Written);
        remove(&mut fields, &mut used);
        Ok(Draft { id, event_type, user, item, time, properties: fields })
    }

    /// The id, type and time of a CloudEvent are its attributes. User and item are mapped from its data; without an item there, the
    /// subject is the item.
    fn draft_of_cloud_event<'a>(&self, event: cloudevents::Event<'a>) -> Result<Draft<'a>, Refusal> {
        let cloudevents::Event { id, source, event_type, subject, time, extensions, data } = event;
        let mut properties = self.properties("data", data)?;
        let mut used = Vec::with_capacity(2);
        let user = take(&properties, "user", &self.mapping.user, &mut used)?;
        let mut item = take(&properties, "item", &self.mapping.item, &mut used)?;
        remove(&mut properties, &mut used);
        let mut rest = extensions;
        match subject {
            Some(subject) if item.is_none() => item = Some(subject),
            Some(subject) => rest.push(("subject".into(), Value::Text(subject))),
            None => {}
        }
        // Ids of CloudEvents are unique per source.
        let id = format!("{source}#{id}");
        rest.push(("source".into(), Value::Text(source)));
        properties.add(rest);
        let time = time.map(DraftTime::Written);
        Ok(Draft { id: Some(id.into()), event_type: Some(event_type), user, item, time, properties })
    }

    /// All but the item are fields of the message. The item is mapped from its properties; without one there, the item of a page or
    /// screen is its path or name.
    fn draft_of_segment<'a>(&self, event: segment::Event<'a>) -> Result<Draft<'a>, Refusal> {
        let segment::Event { id, event_type, user, item, time, properties, rest } = event;
        let mut properties = self.properties("properties", properties)?;
        let mut used = Vec::with_capacity(1);
        let item = take(&properties, "item", &self.mapping.item, &mut used)?.or(item);
        remove(&mut properties, &mut used);
        properties.add(rest);
        Ok(Draft { id, event_type: Some(event_type), user, item, time, properties })
    }

    /// The properties in the field `name`; what is no object is a property itself.
    fn properties<'a>(&self, name: &'static str, value: Option<Value<'a>>) -> Result<Fields<'a>, Refusal> {
        match value {
            Some(Value::Raw(raw)) if raw.get().starts_with('{') => {
                self.satisfies_schema(raw.get())?;
                Fields::parse(raw.get())
            }
            Some(other) => Ok(Fields(vec![(name.into(), other)])),
            None => Ok(Fields::default()),
        }
    }

    /// Whether an item is answered for without being stored: `identify`, `group` and `alias` of Segment's API tell nothing that happened
    /// but who somebody is, often with name and address, and are stored only if `spec.events.types` names them.
    #[must_use]
    pub fn ignores(&self, item: &Item<'_>) -> bool {
        let Item::Segment(message) = item else { return false };
        message.user_description().is_some_and(|event_type| !self.types.contains(event_type))
    }

    fn finish(
        &self,
        draft: Draft<'_>,
        received: WallTime,
        new_id: impl FnOnce() -> String,
        out: &mut Vec<u8>,
    ) -> Result<Accepted, Refusal> {
        let Some(event_type) = draft.event_type else { return Err(self.untyped()) };
        if !self.types.is_empty() && !self.types.contains(event_type.as_ref()) {
            let detail = format!(
                "`{}` is not an accepted event type: use one of {}",
                shorten(&event_type),
                self.listed
            );
            return Err(Refusal::new(Code::UnknownType, detail));
        }
        let parts = [
            ("id", draft.id.as_deref(), NAME_BYTES),
            ("type", Some(event_type.as_ref()), NAME_BYTES),
            ("user", draft.user.as_deref(), KEY_BYTES),
            ("item", draft.item.as_deref(), KEY_BYTES),
        ];
        for (part, value, most) in parts {
            if let Some(length) = value.map(str::len).filter(|length| *length > most) {
                let detail = format!("the {part} has {length} bytes, but at most {most} are allowed");
                return Err(Refusal::new(Code::InvalidField, detail));
            }
        }
        let time = self.time(draft.time.as_ref(), received)?;
        let event_id = draft.id.map_or_else(new_id, Cow::into_owned);
        let (user, item) = (draft.user.as_deref(), draft.item.as_deref());
        let key = match &self.key {
            FieldPath::EventId => None,
            FieldPath::Type => Some(event_type.clone()),
            FieldPath::UserId => draft.user.clone(),
            FieldPath::ItemId => draft.item.clone(),
            FieldPath::Property(path) => draft.properties.at(path).and_then(|(_, value)| value.text().ok()),
        };
        let key = key.filter(|key| !key.is_empty()).map_or_else(|| event_id.clone(), Cow::into_owned);
        NewEvent {
            v: wire::VERSION,
            event_id: &event_id,
            event_type: &event_type,
            user_id: user,
            item_id: item,
            time,
            received,
            properties: (!draft.properties.0.is_empty()).then_some(&draft.properties),
        }
        .write(out);
        Ok(Accepted { event_id, key, replaced: 0 })
    }

    fn untyped(&self) -> Refusal {
        let names: Vec<String> =
            self.mapping.event_type.iter().map(|path| format!("`{}`", path.join("."))).collect();
        let detail = match names.as_slice() {
            [only] => format!("the event has no type: set the field {only}"),
            several => format!("the event has no type: set one of the fields {}", several.join(", ")),
        };
        Refusal::new(Code::MissingField, detail)
    }

    fn time(&self, time: Option<&DraftTime<'_>>, received: WallTime) -> Result<EventTime, Refusal> {
        let time = match time {
            None => return Ok(EventTime(received.0)),
            Some(DraftTime::Read(time)) => *time,
            Some(DraftTime::Written(written)) => {
                time::read(written).map_err(|why| Refusal::new(Code::InvalidTime, why))?
            }
        };
        if time.0 < 0 {
            return Err(Refusal::new(Code::InvalidTime, format!("{} is before 1970", time.rfc3339())));
        }
        let latest = received.plus(self.max_clock_skew);
        if time.0 > latest.0 {
            let detail = format!(
                "{} is more than {:?} ahead of the collector's clock: check the clock of the sender",
                time.rfc3339(),
                self.max_clock_skew
            );
            return Err(Refusal::new(Code::FutureTime, detail));
        }
        if let Some(most) = self.max_age
            && time.0 < received.minus(most).0
        {
            let detail = format!(
                "{} is more than {} before the time of receipt: check the unit of the time, or raise spec.events.maxAge (0s: unlimited)",
                time.rfc3339(),
                Span(most)
            );
            return Err(Refusal::new(Code::PastTime, detail));
        }
        Ok(time)
    }

    fn satisfies_schema(&self, json: &str) -> Result<(), Refusal> {
        let Some(schema) = &self.schema else { return Ok(()) };
        let value: serde_json::Value = serde_json::from_str(json)
            .map_err(|error| Refusal::new(Code::InvalidValue, error.to_string()))?;
        match schema.iter_errors(&value).next() {
            None => Ok(()),
            Some(error) => {
                let place = error.instance_path().as_str();
                let place = if place.is_empty() { "the event" } else { place };
                Err(Refusal::new(Code::Schema, shorten_to(&format!("{place}: {error}"), 500)))
            }
        }
    }
}

impl Context {
    fn put_into<'a>(&'a self, properties: &mut Fields<'a>) {
        for (name, found) in &self.0 {
            properties.0.retain(|(known, _)| known != name);
            let value = match found {
                Some(Found::Text(text)) => Value::Text(text.as_str().into()),
                Some(Found::True) => Value::True,
                None => continue,
            };
            properties.0.push(((*name).into(), value));
        }
    }
}

/// The value of the first of these paths that is present and not empty, as text. A top-level field is marked as used; an object
/// that a longer path led into remains a property.
fn take<'a>(
    fields: &Fields<'a>,
    part: &str,
    paths: &[Vec<String>],
    used: &mut Vec<usize>,
) -> Result<Option<Cow<'a, str>>, Refusal> {
    for path in paths {
        let Some((place, value)) = fields.at(path) else { continue };
        let text = value.text().map_err(|kind| {
            let name = path.join(".");
            let detail =
                format!("`{name}` is mapped to the {part}: it must be a string or a number, not {kind}");
            let hint = match kind {
                "an object" => format!("; map a field inside it with spec.events.mapping.{part}"),
                _ => String::new(),
            };
            Refusal::new(Code::InvalidField, detail + &hint)
        })?;
        if text.is_empty() {
            continue;
        }
        if path.len() == 1 {
            used.push(place);
        }
        return Ok(Some(text));
    }
    Ok(None)
}

fn remove(fields: &mut Fields<'_>, used: &mut Vec<usize>) {
    used.sort_unstable();
    used.dedup();
    for place in used.iter().rev() {
        fields.0.remove(*place);
    }
}

/// A value as shown in messages.
fn shorten(text: &str) -> String {
    shorten_to(text, 80)
}

fn shorten_to(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
