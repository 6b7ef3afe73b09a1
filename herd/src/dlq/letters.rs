//! Records of the dead-letter topic, as they are shown and sent again.

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

/// How long a broker may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which letters.
#[derive(Args, Clone, Debug, Default)]
pub struct Filter {
    /// Only of this kind of error, e.g. missing-field
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
    /// Only refused by this component, e.g. collector
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Only with this text in their bytes
    #[arg(long, value_name = "TEXT")]
    pub contains: Option<String>,
    /// Only of the last while, e.g. 1h
    #[arg(long, value_name = "TIME")]
    pub since: Option<Span>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub limit: usize,
    #[arg(skip)]
    place: Option<Place>,
}

/// Where a letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    partition: Partition,
    offset: Offset,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let place = || {
            let (partition, offset) = written.split_once('/')?;
            Some(Self { partition: Partition(partition.parse().ok()?), offset: Offset(offset.parse().ok()?) })
        };
        place().ok_or_else(|| "write PARTITION/OFFSET, as `herd dlq ls` prints it".into())
    }
}

/// One letter.
#[derive(Clone, Debug, Serialize)]
pub struct Letter {
    /// Where it is.
    #[serde(serialize_with = "in_words", rename = "letter")]
    pub place: Place,
    /// When it was refused.
    #[serde(serialize_with = "rfc3339")]
    pub time: WallTime,
    /// The kind of error.
    pub class: Option<String>,
    /// The error in words.
    pub message: Option<String>,
    /// What refused it.
    pub by: Option<String>,
    /// What it came as.
    pub content_type: Option<String>,
    /// All headers.
    pub headers: BTreeMap<String, String>,
    /// The bytes, as text where they are text.
    #[serde(serialize_with = "as_text")]
    pub bytes: Vec<u8>,
}

fn in_words<S: Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(place)
}
fn rfc3339<S: Serializer>(time: &WallTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.rfc3339())
}
fn as_text<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

impl Filter {
    /// The one letter there.
    #[must_use]
    pub fn at(place: Place) -> Self {
        Self { limit: 1, place: Some(place), ..Self::default() }
    }

    fn takes(&self, letter: &Letter, since: Option<WallTime>) -> bool {
        let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let text = || String::from_utf8_lossy(&letter.bytes).into_owned();
        self.place.is_none_or(|place| place == letter.place)
            && same(&self.class, &letter.class)
            && same(&self.by, &letter.by)
            && since.is_none_or(|since| letter.time >= since)
            && self.contains.as_ref().is_none_or(|wanted| text().contains(wanted))
    }
}

impl Letter {
    fn of(record: &Record<'_>) -> Self {
        let headers: BTreeMap<String, String> = record
            .headers
            .iter()
            .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        let header = |name: &str| headers.get(name).cloned();
        Self {
            place: Place { partition: record.partition, offset: record.offset },
            time: record.timestamp,
            class: header(dead_letter::ERROR_CLASS),
            message: header(dead_letter::ERROR_MESSAGE),
            by: header(dead_letter::CONNECTOR),
            content_type: header(dead_letter::CONTENT_TYPE),
            headers,
            bytes: record.value.unwrap_or_default().to_vec(),
        }
    }

    /// The body that sends it again: as it came, where that was a whole body; an item of a batch goes as a batch of one, so that
    /// an array that was refused as an event is not taken for a batch of them.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let unread = self
            .class
            .as_deref()
            .is_some_and(|class| class.starts_with("invalid-json") || class == "invalid-gzip");
        let kind = self.content_type.as_deref().unwrap_or("application/json");
        let whole = unread
            || kind.starts_with("application/cloudevents+json")
            || self.cloud_attributes().next().is_some();
        if whole {
            return self.bytes.clone();
        }
        [b"[", self.bytes.as_slice(), b"]"].concat()
    }

    /// The attributes of a CloudEvent that came as headers.
    pub fn cloud_attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers
            .iter()
            .filter(|(name, _)| name.starts_with("ce-"))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// On one line.
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
            self.place.to_string(),
            self.time.rfc3339(),
            self.class.clone().unwrap_or_else(unknown),
            self.message.clone().unwrap_or_else(unknown),
        )
    }

    /// With everything.
    #[must_use]
    pub fn whole(&self) -> String {
        let mut text = format!("letter {}, refused at {}\n\n", self.place, self.time.rfc3339());
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&self.bytes));
        text
    }
}

/// Reads the topic to where it ends now; oldest first.
///
/// # Errors
/// If the bus does not answer.
pub fn read<B: Bus>(
    bus: &B,
    topic: &str,
    filter: &Filter,
    since: Option<WallTime>,
) -> Result<Vec<Letter>, BusError> {
    let mut all: Vec<Letter> = Vec::new();
    for partition in 0..bus.partitions(topic)? {
        let mut newest = VecDeque::new();
        bus.scan(topic, Partition(partition), PATIENCE, &mut |record| {
            let letter = Letter::of(record);
            if filter.takes(&letter, since) {
                if newest.len() >= filter.limit.max(1) {
                    newest.pop_front();
                }
                newest.push_back(letter);
            }
        })?;
        all.extend(newest);
    }
    all.sort_by_key(|letter| (letter.time, letter.place.partition, letter.place.offset));
    let surplus = all.len().saturating_sub(filter.limit);
    all.drain(..surplus);
    Ok(all)
}
