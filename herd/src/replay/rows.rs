//! Rows of a file of events, one at a time, however large it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use flate2::read::MultiGzDecoder;
use herd_spec::units::EventTime;
use serde_json::{Map, Value};

/// Which column is what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping(BTreeMap<&'static str, Vec<String>>);

/// What may be mapped, and what columns are taken for it where nothing is said.
const FIELDS: [(&str, &[&str]); 5] = [
    ("id", &["event_id", "eventId", "id"]),
    ("type", &["type", "event_type", "eventType", "event"]),
    ("user", &["user_id", "userId", "user", "customer_id"]),
    ("item", &["item_id", "itemId", "product_id", "productId", "item"]),
    ("time", &["time", "timestamp", "ts_ms", "ts"]),
];

impl FromStr for Mapping {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let mut fields: BTreeMap<&'static str, Vec<String>> = FIELDS
            .iter()
            .map(|(field, columns)| (*field, columns.iter().map(|c| (*c).to_owned()).collect()))
            .collect();
        for pair in written.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (field, column) = pair
                .split_once('=')
                .ok_or_else(|| format!("`{pair}` is not FIELD=COLUMN, e.g. item=product_code"))?;
            let known = FIELDS.iter().find(|(name, _)| *name == field.trim());
            let (name, _) = known.ok_or_else(|| {
                format!("`{field}` is no field of an event: write id, type, user, item or time")
            })?;
            fields.insert(name, vec![column.trim().to_owned()]);
        }
        Ok(Self(fields))
    }
}

impl Mapping {
    fn field(&self, column: &str) -> Option<&'static str> {
        self.0.iter().find(|(_, columns)| columns.iter().any(|name| name == column)).map(|(field, _)| *field)
    }
}

/// A file that cannot be read as events.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RowsError {
    /// Not there, or not ours.
    #[error("{} cannot be opened: {source}", path.display())]
    #[diagnostic(help("replay takes a .csv, .ndjson or .jsonl file, plain or with .gz"))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Neither kind.
    #[error("{} is neither CSV nor NDJSON by its name", path.display())]
    #[diagnostic(help("name it .csv, .ndjson or .jsonl, with .gz if it is gzipped"))]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// A line makes no sense.
    #[error("{}, line {line}: {why}", path.display())]
    #[diagnostic(help(
        "correct or remove the line; what was sent before it stays sent, and a repeated replay sends the same ids"
    ))]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
}

/// One event of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    fields: BTreeMap<&'static str, Value>,
    others: Map<String, Value>,
    /// When it says it happened.
    pub time: Option<EventTime>,
    fallback_id: String,
}

impl Row {
    /// The event to send: with the names that every pipeline knows unless its mapping leaves them out.
    pub fn body(self, fallback_type: &str, shift: impl Fn(EventTime) -> EventTime) -> String {
        let Self { mut fields, mut others, time, fallback_id } = self;
        let text = |value: Value| match value {
            Value::String(text) => Value::String(text),
            other => Value::String(other.to_string()),
        };
        let mut event = Map::new();
        event.insert("event_id".into(), fields.remove("id").map_or(Value::String(fallback_id), text));
        event.insert("type".into(), fields.remove("type").map_or_else(|| fallback_type.into(), text));
        for (field, name) in [("user", "user_id"), ("item", "item_id")] {
            if let Some(value) = fields.remove(field) {
                event.insert(name.into(), text(value));
            }
        }
        if let Some(time) = time {
            event.insert("time".into(), shift(time).0.into());
        }
        event.append(&mut others);
        Value::Object(event).to_string()
    }
}

enum Format {
    Csv { reader: Box<csv::Reader<Box<dyn Read + Send>>>, header: Vec<String>, record: csv::StringRecord },
    Json { reader: Box<dyn BufRead + Send>, line: String },
}

/// The rows of a file.
pub struct Rows {
    path: PathBuf,
    mapping: Mapping,
    format: Format,
    number: u64,
    /// Stands for the file in the ids of its events.
    name: u64,
    over: bool,
}

/// A row as name and value pairs, and a hash of its text.
type Columns = (Map<String, Value>, u64);

/// How far a file goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Rows.
    pub rows: u64,
    /// The earliest and the latest time in it.
    pub times: Option<(EventTime, EventTime)>,
}

impl Rows {
    /// Opens a file.
    ///
    /// # Errors
    /// [`RowsError`] if it cannot be read or is of no kind that is known.
    pub fn open(path: &Path, mapping: &Mapping) -> Result<Self, RowsError> {
        let open = |source| RowsError::Open { path: path.to_owned(), source };
        let file_name =
            path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let plain_name = file_name.strip_suffix(".gz");
        let kind = plain_name.unwrap_or(&file_name).rsplit('.').next().unwrap_or_default().to_owned();
        let file = BufReader::with_capacity(1 << 16, File::open(path).map_err(open)?);
        let plain: Box<dyn Read + Send> =
            if plain_name.is_some() { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let (format, number) = match kind.as_str() {
            "csv" => {
                let mut reader = csv::ReaderBuilder::new().from_reader(plain);
                let header = reader.headers().map_err(|error| RowsError::Line {
                    path: path.to_owned(),
                    line: 1,
                    why: error.to_string(),
                })?;
                let header = header.iter().map(|name| name.trim().to_owned()).collect();
                (Format::Csv { reader: Box::new(reader), header, record: csv::StringRecord::new() }, 1)
            }
            "ndjson" | "jsonl" => (
                Format::Json {
                    reader: Box::new(BufReader::with_capacity(1 << 16, plain)),
                    line: String::new(),
                },
                0,
            ),
            _ => return Err(RowsError::Kind { path: path.to_owned() }),
        };
        let name = hash(0, file_name.as_bytes());
        Ok(Self { path: path.to_owned(), mapping: mapping.clone(), format, number, name, over: false })
    }

    /// Reads a file once, only to see how far it goes.
    ///
    /// # Errors
    /// As reading it for good.
    pub fn extent(path: &Path, mapping: &Mapping, limit: usize) -> Result<Extent, RowsError> {
        let mut extent = Extent::default();
        for row in Self::open(path, mapping)?.take(limit) {
            extent.rows += 1;
            if let Some(time) = row?.time {
                let (first, last) = extent.times.unwrap_or((time, time));
                extent.times = Some((first.min(time), last.max(time)));
            }
        }
        Ok(extent)
    }

    fn line(&self, why: impl ToString) -> RowsError {
        RowsError::Line { path: self.path.clone(), line: self.number, why: why.to_string() }
    }

    fn read(&mut self) -> Option<Result<Columns, RowsError>> {
        self.number += 1;
        match &mut self.format {
            Format::Csv { reader, header, record } => match reader.read_record(record) {
                Ok(false) => None,
                Err(error) => Some(Err(self.line(error))),
                Ok(true) => {
                    let digest = record.iter().fold(0, |digest, field| hash(digest, field.as_bytes()));
                    let row = header
                        .iter()
                        .zip(record.iter())
                        .filter(|(_, value)| !value.is_empty())
                        .map(|(name, value)| (name.clone(), number_or_text(value)))
                        .collect();
                    Some(Ok((row, digest)))
                }
            },
            Format::Json { reader, line } => loop {
                line.clear();
                match reader.read_line(line) {
                    Ok(0) => return None,
                    Ok(_) if line.trim().is_empty() => self.number += 1,
                    Ok(_) => {
                        let digest = hash(0, line.trim().as_bytes());
                        return match serde_json::from_str(line) {
                            Ok(row) => Some(Ok((row, digest))),
                            Err(error) => Some(Err(self.line(format!("not a JSON object: {error}")))),
                        };
                    }
                    Err(error) => return Some(Err(self.line(error))),
                }
            },
        }
    }

    fn row(&mut self) -> Option<Result<Row, RowsError>> {
        let (columns, digest) = match self.read()? {
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        let mut fields = BTreeMap::new();
        let mut others = Map::new();
        for (column, value) in columns {
            match self.mapping.field(&column) {
                Some(field) if !fields.contains_key(field) => {
                    fields.insert(field, value);
                }
                _ => {
                    others.insert(column, value);
                }
            }
        }
        let time = match fields.remove("time").map(|value| time_of(&value).ok_or(value)).transpose() {
            Ok(time) => time,
            Err(value) => {
                return Some(Err(
                    self.line(format!("{value} is no time: RFC 3339, or seconds or milliseconds since 1970"))
                ));
            }
        };
        // The line's number is part of it: the same purchase twice in a file is two purchases.
        let fallback_id = format!("{:016x}{:016x}", self.name ^ self.number.rotate_left(40), digest);
        Some(Ok(Row { fields, others, time, fallback_id }))
    }
}

impl Iterator for Rows {
    type Item = Result<Row, RowsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let row = self.row();
        self.over = !matches!(row, Some(Ok(_)));
        row
    }
}

/// FNV-1a, 64 bits, with a border between fields: stable for ever, which is all that ids of lines need.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let start = seed ^ 0xCBF2_9CE4_8422_2325;
    bytes
        .iter()
        .chain(&[0xFF])
        .fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

/// A column's text as JSON: a number where it is exactly one as people write it, else text (`007` stays `007`).
fn number_or_text(text: &str) -> Value {
    if let Ok(value) = serde_json::from_str::<serde_json::Number>(text)
        && value.to_string() == text
    {
        return Value::Number(value);
    }
    Value::String(text.to_owned())
}

/// Milliseconds, seconds (below 10¹¹) or RFC 3339.
fn time_of(value: &Value) -> Option<EventTime> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    if let Some(number) = number {
        let ms = if number.abs() < 1e11 { number * 1e3 } else { number };
        return ms.is_finite().then_some(EventTime(ms.round() as i64));
    }
    let text = value.as_str()?;
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
    use std::io::Write;

    fn bodies(name: &str, text: &[u8], map: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Rows::open(&path, &map.parse().unwrap())
            .unwrap()
            .map(|row| row.unwrap().body("view", |time| time))
            .collect()
    }

    const CSV: &str =
        "ts_ms,user,item,event\n1259653500000,13085,028,purchase\n1259653500000,13085,028,purchase\n";

    #[test]
    fn a_csv_becomes_events_with_ids_of_their_lines() {
        let events = bodies("retail.csv", CSV.as_bytes(), "");
        let first: Value = serde_json::from_str(&events[0]).unwrap();
        assert_eq!(first["user_id"], "13085");
        assert_eq!(first["item_id"], "028");
        assert_eq!(first["type"], "purchase");
        assert_eq!(first["time"], 1_259_653_500_000_i64);
        assert_ne!(events[0], events[1], "the same line twice is two events");
        assert_eq!(events, bodies("retail.csv", CSV.as_bytes(), ""), "and again the same");
    }

    #[test]
    fn gzip_and_a_mapping_make_no_difference_to_what_is_said() {
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(b"when,who,what\n2009-12-01 07:45:00,7,a\n").unwrap();
        let events = bodies("x.csv.gz", &zipped.finish().unwrap(), "time=when,user=who,item=what");
        let event: Value = serde_json::from_str(&events[0]).unwrap();
        assert_eq!((&event["user_id"], &event["item_id"]), (&"7".into(), &"a".into()));
        assert_eq!(event["time"], 1_259_653_500_000_i64);
        assert_eq!(event["type"], "view");
    }

    #[test]
    fn ndjson_keeps_its_own_ids_and_other_fields() {
        let events =
            bodies("x.ndjson", b"{\"event_id\":\"e1\",\"type\":\"view\",\"item\":3,\"price\":9.5}\n\n", "");
        assert_eq!(events, [r#"{"event_id":"e1","type":"view","item_id":"3","price":9.5}"#]);
    }

    #[rstest]
    #[case("x.csv", "time,item\nyesterday,1\n", "line 2: \"yesterday\" is no time")]
    #[case("x.csv", "time,item\n1,2,3\n", "line 2")]
    #[case("x.ndjson", "{}\nnot json\n", "line 2: not a JSON object")]
    fn a_line_that_makes_no_sense_is_named(#[case] name: &str, #[case] text: &str, #[case] expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let error = Rows::open(&path, &"".parse().unwrap()).unwrap().find_map(Result::err).unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[rstest]
    #[case("colour=x", "`colour` is no field")]
    #[case("item", "`item` is not FIELD=COLUMN")]
    fn a_wrong_mapping_is_explained(#[case] written: &str, #[case] expected: &str) {
        assert!(written.parse::<Mapping>().unwrap_err().contains(expected));
    }
}
