//! CloudEvents 1.0 over HTTP: structured (all in JSON) and binary (attributes as headers).

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;

use super::fields::{self, Fields, Value};
use super::refusal::{Code, Refusal};

type Named<'a> = (Cow<'a, str>, Value<'a>);

/// A CloudEvent in binary mode, as received.
#[derive(Clone, Debug)]
pub struct Binary<'a> {
    /// The headers with the prefix `ce-`, without it, in lower case.
    pub attributes: Vec<(String, String)>,
    /// The content type, if any.
    pub content_type: Option<String>,
    /// The data.
    pub body: &'a [u8],
}

impl Binary<'_> {
    /// Whether the content type is JSON or missing.
    pub(super) fn is_json(&self) -> bool {
        let kind = self.content_type.as_deref().unwrap_or("application/json");
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    }
}

/// A CloudEvent of either mode.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) source: Cow<'a, str>,
    pub(super) event_type: Cow<'a, str>,
    pub(super) subject: Option<Cow<'a, str>>,
    pub(super) time: Option<Cow<'a, str>>,
    /// All other attributes.
    pub(super) extensions: Vec<Named<'a>>,
    pub(super) data: Option<Value<'a>>,
}

fn wrong(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidCloudEvent, detail)
}

impl<'a> Event<'a> {
    pub(super) fn structured(json: &'a str) -> Result<Self, Refusal> {
        let Fields(attributes) = Fields::parse(json)?;
        fields::check(json)?;
        let (mut data, mut rest) = (None, Vec::with_capacity(attributes.len()));
        for (name, value) in attributes {
            match name.as_ref() {
                "data" => data = Some(value),
                // Already text: it stays as it came.
                "data_base64" => rest.push((name, value)),
                _ if matches!(&value, Value::Raw(raw) if raw.get() == "null") => {}
                _ => rest.push((name, value)),
            }
        }
        Self::of(rest, data)
    }

    pub(super) fn binary(binary: &Binary<'a>) -> Result<Self, Refusal> {
        let attributes = binary
            .attributes
            .iter()
            .map(|(name, value)| (Cow::Owned(name.clone()), Value::Text(percent(value).into())));
        Self::of(attributes.collect(), data(binary)?)
    }

    fn of(attributes: Vec<Named<'a>>, data: Option<Value<'a>>) -> Result<Self, Refusal> {
        let mut rest = Fields(attributes);
        let mut take = |name: &str| -> Result<Option<Cow<'a, str>>, Refusal> {
            let Some((place, value)) = rest.get(name) else { return Ok(None) };
            let text =
                value.text().map_err(|kind| wrong(format!("`{name}` must be a string, not {kind}")))?;
            if text.contains('\0') {
                return Err(wrong(format!("`{name}` contains a NUL character")));
            }
            rest.0.remove(place);
            Ok(Some(text).filter(|text| !text.is_empty()))
        };
        let mut need =
            |name: &str| take(name)?.ok_or_else(|| wrong(format!("the CloudEvent has no `{name}`")));
        let version = need("specversion")?;
        if version != "1.0" {
            return Err(wrong(format!(
                "`specversion` is `{}`: only 1.0 is supported",
                super::shorten(&version)
            )));
        }
        let (id, source, event_type) = (need("id")?, need("source")?, need("type")?);
        let (subject, time) = (take("subject")?, take("time")?);
        take("datacontenttype")?;
        Ok(Self { id, source, event_type, subject, time, extensions: rest.0, data })
    }
}

/// The data in binary mode: JSON unchanged, other text as a string, other bytes in Base64.
fn data<'a>(binary: &Binary<'a>) -> Result<Option<Value<'a>>, Refusal> {
    let Ok(text) = std::str::from_utf8(binary.body) else {
        return Ok(Some(Value::Text(BASE64_STANDARD.encode(binary.body).into())));
    };
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if binary.is_json() {
        if !fields::is_json(text) {
            return Err(Refusal::new(
                Code::InvalidJson,
                "the data is not JSON, contrary to its content type",
            ));
        }
        fields::check(text)?;
        let raw: &RawValue =
            serde_json::from_str(text).map_err(|error| Refusal::new(Code::InvalidJson, error.to_string()))?;
        return Ok(Some(Value::Raw(raw)));
    }
    if text.contains('\0') {
        return Err(Refusal::new(
            Code::InvalidValue,
            "the data contains a NUL character, which databases cannot store",
        ));
    }
    Ok(Some(Value::Text(text.into())))
}

/// Decodes a percent-encoded header value; invalid escapes are kept.
fn percent(value: &str) -> String {
    if !value.contains('%') {
        return value.to_owned();
    }
    let bytes = value.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| value.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| value.to_owned())
}
