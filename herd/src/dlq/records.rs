//! Records of the dead-letter topic: reading, filtering, rendering and resending.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use herd_bus::{Bus, BusError, Record};
use herd_spec::pipeline::Span;
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::dead_letter;
use serde::{Serialize, Serializer};

/// Timeout of a broker that does not respond.
const SCAN_TIMEOUT: Duration = Duration::from_secs(10);

/// Filter of dead-letter records.
#[derive(Args, Clone, Debug, Default)]
pub struct Filter {
    /// Only records with this error class, e.g. missing-field
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
    /// Only records written by this component, e.g. collector
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Only records whose bytes contain this text
    #[arg(long, value_name = "TEXT")]
    pub contains: Option<String>,
    /// Only records newer than this, e.g. 1h
    #[arg(long, value_name = "DURATION")]
    pub since: Option<Span>,
    /// Maximum number of records; the newest are kept
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub limit: usize,
    #[arg(skip)]
    position: Option<RecordPosition>,
}

/// Position of a record in the dead-letter topic: partition and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPosition {
    partition: Partition,
    offset: Offset,
}

impl fmt::Display for RecordPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

impl FromStr for RecordPosition {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let parse = || {
            let (partition, offset) = written.split_once('/')?;
            Some(Self { partition: Partition(partition.parse().ok()?), offset: Offset(offset.parse().ok()?) })
        };
        parse().ok_or_else(|| "write PARTITION/OFFSET, as printed by `herd dlq ls`".into())
    }
}

/// A record of the dead-letter topic.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetter {
    /// Its position.
    #[serde(serialize_with = "as_string", rename = "letter")]
    pub position: RecordPosition,
    /// Time of the refusal.
    #[serde(serialize_with = "rfc3339")]
    pub time: WallTime,
    /// Error class.
    pub class: Option<String>,
    /// Error message.
    pub message: Option<String>,
    /// Component that refused it.
    pub by: Option<String>,
    /// Content type of the request.
    pub content_type: Option<String>,
    /// All headers.
    pub headers: BTreeMap<String, String>,
    /// The refused bytes.
    #[serde(serialize_with = "as_text")]
    pub bytes: Vec<u8>,
}

fn as_string<S: Serializer>(position: &RecordPosition, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(position)
}
fn rfc3339<S: Serializer>(time: &WallTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.rfc3339())
}
fn as_text<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

impl Filter {
    /// The filter for the record at this position.
    #[must_use]
    pub fn at(position: RecordPosition) -> Self {
        Self { limit: 1, position: Some(position), ..Self::default() }
    }

    fn takes(&self, record: &DeadLetter, since: Option<WallTime>) -> bool {
        let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let text = || String::from_utf8_lossy(&record.bytes).into_owned();
        self.position.is_none_or(|position| position == record.position)
            && same(&self.class, &record.class)
            && same(&self.by, &record.by)
            && since.is_none_or(|since| record.time >= since)
            && self.contains.as_ref().is_none_or(|wanted| text().contains(wanted))
    }
}

impl DeadLetter {
    fn of(record: &Record<'_>) -> Self {
        let headers: BTreeMap<String, String> = record
            .headers
            .iter()
            .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        let header = |name: &str| headers.get(name).cloned();
        Self {
            position: RecordPosition { partition: record.partition, offset: record.offset },
            time: record.timestamp,
            class: header(dead_letter::ERROR_CLASS),
            message: header(dead_letter::ERROR_MESSAGE),
            by: header(dead_letter::CONNECTOR),
            content_type: header(dead_letter::CONTENT_TYPE),
            headers,
            bytes: record.value.unwrap_or_default().to_vec(),
        }
    }

    /// The request body that resends the record. A complete body is sent unchanged. An item of a batch is sent as a batch of one, so
    /// that an array that was refused as an event is not parsed as a batch.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let unread = self.class.as_deref().is_some_and(|class| dead_letter::UNREADABLE.contains(&class));
        if let Some(path) = self.segment_path().filter(|_| !unread) {
            return if path == "/v1/batch" { self.segment_batch() } else { self.bytes.clone() };
        }
        let kind = self.content_type.as_deref().unwrap_or("application/json");
        let whole = unread
            || kind.starts_with("application/cloudevents+json")
            || self.cloud_attributes().next().is_some();
        if whole {
            return self.bytes.clone();
        }
        [b"[", self.bytes.as_slice(), b"]"].concat()
    }

    /// The path of Segment's API, if the record came from there.
    #[must_use]
    pub fn segment_path(&self) -> Option<&str> {
        self.headers.get(dead_letter::TOPIC).map(String::as_str).filter(|path| path.starts_with("/v1/"))
    }

    /// A batch of this message, sent when its batch was, so that its time is corrected as before.
    fn segment_batch(&self) -> Vec<u8> {
        let sent_at =
            self.headers.get(dead_letter::SENT_AT).map(|time| serde_json::Value::from(time.as_str()));
        let sent_at = sent_at.map(|time| format!(",\"sentAt\":{time}")).unwrap_or_default();
        [b"{\"batch\":[", self.bytes.as_slice(), b"]", sent_at.as_bytes(), b"}"].concat()
    }

    /// The attributes of a CloudEvent in binary mode, which were sent as headers.
    pub fn cloud_attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers
            .iter()
            .filter(|(name, _)| name.starts_with("ce-"))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Rendered in two lines, for lists.
    #[must_use]
    pub fn line(&self) -> String {
        let unknown = || "?".to_owned();
        let text: String = String::from_utf8_lossy(&self.bytes)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(80)
            .collect();
        format!(
            "{:<8} {}  {}  {}\n         {text}",
            self.position.to_string(),
            self.time.rfc3339(),
            self.class.clone().unwrap_or_else(unknown),
            self.message.clone().unwrap_or_else(unknown),
        )
    }

    /// Rendered with all headers and bytes.
    #[must_use]
    pub fn whole(&self) -> String {
        let mut text = format!("record {}, refused at {}\n\n", self.position, self.time.rfc3339());
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&self.bytes));
        text
    }
}

/// Reads the topic up to its current end, sorted by time.
///
/// # Errors
/// If the bus does not respond.
pub fn read<B: Bus>(
    bus: &B,
    topic: &str,
    filter: &Filter,
    since: Option<WallTime>,
) -> Result<Vec<DeadLetter>, BusError> {
    let mut all: Vec<DeadLetter> = Vec::new();
    for partition in 0..bus.partitions(topic)? {
        let mut newest = VecDeque::new();
        bus.scan(topic, Partition(partition), SCAN_TIMEOUT, &mut |record| {
            let record = DeadLetter::of(record);
            if filter.takes(&record, since) {
                if newest.len() >= filter.limit.max(1) {
                    newest.pop_front();
                }
                newest.push_back(record);
            }
        })?;
        all.extend(newest);
    }
    all.sort_by_key(|record| (record.time, record.position.partition, record.position.offset));
    let surplus = all.len().saturating_sub(filter.limit);
    all.drain(..surplus);
    Ok(all)
}
