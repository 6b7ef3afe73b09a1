//! Events of a file without a detour through JSON, for commands that evaluate them in the same process.
//!
//! Rows whose event follows from the columns alone are read into reused buffers. All others (unusual characters, lengths and times,
//! columns that could be mistaken for a missing field) are returned as the body that `herd replay` would send, to be mapped and
//! validated by the collector's own code.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use herd_spec::units::EventTime;

use super::columns::{Field, Mapping};
use super::row::{Row, number_or_text, time_of};
use super::rows::{Format, Rows, RowsError, digest, not_a_time};

/// Times in milliseconds that no reader takes for another unit: from 1973 to 5138.
const PLAIN_TIMES: std::ops::Range<i64> = 100_000_000_000..100_000_000_000_000;
/// Maximum length of id and type that is not left to the collector.
const PLAIN_NAME_BYTES: usize = 256;
/// Maximum length of user and item that is not left to the collector.
const PLAIN_KEY_BYTES: usize = 1024;

/// Maximum length of a number that is not left to the collector.
const PLAIN_NUMBER_BYTES: usize = 100;

/// An event of a file.
#[derive(Debug)]
pub enum RecordedEvent<'a> {
    /// It follows from the columns alone.
    Plain(&'a PlainEvent),
    /// The body of a request, and the event time.
    Body(String, EventTime),
}

/// An event whose fields are those of the `events` topic.
#[derive(Debug, Default)]
pub struct PlainEvent {
    id: String,
    event_type: String,
    user: String,
    item: String,
    time: EventTime,
    properties: String,
}

impl PlainEvent {
    /// Event id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Event type.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// User id.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        Some(self.user.as_str()).filter(|user| !user.is_empty())
    }

    /// Item id.
    #[must_use]
    pub fn item(&self) -> Option<&str> {
        Some(self.item.as_str()).filter(|item| !item.is_empty())
    }

    /// Event time.
    #[must_use]
    pub fn time(&self) -> EventTime {
        self.time
    }

    /// The properties that were asked for, as a JSON object; none if the row has none of them.
    #[must_use]
    pub fn properties(&self) -> Option<&str> {
        Some(self.properties.as_str()).filter(|properties| !properties.is_empty())
    }

    fn clear(&mut self) {
        self.id.clear();
        self.event_type.clear();
        self.user.clear();
        self.item.clear();
        self.properties.clear();
    }

    fn text(&mut self, field: Field) -> Option<&mut String> {
        match field {
            Field::Id => Some(&mut self.id),
            Field::Type => Some(&mut self.event_type),
            Field::User => Some(&mut self.user),
            Field::Item => Some(&mut self.item),
            Field::Time => None,
        }
    }

    fn add_property(&mut self, name: &str, json: &str) {
        self.properties.push(if self.properties.is_empty() { '{' } else { ',' });
        // A string as JSON; writing into a String does not fail.
        let _ = write!(self.properties, "{}:{json}", serde_json::Value::from(name));
    }

    fn end(&mut self) {
        if !self.properties.is_empty() {
            self.properties.push('}');
        }
    }

    /// Whether the collector would leave all fields as they are.
    fn is_plain(&self) -> bool {
        let names = [&self.id, &self.event_type];
        let keys = [&self.user, &self.item];
        PLAIN_TIMES.contains(&self.time.0)
            && names.iter().all(|name| !name.is_empty() && name.len() <= PLAIN_NAME_BYTES)
            && keys.iter().all(|key| key.len() <= PLAIN_KEY_BYTES)
            && names.iter().chain(&keys).all(|text| !text.contains('\0'))
            && !self.properties.contains("\\u0000")
    }
}

/// The events of a file in their order.
pub struct EventReader {
    rows: Rows,
    event_type: Option<String>,
    /// Properties to read; none: every event is returned as a body.
    properties: Option<BTreeSet<String>>,
    /// Names that a field may have in an event, beside the one under which it is sent.
    alternatives: [Vec<String>; 5],
    plain: PlainEvent,
    /// Fields that were found in a row so far, and the names of all columns of NDJSON.
    found: [bool; 5],
    columns: BTreeSet<String>,
    read: u64,
}

impl EventReader {
    /// Opens a file. `event_type` is the type of events without one; `properties` are the properties to read, none if all events are
    /// to be returned as bodies; `alternatives` are the names under which the collector looks for a field, by [`Field`].
    ///
    /// # Errors
    /// If the file cannot be read, its format is unknown, or a column is missing.
    pub fn open(
        path: &Path,
        mapping: &Mapping,
        event_type: Option<&str>,
        mut properties: Option<BTreeSet<String>>,
        alternatives: [Vec<String>; 5],
    ) -> Result<Self, RowsError> {
        let rows = Rows::open(path, mapping)?;
        let mut found = [false; 5];
        if let Format::Csv { header, .. } = &rows.format {
            let fields = header.iter().filter_map(|column| column.candidate);
            fields.for_each(|(field, _)| found[field as usize] = true);
            let names: Vec<String> = header.iter().map(|column| column.name.clone()).collect();
            rows.check_columns(&names, &found, event_type.is_some())?;
            let is_mistakable = |(name, candidate): (&String, Option<Field>)| {
                Field::ALL
                    .iter()
                    .any(|field| candidate != Some(*field) && alternatives[*field as usize].contains(name))
            };
            let mut candidates =
                header.iter().map(|column| (&column.name, column.candidate.map(|(field, _)| field)));
            if candidates.any(is_mistakable) {
                properties = None;
            }
        }
        Ok(Self {
            rows,
            event_type: event_type.map(str::to_owned),
            properties,
            alternatives,
            plain: PlainEvent::default(),
            found,
            columns: BTreeSet::new(),
            read: 0,
        })
    }

    /// The next event. After the last one, none, or an error if a column turned out to be missing.
    pub fn next_event(&mut self) -> Option<Result<RecordedEvent<'_>, RowsError>> {
        if self.rows.over {
            return None;
        }
        match self.rows.advance() {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                self.rows.over = true;
                return Some(Err(error));
            }
            None => {
                self.rows.over = true;
                return self.check_end().err().map(Err);
            }
        }
        self.read += 1;
        let is_plain = match self.read_plain() {
            Ok(is_plain) => is_plain,
            Err(error) => return self.fail(error),
        };
        if is_plain {
            return Some(Ok(RecordedEvent::Plain(&self.plain)));
        }
        let row = match self.rows.row() {
            Ok(row) => row,
            Err(error) => return self.fail(error),
        };
        self.note(&row);
        let Some(time) = row.time else {
            let error = self.rows.line("the row has no time");
            return self.fail(error);
        };
        if self.take_plain(&row) {
            return Some(Ok(RecordedEvent::Plain(&self.plain)));
        }
        Some(Ok(RecordedEvent::Body(row.body(self.event_type.as_deref(), |time| time), time)))
    }

    fn fail(&mut self, error: RowsError) -> Option<Result<RecordedEvent<'_>, RowsError>> {
        self.rows.over = true;
        // A missing column is a better reason than the first row without it.
        Some(Err(self.check_end().err().unwrap_or(error)))
    }

    /// NDJSON has no header: which fields its objects have is known at the end.
    fn check_end(&self) -> Result<(), RowsError> {
        if self.read == 0 || matches!(self.rows.format, Format::Csv { .. }) {
            return Ok(());
        }
        let columns: Vec<String> = self.columns.iter().cloned().collect();
        self.rows.check_columns(&columns, &self.found, self.event_type.is_some())
    }

    fn note(&mut self, row: &Row) {
        if self.found.iter().all(|found| *found) {
            return;
        }
        for field in Field::ALL {
            self.found[field as usize] |= row.has(field);
        }
        if self.columns.len() < 100 {
            self.columns.extend(row.others.iter().map(|(name, _)| name.clone()));
        }
    }

    /// Reads the current row of a CSV file into the buffers; false if that is not possible.
    fn read_plain(&mut self) -> Result<bool, RowsError> {
        let Self { rows, plain, properties: Some(properties), .. } = self else { return Ok(false) };
        let Format::Csv { header, record, .. } = &rows.format else { return Ok(false) };
        let mut best: [Option<(usize, usize)>; 5] = [None; 5];
        for (place, (column, value)) in header.iter().zip(record.iter()).enumerate() {
            let Some((field, rank)) = column.candidate.filter(|_| !value.is_empty()) else { continue };
            let known = &mut best[field as usize];
            if known.is_none_or(|(least, _)| rank < least) {
                *known = Some((rank, place));
            }
        }
        plain.clear();
        let mut time = None;
        for field in Field::ALL {
            let Some(value) = best[field as usize].and_then(|(_, place)| record.get(place)) else { continue };
            match plain.text(field) {
                Some(text) => text.push_str(value),
                None => time = Some(value),
            }
        }
        let Some(time) = time else { return Ok(false) };
        plain.time = match milliseconds(time) {
            Some(time) => time,
            None => {
                let json = number_or_text(time);
                time_of(&json).ok_or_else(|| rows.line(not_a_time(&json)))?
            }
        };
        if plain.id.is_empty() {
            let (high, low) = rows.fallback_id(digest(record));
            let _ = write!(plain.id, "{high:016x}{low:016x}");
        }
        if plain.event_type.is_empty() {
            plain.event_type.push_str(self.event_type.as_deref().unwrap_or_default());
        }
        if !properties.is_empty() {
            for (place, (column, value)) in header.iter().zip(record.iter()).enumerate() {
                let is_field = best.iter().flatten().any(|(_, chosen)| *chosen == place);
                if !is_field && !value.is_empty() && properties.contains(&column.name) {
                    plain.add_property(&column.name, &number_or_text(value));
                }
            }
            plain.end();
        }
        Ok(plain.is_plain())
    }

    /// Takes a row of NDJSON into the buffers; false if that is not possible.
    fn take_plain(&mut self, row: &Row) -> bool {
        let Self { plain, properties: Some(properties), alternatives, event_type, rows, .. } = self else {
            return false;
        };
        if matches!(rows.format, Format::Csv { .. }) {
            return false;
        }
        plain.clear();
        for field in [Field::Id, Field::Type, Field::User, Field::Item] {
            let (Some(text), Some(json)) = (plain.text(field), &row.fields[field as usize]) else {
                // Another field of the event could be taken for this one.
                if field != Field::Id
                    && row.others.iter().any(|(name, _)| alternatives[field as usize].contains(name))
                {
                    return false;
                }
                continue;
            };
            match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
                Some(inner) if inner.is_empty() || inner.contains('\\') => return false,
                Some(inner) => text.push_str(inner),
                // The collector checks the range of long numbers.
                None if json.len() > PLAIN_NUMBER_BYTES => return false,
                None => text.push_str(json),
            }
        }
        let Some(time) = row.time else { return false };
        plain.time = time;
        if plain.id.is_empty() {
            plain.id.push_str(&row.fallback_id);
        }
        if plain.event_type.is_empty() {
            plain.event_type.push_str(event_type.as_deref().unwrap_or_default());
        }
        for (name, json) in &row.others {
            if properties.contains(name) && !row.hides(name) {
                plain.add_property(name, json);
            }
        }
        plain.end();
        // Escapes may stand for characters that the collector replaces or refuses.
        plain.is_plain() && !plain.properties.contains('\\')
    }
}

/// Milliseconds since 1970 in plain digits, by far the most common form of a time.
fn milliseconds(text: &str) -> Option<EventTime> {
    let is_plain = matches!(text.len(), 12..=14) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok().map(EventTime)).flatten().filter(|time| PLAIN_TIMES.contains(&time.0))
}
