//! A batch of rows, encoded for the database: as PostgreSQL's binary COPY, or as JSON.
//!
//! Rows are encoded when they are pushed, directly from the borrowed record into one buffer, without an allocation per row. The end
//! of each row is kept, so that a part of a batch can be written without encoding it again.

use std::borrow::Cow;
use std::ops::Range;

use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{Alert, Ending, Episode, EventRef, Window};
use serde::Serialize;

use crate::alerts::{NEW_LEVEL, USUAL};
use crate::copy::CopyRow;
use crate::revenue::{is_purchase, revenue_micros};

/// A table of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Every accepted event.
    UserEvents,
    /// Closed windows.
    Windows,
    /// Alerts, by their newest record.
    Alerts,
}

impl Table {
    /// The table's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserEvents => "user_events",
            Self::Windows => "windows",
            Self::Alerts => "alerts",
        }
    }
}

/// A record that cannot be stored in any database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unstorable {
    /// PostgreSQL does not allow NUL in text, and SQLite ends text there.
    #[error("`{field}` contains a NUL character, which databases cannot store")]
    Nul {
        /// The field.
        field: &'static str,
    },
    /// An escape in JSON that PostgreSQL refuses: `\u0000`, or an unpaired surrogate.
    #[error("`{field}` contains the escape \\u{code:04x}, which PostgreSQL does not allow in JSON")]
    Escape {
        /// The field.
        field: &'static str,
        /// The code unit.
        code: u16,
    },
    /// Before the year 1 or after 9999.
    #[error("`{field}` is {millis} ms since 1970: the year must be from 1 to 9999")]
    Time {
        /// The field.
        field: &'static str,
        /// The time.
        millis: i64,
    },
    /// Longer than the limit of a database index.
    #[error("`{field}` has {length} bytes, but a database index allows at most {MAX_KEY}")]
    Long {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
    },
}

/// Maximum length of a key, in bytes: a B-tree of PostgreSQL allows 2,704 for all columns of an entry together.
pub const MAX_KEY: usize = 1024;

const FIRST_MILLI: i64 = -62_135_596_800_000;
const LAST_MILLI: i64 = 253_402_300_799_999;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Copy,
    Json,
}

/// Rows of one table, encoded for one store: [`crate::Writer::rows`] creates an empty batch.
#[derive(Debug)]
pub struct Rows {
    table: Table,
    format: Format,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// The row of an alert: the fields of the record, and further columns.
#[derive(Serialize)]
struct AlertRow<'a> {
    #[serde(flatten)]
    alert: &'a Alert,
    #[serde(flatten)]
    episode: Option<EpisodeColumns>,
    rank: u8,
    raised: i64,
}

/// The columns of an episode.
#[derive(Serialize)]
struct EpisodeColumns {
    since: EventTime,
    until: EventTime,
    peak: f64,
    peak_start: EventTime,
    excess: f64,
    ending: Option<&'static str>,
    level: Option<f64>,
}

impl EpisodeColumns {
    fn of(episode: &Episode) -> Self {
        let (ending, level) = match episode.ending {
            None => (None, None),
            Some(Ending::Usual) => (Some(USUAL), None),
            Some(Ending::NewLevel(level)) => (Some(NEW_LEVEL), Some(level)),
        };
        Self {
            since: episode.since,
            until: episode.until,
            peak: episode.peak,
            peak_start: episode.peak_start,
            excess: episode.excess,
            ending,
            level,
        }
    }
}

impl Rows {
    pub(crate) fn new(table: Table, format: Format) -> Self {
        Self { table, format, bytes: Vec::new(), ends: Vec::new() }
    }

    /// An empty batch in the format of SQLite: [`Rows::json`].
    #[must_use]
    pub fn in_json(table: Table) -> Self {
        Self::new(table, Format::Json)
    }

    /// The table of the batch.
    #[must_use]
    pub fn table(&self) -> Table {
        self.table
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the batch is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Clears the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// The encoded rows of a range.
    pub(crate) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        let at = |row: usize| if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[at(range.start)..at(range.end)]
    }

    /// The rows of a range as a JSON array, for batches in JSON.
    #[must_use]
    pub fn json(&self, range: &Range<usize>) -> String {
        // Each row ends in a comma.
        let rows = self.bytes(range);
        let rows = rows.strip_suffix(b",").unwrap_or(rows);
        let mut array = Vec::with_capacity(rows.len() + 2);
        array.push(b'[');
        array.extend_from_slice(rows);
        array.push(b']');
        // JSON is always UTF-8, so nothing is replaced.
        String::from_utf8(array).unwrap_or_default()
    }

    fn end_row(&mut self) {
        self.ends.push(self.bytes.len());
    }

    fn push_json<T: Serialize>(&mut self, row: &T) {
        let written = serde_json::to_writer(&mut self.bytes, row);
        debug_assert!(written.is_ok(), "rows have string keys and a Vec takes every write");
        self.bytes.push(b',');
    }

    /// Adds an event with its position in the `events` topic.
    ///
    /// # Errors
    /// If it cannot be stored; the batch is unchanged.
    pub fn push_event(
        &mut self,
        partition: Partition,
        offset: Offset,
        event: &EventRef<'_>,
    ) -> Result<(), Unstorable> {
        check_key("event_id", &event.event_id)?;
        check_key("type", &event.event_type)?;
        check_key("user_id", event.user_id.as_deref().unwrap_or_default())?;
        check_key("item_id", event.item_id.as_deref().unwrap_or_default())?;
        check_time("time", event.time)?;
        check_time("received", EventTime(event.received.0))?;
        let properties = event.properties.map_or("{}", |raw| raw.get());
        if let (Format::Copy, Some(code)) = (self.format, unstorable_escape(properties)) {
            return Err(Unstorable::Escape { field: "properties", code });
        }
        let purchase = is_purchase(event);
        let revenue = if purchase { revenue_micros(event) } else { 0 };
        match self.format {
            Format::Copy => {
                CopyRow::begin(&mut self.bytes, 11)
                    .text(&event.event_id)
                    .text(&event.event_type)
                    .text_or_null(event.user_id.as_deref())
                    .text_or_null(event.item_id.as_deref())
                    .time(event.time)
                    .time(EventTime(event.received.0))
                    .jsonb(properties)
                    .int4(i32::try_from(partition.0).unwrap_or(i32::MAX))
                    .int8(offset.0)
                    .bool(purchase)
                    .int8(revenue);
            }
            Format::Json => self.push_json(&(
                &event.event_id,
                &event.event_type,
                &event.user_id,
                &event.item_id,
                event.time,
                event.received,
                event.properties,
                partition,
                offset,
                u8::from(purchase),
                revenue,
            )),
        }
        self.end_row();
        Ok(())
    }

    /// Adds a closed window.
    ///
    /// # Errors
    /// If it cannot be stored; the batch is unchanged.
    pub fn push_window(&mut self, window: &Window<'_>) -> Result<(), Unstorable> {
        check_key("metric", &window.metric)?;
        check_key("key", &window.key)?;
        check_time("start", window.start)?;
        let (size, count) = (signed(window.size_ms), signed(window.count));
        match self.format {
            Format::Copy => {
                // A few numbers: their JSON is the only allocation of a window.
                let bands = serde_json::to_string(&window.bands).unwrap_or_else(|_| "[]".into());
                CopyRow::begin(&mut self.bytes, 8)
                    .text(&window.metric)
                    .text(&window.key)
                    .time(window.start)
                    .int8(size)
                    .int8(count)
                    .float8(window.value)
                    .jsonb(&bands)
                    .text(&window.definition.to_string());
            }
            Format::Json => self.push_json(&(
                &window.metric,
                &window.key,
                window.start,
                size,
                count,
                window.value,
                &window.bands,
                window.definition,
            )),
        }
        self.end_row();
        Ok(())
    }

    /// Adds a record of an alert, sent at `sent`. NUL characters in its explanation, whose values come from events, are replaced.
    ///
    /// # Errors
    /// If it cannot be stored; the batch is unchanged.
    pub fn push_alert(&mut self, alert: &Alert, sent: WallTime) -> Result<(), Unstorable> {
        check_key("id", &alert.id.0)?;
        check_key("metric", &alert.metric)?;
        check_key("key", &alert.key)?;
        check_time("start", alert.start)?;
        check_time("resolved", alert.resolved.unwrap_or_default())?;
        check_time("raised", EventTime(sent.0))?;
        if let Some(episode) = &alert.episode {
            check_time("since", episode.since)?;
            check_time("until", episode.until)?;
            check_time("peak_start", episode.peak_start)?;
        }
        let alert = storable(alert);
        self.push_json(&AlertRow {
            alert: &alert,
            episode: alert.episode.as_ref().map(EpisodeColumns::of),
            rank: alert.state.rank(),
            raised: sent.0,
        });
        self.end_row();
        Ok(())
    }
}

/// The alert with an explanation that databases can store: a NUL character in a value of an event must not refuse the alert.
fn storable(alert: &Alert) -> Cow<'_, Alert> {
    const NUL: char = '\0';
    let is_plain = |text: &str| !text.contains(NUL);
    let has_nul = alert.explanation.as_ref().is_some_and(|explanation| {
        let mut values = explanation.causes.iter().flat_map(|cause| &cause.values);
        !is_plain(&explanation.summary) || !values.all(|(field, value)| is_plain(field) && is_plain(value))
    });
    if !has_nul {
        return Cow::Borrowed(alert);
    }
    let mut alert = alert.clone();
    let clean = |text: &mut String| *text = text.replace(NUL, "\u{fffd}");
    if let Some(explanation) = &mut alert.explanation {
        clean(&mut explanation.summary);
        for (field, value) in explanation.causes.iter_mut().flat_map(|cause| &mut cause.values) {
            clean(field);
            clean(value);
        }
    }
    Cow::Owned(alert)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn check_key(field: &'static str, value: &str) -> Result<(), Unstorable> {
    if value.len() > MAX_KEY {
        return Err(Unstorable::Long { field, length: value.len() });
    }
    if value.as_bytes().contains(&0) {
        return Err(Unstorable::Nul { field });
    }
    Ok(())
}

/// The first escape in a JSON text that `jsonb` refuses. Detecting it here avoids bisecting a refused batch; values not detected
/// here (a number out of the range of `numeric`) are found by bisection.
fn unstorable_escape(json: &str) -> Option<u16> {
    let bytes = json.as_bytes();
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    // Most texts have no backslash, which is detected quickly.
    while let Some(found) = bytes[at..].iter().position(|&byte| byte == b'\\') {
        at += found;
        match unit(at) {
            None => at += 2,
            Some(code @ (0 | 0xDC00..=0xDFFF)) => return Some(code),
            Some(code @ 0xD800..=0xDBFF) => match unit(at + 6) {
                Some(0xDC00..=0xDFFF) => at += 12,
                _ => return Some(code),
            },
            Some(_) => at += 6,
        }
        if at >= bytes.len() {
            break;
        }
    }
    None
}

fn check_time(field: &'static str, time: EventTime) -> Result<(), Unstorable> {
    if (FIRST_MILLI..=LAST_MILLI).contains(&time.0) {
        Ok(())
    } else {
        Err(Unstorable::Time { field, millis: time.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(r#"{"a":"plain"}"#, None)]
    #[case(r#"{"a":"tab \t quote \" ü \u00fc"}"#, None)]
    #[case(r#"{"a":"\u0000"}"#, Some(0))]
    #[case(r#"{"a":"an escaped backslash, then text \\u0000"}"#, None)]
    #[case(r#"{"a":"a backslash, then NUL \\\u0000"}"#, Some(0))]
    #[case(r#"{"a":"a pair \ud83d\ude00"}"#, None)]
    #[case(r#"{"a":"a high half \ud83d alone"}"#, Some(0xD83D))]
    #[case(r#"{"a":"a low half \ude00 alone"}"#, Some(0xDE00))]
    #[case(r#"{"a":"two high halves \ud83d\ud83d\ude00"}"#, Some(0xD83D))]
    #[case(r#"{"a":"\uD83D"}"#, Some(0xD83D))]
    #[case(r#"{"a":"\\"}"#, None)]
    fn finds_escapes_that_jsonb_refuses(#[case] json: &str, #[case] code: Option<u16>) {
        assert_eq!(unstorable_escape(json), code);
    }
}
