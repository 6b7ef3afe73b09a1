//! One partition: where it begins and ends, what waits to be written, and its newest chunks in memory.

use std::collections::VecDeque;

use fjall::Readable as _;
use herd_spec::units::Partition;
use parking_lot::Mutex;

use super::chunk::{Chunk, ChunkWriter, Fields};
use super::reopen::Store;
use super::store::{OpenStore, StoreError, StoredBounds};
use crate::Ack;

/// Records of a partition are written in chunks of at most this many bytes (and one record more).
const CHUNK_BYTES: usize = 512 << 10;
/// … and at most this many records, so that finding a place within one is quick.
const CHUNK_RECORDS: u32 = 8192;
/// The newest chunks of a partition that stay in memory.
const TAIL_BYTES: usize = 4 << 20;

/// One partition of a topic.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) topic: u32,
    pub(super) partition: u32,
    bounds: Mutex<Bounds>,
    waiting: Mutex<Vec<Waiting>>,
    /// Held while chunks are rewritten or deleted.
    pub(super) upkeep: Mutex<Upkeep>,
}

#[derive(Debug)]
struct Bounds {
    start: i64,
    end: i64,
    /// The newest chunks, without a gap up to `end`.
    tail: VecDeque<Chunk>,
    tail_bytes: usize,
    /// What was written since the last compaction.
    dirty_bytes: usize,
}

/// What compaction needs to know of a partition.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Where the part begins that was written since the last compaction.
    pub(super) clean_to: i64,
    /// Size of the compacted part.
    pub(super) clean_bytes: usize,
}

/// Records that wait to be written, and who is told.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) chunk: ChunkWriter,
    pub(super) acks: Vec<Ack>,
}

impl Bounds {
    /// Drops what of the tail lies before `end`.
    fn forget(&mut self, end: i64) {
        while self.tail.front().is_some_and(|chunk| chunk.end() <= end) {
            if let Some(old) = self.tail.pop_front() {
                self.tail_bytes -= old.size();
            }
        }
    }
}

impl Log {
    pub(super) fn new(topic: u32, partition: u32, bounds: StoredBounds) -> Self {
        let StoredBounds { start, end, clean_to, clean_bytes } = bounds;
        Self {
            topic,
            partition,
            bounds: Mutex::new(Bounds { start, end, tail: VecDeque::new(), tail_bytes: 0, dirty_bytes: 0 }),
            waiting: Mutex::default(),
            upkeep: Mutex::new(Upkeep { clean_to, clean_bytes }),
        }
    }

    /// The oldest kept offset and the next to be written.
    pub(super) fn bounds(&self) -> (i64, i64) {
        let bounds = self.bounds.lock();
        (bounds.start, bounds.end)
    }

    /// Adds a record to what waits; calls `first` if nothing did, before anybody else can add or take any.
    pub(super) fn enqueue(
        &self,
        fields: Fields<'_>,
        headers: &[(&str, &[u8])],
        ack: Ack,
        first: impl FnOnce(),
    ) {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            first();
        }
        let full = |w: &Waiting| w.chunk.size() >= CHUNK_BYTES || w.chunk.records() >= CHUNK_RECORDS;
        if waiting.last().is_none_or(full) {
            waiting.push(Waiting { chunk: ChunkWriter::new(), acks: Vec::new() });
        }
        if let Some(last) = waiting.last_mut() {
            last.chunk.push(last.chunk.records(), fields, headers.iter().copied());
            last.acks.push(ack);
        }
    }

    pub(super) fn take_waiting(&self) -> Vec<Waiting> {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// Makes written chunks visible to readers. They follow the end in order.
    pub(super) fn publish(&self, chunks: Vec<Chunk>) {
        let mut bounds = self.bounds.lock();
        for chunk in chunks {
            bounds.end = chunk.end();
            bounds.tail_bytes += chunk.size();
            bounds.dirty_bytes += chunk.size();
            bounds.tail.push_back(chunk);
        }
        while bounds.tail_bytes > TAIL_BYTES && bounds.tail.len() > 1 {
            if let Some(old) = bounds.tail.pop_front() {
                bounds.tail_bytes -= old.size();
            }
        }
    }

    /// How much was written since it was last compacted (or since the bus was opened).
    pub(super) fn dirty_bytes(&self) -> usize {
        self.bounds.lock().dirty_bytes
    }

    /// Counts `bytes` less (or more) as written since the last compaction.
    pub(super) fn count_dirty(&self, add: usize, subtract: usize) {
        let mut bounds = self.bounds.lock();
        bounds.dirty_bytes = (bounds.dirty_bytes + add).saturating_sub(subtract);
    }

    /// Forgets what lies before `start`.
    pub(super) fn cut(&self, start: i64) {
        let mut bounds = self.bounds.lock();
        bounds.start = bounds.start.max(start);
        bounds.forget(start);
    }

    /// From now on readers get what lies before `end` from the store, where it was rewritten.
    pub(super) fn rewritten(&self, end: i64) {
        self.bounds.lock().forget(end);
    }

    /// Chunks with the records from `from` on, in order, about `bytes` of them; the first may begin before `from`.
    pub(super) fn read(&self, store: &Store, from: i64, bytes: usize) -> Result<VecDeque<Chunk>, StoreError> {
        let mut chunks = VecDeque::new();
        let mut size = 0;
        let end = {
            let bounds = self.bounds.lock();
            if from >= bounds.end {
                return Ok(chunks);
            }
            if bounds.tail.front().is_some_and(|chunk| chunk.base <= from) {
                let first = bounds.tail.partition_point(|chunk| chunk.end() <= from);
                for chunk in bounds.tail.range(first..) {
                    size += chunk.size();
                    chunks.push_back(chunk.clone());
                    if size >= bytes {
                        break;
                    }
                }
                return Ok(chunks);
            }
            bounds.end
        };
        let store = store.get()?;
        // One view of the store for both steps: compaction may rewrite chunks meanwhile.
        let view = store.view();
        let key = |offset| OpenStore::chunk_key(self.topic, self.partition, offset);
        let first = match view.range(&store.chunks, key(0)..=key(from)).next_back() {
            Some(found) => OpenStore::chunk_base(&found.key()?),
            None => from,
        };
        for entry in view.range(&store.chunks, key(first)..key(end)) {
            let chunk = OpenStore::chunk(entry)?;
            if chunk.end() <= from {
                continue;
            }
            size += chunk.size();
            chunks.push_back(chunk);
            if size >= bytes {
                break;
            }
        }
        Ok(chunks)
    }

    pub(super) fn id(&self) -> Partition {
        Partition(self.partition)
    }
}
