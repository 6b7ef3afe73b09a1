//! How records lie on disk and in memory: in chunks, one store entry for all records of a partition that were written
//! together. A chunk is read in place; handing out its records neither copies nor allocates (headers, which are rare, do).
//!
//! ```text
//! chunk  = version u8, records u32, last u32 (its offset − base), newest i64 (highest timestamp), record*
//! record = offset − base u32, timestamp i64, key length i32, value length i32, headers u16, header*, key, value
//! header = name length u16, value length u32, name, value            (little endian; length −1 = none)
//! ```

use herd_spec::units::{Offset, Partition, WallTime};

use crate::{Headers, Record};

const VERSION: u8 = 1;
const HEAD: usize = 17;

/// Records that are being gathered into a chunk.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    bytes: Vec<u8>,
    records: u32,
    last: u32,
    newest: i64,
}

/// A record on its way into a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub(super) timestamp: WallTime,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

/// How many bytes a record takes in a chunk.
pub(super) fn record_size(fields: Fields<'_>, headers: &[(&str, &[u8])]) -> usize {
    let headers: usize = headers.iter().map(|(name, value)| 6 + name.len() + value.len()).sum();
    22 + headers + fields.key.map_or(0, <[u8]>::len) + fields.value.map_or(0, <[u8]>::len)
}

impl ChunkWriter {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; HEAD], records: 0, last: 0, newest: i64::MIN }
    }

    pub(super) fn records(&self) -> u32 {
        self.records
    }

    /// Size of its records: the sum of their [`record_size`].
    pub(super) fn size(&self) -> usize {
        self.bytes.len() - HEAD
    }

    /// Adds a record `delta` after the chunk's base offset. Sizes are bounded by the caller to well below `i32::MAX`,
    /// the number of headers to `u16::MAX`.
    pub(super) fn push<'h>(
        &mut self,
        delta: u32,
        fields: Fields<'_>,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) {
        let out = &mut self.bytes;
        out.extend_from_slice(&delta.to_le_bytes());
        out.extend_from_slice(&fields.timestamp.0.to_le_bytes());
        for bytes in [fields.key, fields.value] {
            let length = bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            out.extend_from_slice(&length.to_le_bytes());
        }
        let count_at = out.len();
        out.extend_from_slice(&[0; 2]);
        let mut count = 0_u16;
        for (name, value) in headers {
            count += 1;
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        }
        out[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes());
        out.extend_from_slice(fields.key.unwrap_or_default());
        out.extend_from_slice(fields.value.unwrap_or_default());
        self.records += 1;
        self.last = delta;
        self.newest = self.newest.max(fields.timestamp.0);
    }

    /// The finished chunk.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes[0] = VERSION;
        self.bytes[1..5].copy_from_slice(&self.records.to_le_bytes());
        self.bytes[5..9].copy_from_slice(&self.last.to_le_bytes());
        self.bytes[9..17].copy_from_slice(&self.newest.to_le_bytes());
        self.bytes
    }
}

/// A chunk and the offset its records count from.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) base: i64,
    bytes: fjall::Slice,
}

/// A stored chunk that cannot be read: the store is damaged, or written by a newer Herd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunk at offset {base} is damaged or of a newer format (version {version})")]
pub(super) struct BadChunk {
    base: i64,
    version: u8,
}

/// A place between two records of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkPosition(usize);

impl Chunk {
    pub(super) fn new(base: i64, bytes: fjall::Slice) -> Result<Self, BadChunk> {
        let version = bytes.first().copied().unwrap_or(0);
        if version != VERSION || bytes.len() < HEAD {
            return Err(BadChunk { base, version });
        }
        Ok(Self { base, bytes })
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The offset after its last record.
    pub(super) fn end(&self) -> i64 {
        self.base + i64::from(u32::from_le_bytes(self.array(5))) + 1
    }

    /// Its highest timestamp.
    pub(super) fn newest(&self) -> i64 {
        i64::from_le_bytes(self.array(9))
    }

    pub(super) fn begin(&self) -> ChunkPosition {
        ChunkPosition(HEAD)
    }

    /// Whether a record follows `place`.
    pub(super) fn more(&self, place: ChunkPosition) -> bool {
        place.0 < self.bytes.len()
    }

    /// The offset of the record at `place`, which must be there ([`Chunk::more`]).
    pub(super) fn offset(&self, place: ChunkPosition) -> i64 {
        self.base + i64::from(u32::from_le_bytes(self.array(place.0)))
    }

    /// Hands out the record at `place`, which must be there ([`Chunk::more`]), and goes past it. `headers` is room to
    /// decode headers in, used again from record to record.
    pub(super) fn read<R>(
        &self,
        place: &mut ChunkPosition,
        partition: Partition,
        headers: &mut Vec<(String, Vec<u8>)>,
        each: &mut impl FnMut(&Record<'_>) -> R,
    ) -> R {
        let at = place.0;
        let offset = self.offset(*place);
        let timestamp = i64::from_le_bytes(self.array(at + 4));
        let (key, value) = (i32::from_le_bytes(self.array(at + 12)), i32::from_le_bytes(self.array(at + 16)));
        let count = u16::from_le_bytes(self.array(at + 20));
        let mut at = at + 22;
        headers.clear();
        for _ in 0..count {
            let name = usize::from(u16::from_le_bytes(self.array(at)));
            let value = u32::from_le_bytes(self.array(at + 2)) as usize;
            at += 6;
            let text = String::from_utf8_lossy(&self.bytes[at..at + name]).into_owned();
            headers.push((text, self.bytes[at + name..at + name + value].to_vec()));
            at += name + value;
        }
        let mut take = |length: i32| {
            let length = usize::try_from(length).ok()?;
            at += length;
            Some(&self.bytes[at - length..at])
        };
        let (key, value) = (take(key), take(value));
        place.0 = at;
        each(&Record {
            partition,
            offset: Offset(offset),
            timestamp: WallTime(timestamp),
            key,
            value,
            headers: if headers.is_empty() { Headers::NONE } else { Headers::of(headers) },
        })
    }

    /// Goes past the record at `place` without looking at it.
    pub(super) fn skip(&self, place: &mut ChunkPosition) {
        let (key, value): (i32, i32) =
            (i32::from_le_bytes(self.array(place.0 + 12)), i32::from_le_bytes(self.array(place.0 + 16)));
        let mut at = place.0 + 22;
        for _ in 0..u16::from_le_bytes(self.array(place.0 + 20)) {
            at += 6
                + usize::from(u16::from_le_bytes(self.array(at)))
                + u32::from_le_bytes(self.array(at + 2)) as usize;
        }
        place.0 = at + usize::try_from(key).unwrap_or(0) + usize::try_from(value).unwrap_or(0);
    }

    // The store checksums what it holds, and only `ChunkWriter` writes chunks: the indices are inside.
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[at..at + N]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (u32, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Vec<u8>)>);

    fn record() -> impl Strategy<Value = Owned> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
        (
            1_u32..5,
            any::<i64>(),
            proptest::option::of(bytes()),
            proptest::option::of(bytes()),
            proptest::collection::vec(("[a-z]{0,5}", bytes()), 0..3),
        )
    }

    proptest! {
        #[test]
        fn round_trips(records in proptest::collection::vec(record(), 1..20), base in 0_i64..1_000_000) {
            let mut writer = ChunkWriter::new();
            let mut delta = 0;
            let mut sent = Vec::new();
            for (gap, timestamp, key, value, headers) in records {
                delta += gap;
                writer.push(
                    delta,
                    Fields { timestamp: WallTime(timestamp), key: key.as_deref(), value: value.as_deref() },
                    headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())),
                );
                sent.push((base + i64::from(delta), timestamp, key, value, headers));
            }
            let newest = sent.iter().map(|record| record.1).max().unwrap();
            let chunk = Chunk::new(base, writer.finish().into()).unwrap();
            prop_assert_eq!(chunk.newest(), newest);
            prop_assert_eq!(chunk.end(), sent.last().unwrap().0 + 1);

            let (mut place, mut skipped) = (chunk.begin(), chunk.begin());
            let mut room = Vec::new();
            let mut seen = Vec::new();
            while chunk.more(place) {
                chunk.read(&mut place, Partition(3), &mut room, &mut |record| {
                    let headers = record.headers.iter().map(|(n, v)| (n.to_owned(), v.to_vec())).collect::<Vec<_>>();
                    seen.push((record.offset.0, record.timestamp.0, record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), headers));
                });
                chunk.skip(&mut skipped);
                prop_assert_eq!(place.0, skipped.0);
            }
            prop_assert_eq!(seen, sent);
        }
    }

    #[test]
    fn rejects_bytes_of_another_format() {
        assert_eq!(
            Chunk::new(7, vec![9, 9].into()).unwrap_err().to_string(),
            "the chunk at offset 7 is damaged or of a newer format (version 9)"
        );
    }
}
