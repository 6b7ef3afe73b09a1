//! The unparsed fields of a JSON object in their order, and the check that their values can be stored.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::refusal::{Code, Refusal};

/// Maximum nesting depth of objects and arrays. Later readers stop at 128.
const DEPTH: usize = 64;

/// A value of a field: a slice of the input, other text, or `true`.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Raw(&'a RawValue),
    Text(Cow<'a, str>),
    True,
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Raw(raw) => raw.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::True => serializer.serialize_bool(true),
        }
    }
}

/// Names and values; names are unique.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>(pub(super) Vec<(Cow<'a, str>, Value<'a>)>);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
                let mut fields = Vec::with_capacity(12);
                while let Some(Name(name)) = map.next_key()? {
                    fields.push((name, Value::Raw(map.next_value()?)));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A name, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// Parses an object.
    pub(super) fn parse(json: &'a str) -> Result<Self, Refusal> {
        let fields: Self = serde_json::from_str(json).map_err(|error| {
            if error.is_data() {
                Refusal::new(
                    Code::NotAnObject,
                    "the event is not a JSON object: send e.g. {\"type\":\"view\"}",
                )
            } else {
                Refusal::new(Code::InvalidJson, format!("the event is not JSON: {error}"))
            }
        })?;
        match fields.repeated() {
            Some(name) => {
                Err(Refusal::new(Code::InvalidField, format!("`{name}` occurs twice: send it once")))
            }
            None => Ok(fields),
        }
    }

    fn repeated(&self) -> Option<&str> {
        let names = || self.0.iter().map(|(name, _)| name.as_ref());
        if self.0.len() > 24 {
            let mut seen = HashSet::with_capacity(self.0.len());
            return names().find(|name| !seen.insert(*name));
        }
        names()
            .enumerate()
            .find(|(place, name)| names().take(*place).any(|before| before == *name))
            .map(|(_, name)| name)
    }

    /// Adds fields whose names are free.
    pub(super) fn add(&mut self, fields: Vec<(Cow<'a, str>, Value<'a>)>) {
        for (name, value) in fields {
            if self.get(&name).is_none() {
                self.0.retain(|(known, _)| *known != name);
                self.0.push((name, value));
            }
        }
    }

    /// The index and value of a field that is present and not null.
    pub(super) fn get(&self, name: &str) -> Option<(usize, &Value<'a>)> {
        let place = self.0.iter().position(|(known, value)| known == name && !value.is_null())?;
        Some((place, &self.0[place].1))
    }

    /// The value at a path, with the index of its top-level field.
    pub(super) fn at(&self, path: &[String]) -> Option<(usize, Value<'a>)> {
        let (first, rest) = path.split_first()?;
        let (place, value) = self.get(first)?;
        let mut value = value.clone();
        for name in rest {
            let Value::Raw(raw) = value else { return None };
            let inner: Fields<'a> = serde_json::from_str(raw.get()).ok()?;
            value = inner.get(name)?.1.clone();
        }
        Some((place, value))
    }
}

impl<'a> Value<'a> {
    fn is_null(&self) -> bool {
        matches!(self, Self::Raw(raw) if raw.get() == "null")
    }

    /// The value as text: the content of a string, or a number as written; otherwise the name of its type.
    pub(super) fn text(&self) -> Result<Cow<'a, str>, &'static str> {
        let raw = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::True => return Err("a boolean"),
            Self::Raw(raw) => raw.get(),
        };
        match raw.as_bytes().first() {
            Some(b'"') if !raw.contains('\\') => Ok(Cow::Borrowed(&raw[1..raw.len() - 1])),
            Some(b'"') => serde_json::from_str(raw).map(Cow::Owned).map_err(|_| "a broken string"),
            Some(b'-' | b'0'..=b'9') => Ok(Cow::Borrowed(raw)),
            Some(b'{') => Err("an object"),
            Some(b'[') => Err("an array"),
            _ => Err("a boolean"),
        }
    }
}

/// Checks that all stages and stores can store and read all values of a JSON text.
pub(super) fn check(json: &str) -> Result<(), Refusal> {
    // Whatever `Sound` refuses needs an escape, an exponent or hundreds of digits, or many brackets. Most events have
    // none of these, and need no second reading.
    let bytes = json.as_bytes();
    let brackets = bytes.iter().filter(|&&byte| byte == b'{' || byte == b'[').count();
    let digits =
        bytes.len() > 300 || bytes.windows(2).any(|pair| pair[0].is_ascii_digit() && (pair[1] | 32) == b'e');
    if brackets < DEPTH && !digits && !bytes.contains(&b'\\') {
        return Ok(());
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    Sound { depth: 0 }
        .deserialize(&mut reader)
        .map_err(|error| Refusal::new(Code::InvalidValue, error.to_string()))
}

/// Parses a value and discards it.
#[derive(Clone, Copy)]
struct Sound {
    depth: usize,
}

impl Sound {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH {
            return Err(E::custom(format_args!(
                "objects and arrays are nested more than {DEPTH} levels deep"
            )));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if text.contains('\0') {
            return Err(E::custom("a string contains a NUL character, which databases cannot store"));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while fields.next_key_seed(inner)?.is_some() {
            fields.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// Whether a text is valid JSON.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}
