//! A topic: its logs, its groups and what they have committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use herd_spec::units::{Offset, Partition, WallTime};

use crate::group::{Group, MemberId};
use crate::{Commit, Headers, Record};

/// A record as it is kept, with its partition and offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// The record's timestamp.
    pub timestamp: WallTime,
    /// When it was written.
    pub written: WallTime,
    /// Who sent it.
    pub producer: Arc<str>,
    /// Its key.
    pub key: Option<Box<[u8]>>,
    /// Its value.
    pub value: Option<Box<[u8]>>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Kept {
    pub(super) fn record(&self) -> Record<'_> {
        Record {
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: Headers::of(&self.headers),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) logs: Vec<Vec<Arc<Kept>>>,
    /// How many of its partitions consumers know of.
    pub(super) known: u32,
    pub(super) groups: BTreeMap<String, Members>,
}

/// A group on this topic.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) group: Group,
    pub(super) commits: BTreeMap<u32, Commit>,
    /// Members by the name they gave, the newest of that name.
    pub(super) names: BTreeMap<String, MemberId>,
    /// Members that were taken for dead and have not heard of it, and until when.
    pub(super) deaf: BTreeMap<MemberId, WallTime>,
}

impl Topic {
    pub(super) fn partitions(&self) -> u32 {
        u32::try_from(self.logs.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn end(&self, partition: Partition) -> Option<Offset> {
        let log = self.logs.get(partition.0 as usize)?;
        Some(Offset(i64::try_from(log.len()).unwrap_or(i64::MAX)))
    }

    pub(super) fn append(&mut self, mut record: Kept, now: WallTime) {
        let Some(log) = self.logs.get_mut(record.partition.0 as usize) else { return };
        record.offset = Offset(i64::try_from(log.len()).unwrap_or(i64::MAX));
        record.written = now;
        log.push(Arc::new(record));
    }
}
