//! Streaming reader of event files.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use herd_spec::units::EventTime;

use super::columns::{Candidate, Field, Mapping, MissingColumns};
use super::delimiter;
use super::object::Object;
use super::row::{Row, number_or_text, time_of};

/// Number of bytes from which encoding and delimiter are detected.
const HEAD: usize = 1 << 16;
/// Maximum number of NDJSON names whose mapping is cached.
const MAX_CACHED_NAMES: usize = 1000;

/// A file that cannot be read as events.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RowsError {
    /// The file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    #[diagnostic(help("events are read from .csv, .tsv, .ndjson and .jsonl files, plain or gzipped (.gz)"))]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The format is unknown.
    #[error("the format of {} is unknown: its extension is neither of CSV nor of NDJSON", path.display())]
    #[diagnostic(help("use the extension .csv, .tsv, .ndjson or .jsonl, followed by .gz if it is gzipped"))]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// A line is invalid.
    #[error("{}, line {line}: {why}", path.display())]
    #[diagnostic(help(
        "correct or remove the line and repeat the command: events that were sent already keep their ids and are deduplicated"
    ))]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// The cause.
        why: String,
    },
    /// Columns are not mapped to the required fields.
    #[error("{}: {missing_columns}", path.display())]
    #[diagnostic(help("{}", missing_columns.help()))]
    Columns {
        /// The file.
        path: PathBuf,
        /// The missing mappings.
        missing_columns: Box<MissingColumns>,
    },
}

/// A column of a CSV file.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) candidate: Option<Candidate>,
}

pub(super) enum Format {
    Csv { reader: Box<csv::Reader<Box<dyn Read + Send>>>, header: Vec<Column>, record: csv::StringRecord },
    Json { reader: Box<dyn BufRead + Send>, line: String, known: HashMap<String, Option<Candidate>> },
}

/// The rows of a file.
pub struct Rows {
    path: PathBuf,
    mapping: Mapping,
    pub(super) format: Format,
    number: u64,
    /// Hash of the file name, part of the generated event ids.
    name: u64,
    pub(super) over: bool,
}

/// A value with its column name and the field it maps to.
struct Cell {
    name: String,
    candidate: Option<Candidate>,
    json: String,
}

/// Summary of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSummary {
    /// Number of rows.
    pub rows: u64,
    /// Earliest and latest event time.
    pub times: Option<(EventTime, EventTime)>,
    /// Columns that are not sent, because another column is sent under the same name.
    pub hidden: BTreeSet<String>,
}

impl Rows {
    /// Opens a file.
    ///
    /// # Errors
    /// [`RowsError`] if the file cannot be read or its format is unknown.
    pub fn open(path: &Path, mapping: &Mapping) -> Result<Self, RowsError> {
        let open = |source| RowsError::Open { path: path.to_owned(), source };
        let in_head = |why: String| RowsError::Line { path: path.to_owned(), line: 1, why };
        let file_name =
            path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let plain_name = file_name.strip_suffix(".gz");
        let kind = plain_name.unwrap_or(&file_name).rsplit('.').next().unwrap_or_default().to_owned();
        let file = BufReader::with_capacity(HEAD, File::open(path).map_err(open)?);
        let mut plain: Box<dyn Read + Send> =
            if plain_name.is_some() { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut head = Vec::new();
        plain.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(open)?;
        let whole = head.len() < HEAD;
        if head.starts_with(&[0xFF, 0xFE]) || head.starts_with(&[0xFE, 0xFF]) {
            return Err(in_head("the file is encoded in UTF-16: save it as UTF-8".into()));
        }
        // The byte order mark does not belong to the first column name.
        if head.starts_with("\u{feff}".as_bytes()) {
            head.drain(..3);
        }
        let separator = if kind == "tsv" { b'\t' } else { delimiter::find(&head, whole) };
        let plain: Box<dyn Read + Send> = Box::new(Cursor::new(head).chain(plain));
        let (format, number) = match kind.as_str() {
            "csv" | "tsv" => {
                let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(plain);
                let header = reader.headers().map_err(|error| in_head(error.to_string()))?;
                let header: Vec<Column> = header
                    .iter()
                    .map(|name| Column {
                        name: name.trim().to_owned(),
                        candidate: mapping.candidate(name.trim()),
                    })
                    .collect();
                let mut names = BTreeSet::new();
                let again =
                    header.iter().find(|column| !column.name.is_empty() && !names.insert(&column.name));
                if let Some(Column { name, .. }) = again {
                    return Err(in_head(format!("duplicate column `{name}`: rename or remove one")));
                }
                (Format::Csv { reader: Box::new(reader), header, record: csv::StringRecord::new() }, 1)
            }
            "ndjson" | "jsonl" => {
                let reader = Box::new(BufReader::with_capacity(HEAD, plain));
                (Format::Json { reader, line: String::new(), known: HashMap::new() }, 0)
            }
            _ => return Err(RowsError::Kind { path: path.to_owned() }),
        };
        let name = hash(0, file_name.as_bytes());
        Ok(Self { path: path.to_owned(), mapping: mapping.clone(), format, number, name, over: false })
    }

    /// Reads the whole file before anything is sent, to count its rows and to check the mapping of its columns. `typed` means that
    /// events without a type get one by option.
    ///
    /// # Errors
    /// As for reading the rows, and [`RowsError::Columns`].
    pub fn survey(
        path: &Path,
        mapping: &Mapping,
        limit: usize,
        typed: bool,
    ) -> Result<FileSummary, RowsError> {
        let mut survey = FileSummary::default();
        let mut rows = Self::open(path, mapping)?;
        let mut found = [false; 5];
        let mut columns = Vec::new();
        if let Format::Csv { header, .. } = &rows.format {
            columns = header.iter().map(|column| column.name.clone()).collect();
            header
                .iter()
                .filter_map(|column| column.candidate)
                .for_each(|(field, _)| found[field as usize] = true);
            rows.check_columns(&columns, &found, typed)?;
        }
        // The first row without a time or without a type.
        let mut without = [Field::Time, Field::Type].map(|field| (field, None));
        while survey.rows < limit as u64
            && let Some(row) = rows.next()
        {
            let row = row?;
            survey.rows += 1;
            for (field, at) in &mut without {
                let given = (*field == Field::Type && typed) || mapping.is_absent(*field);
                if at.is_none() && !given && !row.has(*field) {
                    *at = Some(rows.number);
                }
            }
            for field in Field::ALL {
                found[field as usize] |= row.has(field);
            }
            if let Some(time) = row.time {
                let (first, last) = survey.times.unwrap_or((time, time));
                survey.times = Some((first.min(time), last.max(time)));
            }
            survey
                .hidden
                .extend(row.others.iter().map(|(name, _)| name).filter(|name| row.hides(name)).cloned());
        }
        if let Format::Json { known, .. } = &rows.format {
            columns = known.keys().cloned().collect();
            columns.sort();
        }
        if survey.rows > 0 {
            rows.check_columns(&columns, &found, typed)?;
        }
        for (field, at) in without {
            if let Some(line) = at {
                let why = format!("the row has no {}, but other rows have one", field.name());
                return Err(RowsError::Line { path: path.to_owned(), line, why });
            }
        }
        Ok(survey)
    }

    pub(super) fn check_columns(
        &self,
        columns: &[String],
        found: &[bool; 5],
        typed: bool,
    ) -> Result<(), RowsError> {
        match self.mapping.missing_columns(columns, found, typed) {
            None => Ok(()),
            Some(missing) => {
                Err(RowsError::Columns { path: self.path.clone(), missing_columns: Box::new(missing) })
            }
        }
    }

    pub(super) fn line(&self, why: impl ToString) -> RowsError {
        RowsError::Line { path: self.path.clone(), line: self.number, why: why.to_string() }
    }

    /// Reads the next row; its values are those of [`Rows::cells`].
    pub(super) fn advance(&mut self) -> Option<Result<(), RowsError>> {
        self.number += 1;
        match &mut self.format {
            Format::Csv { reader, record, .. } => match reader.read_record(record) {
                Ok(false) => None,
                Err(error) => Some(Err(self.line(error))),
                Ok(true) => Some(Ok(())),
            },
            Format::Json { reader, line, .. } => loop {
                line.clear();
                match reader.read_line(line) {
                    Ok(0) => return None,
                    Ok(_) if line.trim().is_empty() => self.number += 1,
                    Ok(_) => return Some(Ok(())),
                    Err(error) => return Some(Err(self.line(error))),
                }
            },
        }
    }

    /// The values of the row that was read last, and a hash of its text.
    fn cells(&mut self) -> Result<(Vec<Cell>, u64), RowsError> {
        match &mut self.format {
            Format::Csv { header, record, .. } => {
                // Table tools write the row number in a column without a name.
                let cells = header
                    .iter()
                    .zip(record.iter())
                    .filter(|(column, value)| !value.is_empty() && !column.name.is_empty())
                    .map(|(column, value)| Cell {
                        name: column.name.clone(),
                        candidate: column.candidate,
                        json: number_or_text(value),
                    })
                    .collect();
                Ok((cells, digest(record)))
            }
            Format::Json { line, known, .. } => {
                let digest = hash(0, line.trim().as_bytes());
                let fields = match serde_json::from_str(line) {
                    Ok(Object(fields)) => fields,
                    Err(error) => return Err(self.line(format!("not a JSON object: {error}"))),
                };
                // Null values are treated as absent.
                let cells = fields.into_iter().filter(|(_, json)| json != "null").map(|(name, json)| {
                    let candidate = match known.get(&name) {
                        Some(candidate) => *candidate,
                        None => self.mapping.candidate(&name),
                    };
                    if known.len() < MAX_CACHED_NAMES && !known.contains_key(&name) {
                        known.insert(name.clone(), candidate);
                    }
                    Cell { name, candidate, json }
                });
                Ok((cells.collect(), digest))
            }
        }
    }

    /// The row that was read last.
    pub(super) fn row(&mut self) -> Result<Row, RowsError> {
        let (cells, digest) = self.cells()?;
        // If several columns map to the same field, the one with the best rank is used.
        let mut best: [Option<usize>; 5] = [None; 5];
        for candidate in cells.iter().filter_map(|cell| cell.candidate) {
            let (field, rank) = candidate;
            let least = &mut best[field as usize];
            *least = Some(least.map_or(rank, |least| least.min(rank)));
        }
        let mut fields: [Option<String>; 5] = Default::default();
        let mut others = Vec::new();
        for Cell { name, candidate, json } in cells {
            match candidate {
                Some((field, rank))
                    if best[field as usize] == Some(rank) && fields[field as usize].is_none() =>
                {
                    fields[field as usize] = Some(json);
                }
                _ => others.push((name, json)),
            }
        }
        let time = match fields[Field::Time as usize].take() {
            None => None,
            Some(json) => match time_of(&json) {
                Some(time) => Some(time),
                None => return Err(self.line(not_a_time(&json))),
            },
        };
        let fallback_id = self.fallback_id(digest);
        Ok(Row { fields, others, time, fallback_id: format!("{:016x}{:016x}", fallback_id.0, fallback_id.1) })
    }
}

impl Rows {
    /// The two halves of the id of the current row. The line number is part of it: two identical lines are two events.
    pub(super) fn fallback_id(&self, digest: u64) -> (u64, u64) {
        (self.name ^ self.number.rotate_left(40), digest)
    }
}

/// A hash of a row.
pub(super) fn digest(record: &csv::StringRecord) -> u64 {
    record.iter().fold(0, |digest, field| hash(digest, field.as_bytes()))
}

/// The message for a value that is not a time.
pub(super) fn not_a_time(json: &str) -> String {
    format!(
        "{json} is not a time: write RFC 3339, or seconds, milliseconds, microseconds or nanoseconds since 1970"
    )
}

impl Iterator for Rows {
    type Item = Result<Row, RowsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let row = self.advance().map(|read| read.and_then(|()| self.row()));
        self.over = !matches!(row, Some(Ok(_)));
        row
    }
}

/// FNV-1a with 64 bits and a separator between fields. It must remain stable, because event ids are derived from it.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let start = seed ^ 0xCBF2_9CE4_8422_2325;
    bytes
        .iter()
        .chain(&[0xFF])
        .fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::Value;
    use std::io::Write;

    fn bodies(name: &str, text: &[u8], map: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Rows::open(&path, &map.parse().unwrap())
            .unwrap()
            .map(|row| row.unwrap().body(Some("view"), |time| time))
            .collect()
    }

    const CSV: &str =
        "ts_ms,user,item,event\n1259653500000,13085,028,purchase\n1259653500000,13085,028,purchase\n";

    #[test]
    fn csv_rows_get_ids_derived_from_their_lines() {
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
    fn reads_gzipped_csv_with_a_mapping() {
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(b"when,who,what\n2009-12-01 07:45:00,7,a\n").unwrap();
        let events = bodies("x.csv.gz", &zipped.finish().unwrap(), "time=when,user=who,item=what");
        let event: Value = serde_json::from_str(&events[0]).unwrap();
        assert_eq!((&event["user_id"], &event["item_id"]), (&"7".into(), &"a".into()));
        assert_eq!(event["time"], 1_259_653_500_000_i64);
        assert_eq!(event["type"], "view");
    }

    #[test]
    fn ndjson_keeps_ids_and_properties() {
        let events =
            bodies("x.ndjson", b"{\"event_id\":\"e1\",\"type\":\"view\",\"item\":3,\"price\":9.5}\n\n", "");
        assert_eq!(events, [r#"{"event_id":"e1","type":"view","item_id":"3","price":9.5}"#]);
    }

    #[test]
    fn numbers_keep_all_digits() {
        let events = bodies(
            "x.ndjson",
            b"{\"item\":12345678901234567890123,\"time\":0,\"sum\":9007199254740993,\"rate\":1.10}\n",
            "",
        );
        assert!(events[0].contains(r#""item_id":"12345678901234567890123""#), "{}", events[0]);
        assert!(events[0].ends_with(r#""time":0,"sum":9007199254740993,"rate":1.10}"#), "{}", events[0]);
    }

    #[test]
    fn skips_a_byte_order_mark() {
        for (name, text) in [
            ("x.ndjson", "\u{feff}{\"item\":\"a\",\"time\":1}\n"),
            ("x.csv", "\u{feff}item,time\na,1\n"),
            ("x.csv", "\u{feff}Item;Time\na;1\n"),
        ] {
            let events = bodies(name, text.as_bytes(), "");
            assert!(events[0].ends_with(r#""item_id":"a","time":1000}"#), "{}", events[0]);
        }
    }

    #[test]
    fn prefers_the_column_with_the_best_rank() {
        let events = bodies("x.csv", b"item,Item_ID,time\nname,7,1\n", "");
        assert!(events[0].ends_with(r#""item_id":"7","time":1000,"item":"name"}"#), "{}", events[0]);
        let events = bodies("x.csv", b"item_id,code,time\n7,x,1\n", "item=code");
        assert!(events[0].ends_with(r#""item_id":"x","time":1000}"#), "{}", events[0]);
    }

    #[rstest]
    #[case("x.csv", "time,item\nyesterday,1\n", "line 2: \"yesterday\" is not a time")]
    #[case("x.csv", "time,item\n1,2,3\n", "line 2")]
    #[case("x.ndjson", "{}\nnot json\n", "line 2: not a JSON object")]
    #[case("x.ndjson", "{\"a\":1,\"a\":2}\n", "line 1: not a JSON object: duplicate field `a`")]
    fn an_invalid_line_is_reported_with_its_number(
        #[case] name: &str,
        #[case] text: &str,
        #[case] expected: &str,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let error = Rows::open(&path, &"".parse().unwrap()).unwrap().find_map(Result::err).unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
