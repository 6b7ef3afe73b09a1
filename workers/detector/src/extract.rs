//! Values of an event's fields, by path, without parsing more of the properties than is asked for.

use std::borrow::Cow;
use std::collections::HashMap;

use herd_spec::wire::{EventRef, FieldPath};
use serde_json::Value;
use serde_json::value::RawValue;

/// An event with its properties parsed one level deep when the first of them is asked for.
pub struct Fields<'a> {
    event: &'a EventRef<'a>,
    properties: Option<HashMap<Cow<'a, str>, &'a RawValue>>,
}

/// A scalar field value.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// A number, with its JSON text.
    Number(f64, Cow<'a, str>),
    /// True or false.
    Bool(bool),
}

impl<'a> Scalar<'a> {
    /// As a key or for comparison: a string itself, numbers and booleans by their JSON text.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(_, text) => text,
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
        }
    }

    /// As a number; a string counts if it is one ("9.50").
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number, _) => Some(*number),
            Self::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            Self::Bool(_) => None,
        }
    }

    fn of_raw(raw: &'a RawValue) -> Option<Self> {
        let text = raw.get();
        match text.as_bytes().first()? {
            b'"' => serde_json::from_str::<Borrowed<'a>>(text).ok().map(|borrowed| Self::Text(borrowed.0)),
            b't' => Some(Self::Bool(true)),
            b'f' => Some(Self::Bool(false)),
            b'-' | b'0'..=b'9' => text.parse().ok().map(|number| Self::Number(number, Cow::Borrowed(text))),
            _ => None,
        }
    }

    fn of_value(value: &Value) -> Option<Scalar<'static>> {
        match value {
            Value::String(text) => Some(Scalar::Text(Cow::Owned(text.clone()))),
            Value::Number(number) => Some(Scalar::Number(number.as_f64()?, Cow::Owned(number.to_string()))),
            Value::Bool(bool) => Some(Scalar::Bool(*bool)),
            _ => None,
        }
    }
}

/// A string, borrowed where it has no escapes (serde borrows into a `Cow` only when told so).
#[derive(serde::Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// The fields of `event`.
    #[must_use]
    pub fn of(event: &'a EventRef<'a>) -> Self {
        Self { event, properties: None }
    }

    /// The scalar at `path`; none if it is absent, null, an object or an array.
    pub fn get(&mut self, path: &FieldPath) -> Option<Scalar<'a>> {
        let text = |text: &'a Cow<'a, str>| Some(Scalar::Text(Cow::Borrowed(text.as_ref())));
        match path {
            FieldPath::EventId => text(&self.event.event_id),
            FieldPath::Type => text(&self.event.event_type),
            FieldPath::UserId => self.event.user_id.as_ref().and_then(text),
            FieldPath::ItemId => self.event.item_id.as_ref().and_then(text),
            FieldPath::Property(segments) => {
                let (first, rest) = segments.split_first()?;
                let raw = *self.properties().get(first.as_str())?;
                if rest.is_empty() {
                    return Scalar::of_raw(raw);
                }
                let parsed: Value = serde_json::from_str(raw.get()).ok()?;
                let inner = rest.iter().try_fold(&parsed, |value, segment| value.get(segment))?;
                Scalar::of_value(inner)
            }
        }
    }

    fn properties(&mut self) -> &HashMap<Cow<'a, str>, &'a RawValue> {
        self.properties.get_or_insert_with(|| {
            let raw = self.event.properties.map_or("{}", RawValue::get);
            serde_json::from_str::<BorrowedMap<'a>>(raw).map(|map| map.0).unwrap_or_default()
        })
    }
}

#[derive(serde::Deserialize)]
struct BorrowedMap<'a>(#[serde(borrow)] HashMap<Cow<'a, str>, &'a RawValue>);

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const EVENT: &str = r#"{"v":1,"event_id":"e","type":"view","user_id":"u","time":1,"received":2,
        "properties":{"price":9.50,"name":"caf\u00e9 \"x\"","ok":true,"cart":{"total":12,"lines":[1]},"none":null,"text":"7.25"}}"#;

    #[rstest]
    #[case("event_id", Some("e"), None)]
    #[case("type", Some("view"), None)]
    #[case("user_id", Some("u"), None)]
    #[case("item_id", None, None)]
    #[case("price", Some("9.50"), Some(9.5))]
    #[case("properties.price", Some("9.50"), Some(9.5))]
    #[case("name", Some("café \"x\""), None)]
    #[case("ok", Some("true"), None)]
    #[case("cart.total", Some("12"), Some(12.0))]
    #[case("cart", None, None)]
    #[case("cart.lines", None, None)]
    #[case("none", None, None)]
    #[case("absent.deep", None, None)]
    #[case("text", Some("7.25"), Some(7.25))]
    fn a_field_is_found_by_its_path(
        #[case] path: &str,
        #[case] text: Option<&str>,
        #[case] number: Option<f64>,
    ) {
        let event = EventRef::parse(EVENT.as_bytes()).unwrap();
        let mut fields = Fields::of(&event);
        let scalar = fields.get(&FieldPath::parse(path).unwrap());
        assert_eq!(scalar.as_ref().map(Scalar::text), text);
        assert_eq!(scalar.and_then(|scalar| scalar.number()), number);
    }
}
