//! What becomes of old records: retention deletes whole chunks from the front, compaction rewrites chunks without the
//! records that a later one of the same key replaces. Readers are not disturbed: they read a view of the store.

use std::collections::HashMap;
use std::time::Duration;

use fjall::{OwnedWriteBatch, Readable as _};
use herd_spec::units::{Partition, WallTime, millis};

use super::chunk::{Chunk, ChunkWriter, Fields};
use super::log::Log;
use super::store::{OpenStore, StoreError, StoredBounds};
use super::topic::Policy;

/// Chunks that one round of retention deletes from a partition; the next round goes on.
const ROUND_CHUNKS: usize = 2_000;
/// A rewritten chunk is closed at this size …
const TARGET_BYTES: usize = 512 << 10;
/// … or when it replaces this much.
const SOURCE_BYTES: usize = 8 << 20;
/// Compaction is not worth its while for less.
const LEAST_DIRTY_BYTES: usize = 1 << 20;

/// Deletes the front of a partition whose records are all older than `age`. Returns how many chunks went.
pub(super) fn retain(
    store: &OpenStore,
    log: &Log,
    age: Duration,
    now: WallTime,
) -> Result<usize, StoreError> {
    let upkeep = log.upkeep.lock();
    let oldest = now.minus(age).0;
    let (mut start, end) = log.bounds();
    let mut batch = store.batch();
    let mut gone = 0;
    for entry in store.view().range(&store.chunks, range(log, end)).take(ROUND_CHUNKS) {
        let chunk = OpenStore::chunk(entry)?;
        if chunk.newest() >= oldest {
            break;
        }
        store.remove_chunk(&mut batch, log.topic, log.partition, chunk.base);
        start = chunk.end();
        gone += 1;
    }
    if gone > 0 {
        let bounds = StoredBounds {
            start,
            end,
            clean_to: upkeep.clean_to.max(start),
            clean_bytes: upkeep.clean_bytes,
        };
        store.insert_bounds(&mut batch, log.topic, log.partition, bounds)?;
        // Readers first: whoever has begun keeps its view.
        log.cut(start);
        OpenStore::apply(batch)?;
    }
    Ok(gone)
}

/// Whether so much was written since the last time that compaction is worth its while: as much as it left then.
pub(super) fn is_dirty(log: &Log) -> bool {
    log.dirty_bytes() >= log.upkeep.lock().clean_bytes.max(LEAST_DIRTY_BYTES)
}

/// Keeps the last record of each key (records without a key stay), and no tombstone older than the policy says.
pub(super) fn compact(store: &OpenStore, log: &Log, policy: Policy, now: WallTime) -> Result<(), StoreError> {
    let mut upkeep = log.upkeep.lock();
    let dirty = log.dirty_bytes();
    let (start, end) = log.bounds();
    let view = store.view();
    let last = last_of_each_key(&view, store, log, end)?;
    let oldest_tombstone = now.0.saturating_sub(millis(policy.tombstones));

    let mut rewrite =
        Rewrite { store, log, start, end, sources: Vec::new(), source_bytes: 0, out: None, dropped: false };
    let (mut room, mut kept_bytes) = (Vec::new(), 0);
    for entry in view.range(&store.chunks, range(log, end)) {
        let chunk = OpenStore::chunk(entry)?;
        if rewrite.out.as_ref().is_some_and(|(base, _)| chunk.end() - base >= i64::from(u32::MAX)) {
            kept_bytes += rewrite.finish()?;
        }
        rewrite.sources.push(chunk.base);
        rewrite.source_bytes += chunk.size();
        let mut place = chunk.begin();
        while chunk.more(place) {
            chunk.read(&mut place, Partition(log.partition), &mut room, &mut |record| {
                let newest = record.key.is_none_or(|key| last.get(key) == Some(&record.offset.0));
                let forgotten = record.value.is_none() && record.timestamp.0 < oldest_tombstone;
                if newest && !forgotten {
                    let (base, out) =
                        rewrite.out.get_or_insert_with(|| (record.offset.0, ChunkWriter::new()));
                    let fields = Fields { timestamp: record.timestamp, key: record.key, value: record.value };
                    // Less than u32::MAX: looked at above.
                    out.push((record.offset.0 - *base) as u32, fields, record.headers.iter());
                } else {
                    rewrite.dropped = true;
                }
            });
        }
        let full = rewrite.out.as_ref().is_some_and(|(_, out)| out.size() >= TARGET_BYTES);
        if full || rewrite.source_bytes >= SOURCE_BYTES {
            kept_bytes += rewrite.finish()?;
        }
    }
    kept_bytes += rewrite.finish()?;

    let mut batch = store.batch();
    let bounds = StoredBounds { start, end, clean_to: end, clean_bytes: kept_bytes };
    store.insert_bounds(&mut batch, log.topic, log.partition, bounds)?;
    OpenStore::apply(batch)?;
    log.rewritten(end);
    upkeep.clean_to = end;
    upkeep.clean_bytes = kept_bytes;
    log.count_dirty(0, dirty);
    Ok(())
}

fn last_of_each_key(
    view: &fjall::Snapshot,
    store: &OpenStore,
    log: &Log,
    end: i64,
) -> Result<HashMap<Vec<u8>, i64>, StoreError> {
    let mut last: HashMap<Vec<u8>, i64> = HashMap::new();
    let mut room = Vec::new();
    for entry in view.range(&store.chunks, range(log, end)) {
        let chunk: Chunk = OpenStore::chunk(entry)?;
        let mut place = chunk.begin();
        while chunk.more(place) {
            chunk.read(&mut place, Partition(log.partition), &mut room, &mut |record| {
                let Some(key) = record.key else { return };
                match last.get_mut(key) {
                    Some(offset) => *offset = record.offset.0,
                    None => drop(last.insert(key.to_vec(), record.offset.0)),
                }
            });
        }
    }
    Ok(last)
}

fn range(log: &Log, end: i64) -> std::ops::Range<[u8; 16]> {
    OpenStore::chunk_key(log.topic, log.partition, 0)..OpenStore::chunk_key(log.topic, log.partition, end)
}

/// Some chunks in a row that become one.
struct Rewrite<'a> {
    store: &'a OpenStore,
    log: &'a Log,
    start: i64,
    end: i64,
    sources: Vec<i64>,
    source_bytes: usize,
    out: Option<(i64, ChunkWriter)>,
    dropped: bool,
}

impl Rewrite<'_> {
    /// Replaces the chunks at once. Returns the size of what is left of them.
    fn finish(&mut self) -> Result<usize, StoreError> {
        let sources = std::mem::take(&mut self.sources);
        let source_bytes = std::mem::take(&mut self.source_bytes);
        let out = self.out.take();
        if sources.is_empty() || (!std::mem::take(&mut self.dropped) && sources.len() == 1) {
            return Ok(source_bytes);
        }
        let (store, log) = (self.store, self.log);
        let mut batch: OwnedWriteBatch = store.batch();
        let base = out.as_ref().map(|(base, _)| *base);
        // A batch must not write the same key twice.
        for source in sources.into_iter().filter(|source| Some(*source) != base) {
            store.remove_chunk(&mut batch, log.topic, log.partition, source);
        }
        let mut size = 0;
        if let Some((base, out)) = out {
            size = out.size();
            store.insert_chunk(&mut batch, log.topic, log.partition, base, out.finish().into());
        }
        // The last chunk may go with what it told of the end.
        let bounds = StoredBounds { start: self.start, end: self.end, clean_to: self.start, clean_bytes: 0 };
        store.insert_bounds(&mut batch, log.topic, log.partition, bounds)?;
        OpenStore::apply(batch)?;
        Ok(size)
    }
}
