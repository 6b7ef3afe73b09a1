//! What is on disk: one fjall database with two keyspaces.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `chunks` | topic u32, partition u32, base offset u64 | a [`Chunk`] |
//! | `meta` | `topic/NAME` | [`StoredTopic`] as JSON |
//! | `meta` | `bounds/TOPIC/PARTITION` | [`StoredBounds`] as JSON, once chunks were removed |
//! | `meta` | `offset/GROUP\0TOPIC\0PARTITION` | [`StoredCommit`] as JSON |
//!
//! Numbers in keys are big endian, so that chunks are in order. A write reaches the operating system before it is
//! acknowledged, and so outlives this process; [`Durability::Disk`] also waits for the disk.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;

use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch, PersistMode, Slice,
};
use serde::{Deserialize, Serialize};

use super::chunk::{BadChunk, Chunk};
use crate::BusError;

/// When a record counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the operating system has it: it outlives this process, however that ends. The disk follows within a second;
    /// what came in that second can be lost when the machine loses power.
    #[default]
    Process,
    /// When the disk has it (`fdatasync`): it outlives a power failure. Costs the disk's latency on each group of writes.
    Disk,
}

/// The store is opened anew only when so much can be written: what is in memory then goes to the disk at once.
pub(super) const LEAST_ROOM: usize = 16 << 20;

/// The database while it is open: see [`super::reopen::Store`] for who opens it.
pub(super) struct OpenStore {
    db: Database,
    pub(super) chunks: Keyspace,
    meta: Keyspace,
    mode: PersistMode,
}

/// A topic, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredTopic {
    pub(super) id: u32,
    pub(super) partitions: u32,
    pub(super) config: BTreeMap<String, String>,
}

/// A group's position, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredCommit {
    pub(super) next: i64,
    pub(super) metadata: String,
}

/// What chunks alone do not tell of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredBounds {
    /// The oldest kept offset.
    pub(super) start: i64,
    /// The next offset, at least: chunks may go further.
    pub(super) end: i64,
    /// Where the part begins that was written since the last compaction.
    pub(super) clean_to: i64,
    /// Size of the compacted part.
    pub(super) clean_bytes: usize,
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// Nothing is written until the store is opened anew, which it does by itself.
    #[error("writing failed: {}", words(.0))]
    Write(fjall::Error),
    /// It could not be opened anew yet.
    #[error("the store is being opened anew after a failed write")]
    Closed,
    /// So little room is left that opening the store anew would fail again.
    #[error(
        "fewer than {} MiB can be written to {folder}: {source}; free that much space, a restart is not needed",
        LEAST_ROOM >> 20
    )]
    Room { folder: String, source: std::io::Error },
    #[error("the store failed: {}", words(.0))]
    Fjall(#[from] fjall::Error),
    #[error(transparent)]
    Chunk(#[from] BadChunk),
    #[error("an entry of the store is damaged: {0}")]
    Entry(#[from] serde_json::Error),
}

/// What the operating system said, if it is to blame; else what the store says.
fn words(error: &fjall::Error) -> String {
    if matches!(error, fjall::Error::Poisoned) {
        return "a write before this one failed".into();
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return io.to_string();
        }
        cause = inner.source();
    }
    error.to_string()
}

impl StoreError {
    /// As callers of the bus see it. A write that failed may succeed later: the store opens itself anew.
    pub(super) fn doing(self, doing: impl Into<String>) -> BusError {
        let (doing, why) = (doing.into(), self.to_string());
        match self {
            Self::Write(_) | Self::Closed | Self::Room { .. } | Self::Fjall(fjall::Error::Poisoned) => {
                BusError::Unavailable { doing, why }
            }
            Self::Fjall(_) | Self::Chunk(_) | Self::Entry(_) => BusError::Refused {
                doing,
                why: format!("{why}; check the disk's space and health, then start again"),
            },
        }
    }
}

impl OpenStore {
    pub(super) fn open(dir: &Path, durability: Durability) -> Result<Self, BusError> {
        let doing = || format!("opening the embedded broker in {}", dir.display());
        std::fs::create_dir_all(dir).map_err(|error| BusError::Refused {
            doing: doing(),
            why: format!("{error}; choose another folder"),
        })?;
        let db = Database::builder(dir)
            .manual_journal_persist(true)
            .max_journaling_size(128 << 20)
            .cache_size(32 << 20)
            .worker_threads(2)
            .open()
            .map_err(|error| match error {
                fjall::Error::Locked => BusError::Refused {
                    doing: doing(),
                    why: "another process has it open; stop that one, or choose another folder".into(),
                },
                error => StoreError::from(error).doing(doing()),
            })?;
        let open = |name: &str, options: fn() -> KeyspaceCreateOptions| {
            db.keyspace(name, options).map_err(|error| StoreError::from(error).doing(doing()))
        };
        // Chunks are written once, read in order and deleted whole: kept apart from the keys, they are not merged again and
        // again.
        let chunks = open("chunks", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(16 << 20)
                .with_kv_separation(Some(KvSeparationOptions::default()))
        })?;
        let meta = open("meta", || KeyspaceCreateOptions::default().max_memtable_size(4 << 20))?;
        let mode = match durability {
            Durability::Process => PersistMode::Buffer,
            Durability::Disk => PersistMode::SyncData,
        };
        Ok(Self { db, chunks, meta, mode })
    }

    /// A set of writes that is applied whole or not at all, and durable when it is applied.
    pub(super) fn batch(&self) -> OwnedWriteBatch {
        self.db.batch().durability(Some(self.mode))
    }

    /// Writes a batch. After an error nothing more can be written until the store is opened anew; the batch itself may
    /// still reach the disk, whole.
    pub(super) fn apply(batch: OwnedWriteBatch) -> Result<(), StoreError> {
        batch.commit().map_err(StoreError::Write)
    }

    /// The store as it is now, whatever is written meanwhile.
    pub(super) fn view(&self) -> fjall::Snapshot {
        self.db.snapshot()
    }

    /// Waits until the disk has everything.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.db.persist(PersistMode::SyncData).map_err(StoreError::Write)
    }

    pub(super) fn chunk_key(topic: u32, partition: u32, base: i64) -> [u8; 16] {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&topic.to_be_bytes());
        key[4..8].copy_from_slice(&partition.to_be_bytes());
        key[8..].copy_from_slice(&base.max(0).to_be_bytes());
        key
    }

    pub(super) fn chunk_base(key: &[u8]) -> i64 {
        let mut base = [0; 8];
        if let Some(bytes) = key.get(8..16) {
            base.copy_from_slice(bytes);
        }
        i64::from_be_bytes(base)
    }

    pub(super) fn chunk(entry: fjall::Guard) -> Result<Chunk, StoreError> {
        let (key, value) = entry.into_inner()?;
        Ok(Chunk::new(Self::chunk_base(&key), value)?)
    }

    pub(super) fn insert_chunk(
        &self,
        batch: &mut OwnedWriteBatch,
        topic: u32,
        partition: u32,
        base: i64,
        chunk: Slice,
    ) {
        batch.insert(&self.chunks, Self::chunk_key(topic, partition, base), chunk);
    }

    pub(super) fn remove_chunk(&self, batch: &mut OwnedWriteBatch, topic: u32, partition: u32, base: i64) {
        batch.remove(&self.chunks, Self::chunk_key(topic, partition, base));
    }

    /// All topics by name.
    pub(super) fn topics(&self) -> Result<Vec<(String, StoredTopic)>, StoreError> {
        let mut topics = Vec::new();
        for entry in self.meta.prefix("topic/") {
            let (key, value) = entry.into_inner()?;
            let name = String::from_utf8_lossy(&key[b"topic/".len()..]).into_owned();
            topics.push((name, serde_json::from_slice(&value)?));
        }
        Ok(topics)
    }

    /// Forgets a topic that nobody was told was made.
    pub(super) fn remove_topic(&self, batch: &mut OwnedWriteBatch, name: &str) {
        batch.remove(&self.meta, format!("topic/{name}"));
    }

    /// Where the chunks of a partition begin that lie at or after `from`.
    pub(super) fn bases_from(&self, topic: u32, partition: u32, from: i64) -> Result<Vec<i64>, StoreError> {
        let range = Self::chunk_key(topic, partition, from)..=Self::chunk_key(topic, partition, i64::MAX);
        self.chunks.range(range).map(|entry| Ok(Self::chunk_base(&entry.key()?))).collect()
    }

    pub(super) fn insert_topic(
        &self,
        batch: &mut OwnedWriteBatch,
        name: &str,
        topic: &StoredTopic,
    ) -> Result<(), StoreError> {
        batch.insert(&self.meta, format!("topic/{name}"), serde_json::to_vec(topic)?);
        Ok(())
    }

    /// Where a partition begins and ends.
    pub(super) fn bounds(&self, topic: u32, partition: u32) -> Result<StoredBounds, StoreError> {
        let mut bounds: StoredBounds = match self.meta.get(bounds_key(topic, partition))? {
            Some(value) => serde_json::from_slice(&value)?,
            None => StoredBounds::default(),
        };
        let all = Self::chunk_key(topic, partition, 0)..=Self::chunk_key(topic, partition, i64::MAX);
        if let Some(last) = self.chunks.range(all).next_back() {
            bounds.end = bounds.end.max(Self::chunk(last)?.end());
        }
        Ok(bounds)
    }

    /// The size of a partition's chunks from `from` on.
    pub(super) fn size_from(&self, topic: u32, partition: u32, from: i64) -> Result<usize, StoreError> {
        let range = Self::chunk_key(topic, partition, from)..=Self::chunk_key(topic, partition, i64::MAX);
        let mut size = 0;
        for entry in self.chunks.range(range) {
            size += entry.size()? as usize;
        }
        Ok(size)
    }

    /// Remembers where a partition begins and ends: needed in every batch that removes chunks.
    pub(super) fn insert_bounds(
        &self,
        batch: &mut OwnedWriteBatch,
        topic: u32,
        partition: u32,
        bounds: StoredBounds,
    ) -> Result<(), StoreError> {
        batch.insert(&self.meta, bounds_key(topic, partition), serde_json::to_vec(&bounds)?);
        Ok(())
    }

    pub(super) fn commit(
        &self,
        group: &str,
        topic: &str,
        partition: u32,
    ) -> Result<Option<StoredCommit>, StoreError> {
        let value = self.meta.get(offset_key(group, topic, partition))?;
        Ok(value.map(|value| serde_json::from_slice(&value)).transpose()?)
    }

    pub(super) fn insert_commit(
        &self,
        batch: &mut OwnedWriteBatch,
        group: &str,
        topic: &str,
        partition: u32,
        commit: &StoredCommit,
    ) -> Result<(), StoreError> {
        batch.insert(&self.meta, offset_key(group, topic, partition), serde_json::to_vec(commit)?);
        Ok(())
    }
}

fn bounds_key(topic: u32, partition: u32) -> String {
    format!("bounds/{topic}/{partition}")
}

// Names of groups and topics hold no NUL.
fn offset_key(group: &str, topic: &str, partition: u32) -> String {
    format!("offset/{group}\0{topic}\0{partition}")
}
