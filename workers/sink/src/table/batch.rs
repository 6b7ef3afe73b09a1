//! Records on their way into one transaction: read once, encoded once, and kept as they came until they are stored, in case
//! one of them is refused.

use std::ops::Range;

use herd_bus::Record;
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::{Alert, EventRef, Window};
use herd_store::{Rows, Table};

use crate::dead_letter::{Refusal, RefusedRecord};

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The row of this number.
    Row(usize),
    /// Nothing: a running window, a tombstone. The position moves past it.
    Skip,
    /// Refused.
    Refused {
        why: Refusal,
        /// Whether the dead-letter topic has it.
        sent: bool,
    },
}

#[derive(Debug)]
struct Entry {
    partition: Partition,
    offset: Offset,
    timestamp: WallTime,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    fate: Fate,
}

/// Records of one topic, in the order they came.
#[derive(Debug)]
pub(super) struct Batch {
    raw: Vec<u8>,
    entries: Vec<Entry>,
    rows: Rows,
    /// Entries already stored, from the front.
    done: usize,
}

impl Batch {
    /// An empty batch whose rows go where `rows` does.
    pub(super) fn new(rows: Rows) -> Self {
        Self { raw: Vec::new(), entries: Vec::new(), rows, done: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries that are not stored yet.
    pub(super) fn open(&self) -> Range<usize> {
        self.done..self.entries.len()
    }

    /// Bytes of the records.
    pub(super) fn size(&self) -> usize {
        self.raw.len()
    }

    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(super) fn clear(&mut self) {
        self.raw.clear();
        self.entries.clear();
        self.rows.clear();
        self.done = 0;
    }

    /// All entries before this one are stored.
    pub(super) fn stored(&mut self, end: usize) {
        self.done = end;
    }

    pub(super) fn push(&mut self, record: &Record<'_>) {
        let fate = encode(&mut self.rows, record);
        let mut keep = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| {
                let start = self.raw.len();
                self.raw.extend_from_slice(bytes);
                start..self.raw.len()
            })
        };
        let (key, value) = (keep(record.key), keep(record.value));
        self.entries.push(Entry {
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key,
            value,
            fate,
        });
    }

    /// The rows of a range of entries.
    pub(super) fn rows_of(&self, range: &Range<usize>) -> Range<usize> {
        let mut rows = self.entries[range.clone()].iter().filter_map(|entry| match entry.fate {
            Fate::Row(row) => Some(row),
            _ => None,
        });
        // Rows are numbered in the order of entries.
        rows.next().map_or(0..0, |first| first..rows.next_back().unwrap_or(first) + 1)
    }

    /// Where a range of entries brings each of its partitions.
    pub(super) fn reach(&self, range: &Range<usize>) -> Vec<(Partition, Offset)> {
        let mut reach: Vec<(Partition, Offset)> = Vec::new();
        for entry in &self.entries[range.clone()] {
            let next = entry.offset.next();
            // A handful of partitions; and neighbours are mostly of one.
            match reach.iter_mut().rev().find(|(partition, _)| *partition == entry.partition) {
                Some((_, known)) => *known = next,
                None => reach.push((entry.partition, next)),
            }
        }
        reach
    }

    /// The refused entries of a range that the dead-letter topic does not have yet.
    pub(super) fn dead_letters(&self, range: &Range<usize>) -> impl Iterator<Item = RefusedRecord<'_>> {
        self.entries[range.clone()].iter().filter_map(|entry| match &entry.fate {
            Fate::Refused { why, sent: false } => Some(RefusedRecord {
                partition: entry.partition,
                offset: entry.offset,
                timestamp: entry.timestamp,
                key: entry.key.clone().map(|range| &self.raw[range]),
                value: entry.value.clone().map(|range| &self.raw[range]),
                refusal: why,
            }),
            _ => None,
        })
    }

    /// The dead-letter topic has the refused entries of a range.
    pub(super) fn sent(&mut self, range: &Range<usize>) {
        for entry in &mut self.entries[range.clone()] {
            if let Fate::Refused { sent, .. } = &mut entry.fate {
                *sent = true;
            }
        }
    }

    /// The database refuses the one row of a range.
    pub(super) fn refuse(&mut self, range: &Range<usize>, why: &Refusal) {
        for entry in &mut self.entries[range.clone()] {
            if matches!(entry.fate, Fate::Row(_)) {
                entry.fate = Fate::Refused { why: why.clone(), sent: false };
            }
        }
    }

    /// Drops what is stored, and the records of partitions that went to another member.
    pub(super) fn forget(&mut self, gone: &[Partition]) {
        let raw = std::mem::take(&mut self.raw);
        let entries = std::mem::take(&mut self.entries);
        let done = std::mem::take(&mut self.done);
        self.rows.clear();
        for entry in entries.into_iter().skip(done).filter(|entry| !gone.contains(&entry.partition)) {
            self.push(&Record {
                partition: entry.partition,
                offset: entry.offset,
                timestamp: entry.timestamp,
                key: entry.key.map(|range| &raw[range]),
                value: entry.value.map(|range| &raw[range]),
                headers: herd_bus::Headers::NONE,
            });
            // What was refused when it was read is refused again; the dead-letter topic need not have it twice.
            if let (
                Fate::Refused { sent: before, .. },
                Some(Entry { fate: Fate::Refused { sent, .. }, .. }),
            ) = (&entry.fate, self.entries.last_mut())
            {
                *sent = *before;
            }
        }
    }
}

fn encode(rows: &mut Rows, record: &Record<'_>) -> Fate {
    let Some(value) = record.value else { return Fate::Skip };
    let row = rows.len();
    let pushed = match rows.table() {
        Table::UserEvents => match EventRef::parse(value) {
            Ok(event) => rows.push_event(record.partition, record.offset, &event),
            Err(error) => return refused(Refusal::malformed(&error)),
        },
        Table::Windows => match Window::parse(value) {
            Ok(window) if !window.is_final => return Fate::Skip,
            Ok(window) => rows.push_window(&window),
            Err(error) => return refused(Refusal::malformed(&error)),
        },
        Table::Alerts => match Alert::parse(value) {
            Ok(alert) => rows.push_alert(&alert, record.timestamp),
            Err(error) => return refused(Refusal::malformed(&error)),
        },
    };
    match pushed {
        Ok(()) => Fate::Row(row),
        Err(error) => refused(Refusal::put("unstorable", &error)),
    }
}

fn refused(why: Refusal) -> Fate {
    Fate::Refused { why, sent: false }
}
