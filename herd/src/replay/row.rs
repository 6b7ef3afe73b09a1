//! A row of a file, from which an event is built.

use herd_spec::units::EventTime;
use serde_json::Value;

use super::columns::Field;

/// A row of a file. Values are JSON text as written, so that numbers keep all digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub(super) fields: [Option<String>; 5],
    pub(super) others: Vec<(String, String)>,
    /// Event time.
    pub time: Option<EventTime>,
    pub(super) fallback_id: String,
}

/// A string as JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

impl Row {
    pub(super) fn has(&self, field: Field) -> bool {
        if field == Field::Time { self.time.is_some() } else { self.value(field).is_some() }
    }

    fn value(&self, field: Field) -> Option<&String> {
        self.fields[field as usize].as_ref()
    }

    /// Whether another column is sent under the name of this one, so that this one cannot be sent.
    pub(super) fn hides(&self, column: &str) -> bool {
        Field::ALL.iter().any(|field| field.sent_as() == column && self.sends(*field))
    }

    fn sends(&self, field: Field) -> bool {
        match field {
            Field::Id => true,
            Field::Time => self.time.is_some(),
            field => self.value(field).is_some(),
        }
    }

    /// The event to send, with the field names of the default mapping.
    pub fn body(&self, fallback_type: Option<&str>, shift: impl Fn(EventTime) -> EventTime) -> String {
        // Ids are strings: a number becomes its digits.
        let text = |json: &String| if json.starts_with('"') { json.clone() } else { quoted(json) };
        let mut body = String::from("{");
        let mut add = |name: &str, json: &str| {
            if body.len() > 1 {
                body.push(',');
            }
            body.push_str(&quoted(name));
            body.push(':');
            body.push_str(json);
        };
        add("event_id", &self.value(Field::Id).map_or_else(|| quoted(&self.fallback_id), text));
        let event_type = self.value(Field::Type).map(text).or_else(|| fallback_type.map(quoted));
        if let Some(event_type) = &event_type {
            add("type", event_type);
        }
        for field in [Field::User, Field::Item] {
            if let Some(value) = self.value(field) {
                add(field.sent_as(), &text(value));
            }
        }
        if let Some(time) = self.time {
            add("time", &shift(time).0.to_string());
        }
        for (name, value) in &self.others {
            let hidden = self.hides(name) || (name == Field::Type.sent_as() && event_type.is_some());
            if !hidden {
                add(name, value);
            }
        }
        body.push('}');
        body
    }
}

/// A CSV value as JSON: a number if it is written in canonical form, otherwise a string (`007` stays `"007"`).
pub(super) fn number_or_text(text: &str) -> String {
    match serde_json::from_str::<serde_json::Number>(text) {
        Ok(value) if value.to_string() == text => text.to_owned(),
        _ => quoted(text),
    }
}

/// Parses a time: RFC 3339, a date and time without offset (UTC), or seconds (below 10¹¹), milliseconds (below 10¹⁴),
/// microseconds (below 10¹⁷) or nanoseconds since 1970. The bounds make it unambiguous for times between 1973 and 5138.
pub(super) fn time_of(json: &str) -> Option<EventTime> {
    let value: Value = serde_json::from_str(json).ok()?;
    let number = match &value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => return None,
    };
    if let Some(number) = number {
        let ms = match f64::abs(number) {
            seconds if seconds < 1e11 => number * 1e3,
            millis if millis < 1e14 => number,
            micros if micros < 1e17 => number / 1e3,
            _ => number / 1e6,
        };
        return ms.is_finite().then_some(EventTime(ms.round() as i64));
    }
    let text = value.as_str()?.trim();
    let text = text.strip_suffix(" UTC").unwrap_or(text);
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.replacen(' ', "T", 1).parse::<jiff::civil::DateTime>().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(EventTime(moment.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1259653500", 1_259_653_500_000)]
    #[case("1259653500123", 1_259_653_500_123)]
    #[case("1259653500123456", 1_259_653_500_123)]
    #[case("1259653500123456789", 1_259_653_500_123)]
    #[case("\"2009-12-01 07:45:00 UTC\"", 1_259_653_500_000)]
    #[case("\"2009-12-01T08:45:00+01:00\"", 1_259_653_500_000)]
    fn parses_common_time_formats(#[case] json: &str, #[case] expected: i64) {
        assert_eq!(time_of(json), Some(EventTime(expected)));
    }
}
