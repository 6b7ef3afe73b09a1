//! The traffic of a whole metric: how many events all sources together have counted in each open window, over all keys, also
//! those of other partitions. Sources announce it with their watermarks, cumulatively and with a version, like parts.

use std::collections::BTreeMap;

use herd_spec::units::{EventTime, Offset, Partition};
use herd_spec::wire::SourceTotal;

/// The totals of the open windows of a metric, by start.
#[derive(Debug, Default)]
pub(super) struct OpenTotals(BTreeMap<EventTime, OpenTotal>);

#[derive(Debug)]
struct OpenTotal {
    /// Offset of the first record that announced it: where a successor must begin to read.
    first: Offset,
    sources: Vec<Announced>,
}

#[derive(Debug)]
struct Announced {
    source: Partition,
    /// Totals of one source with different `since` are of different events.
    since: Offset,
    version: Offset,
    count: u64,
}

impl OpenTotals {
    /// Takes in what `source` announced in the record at `offset`; nothing if a newer total of it is there.
    pub(super) fn take(&mut self, offset: Offset, source: Partition, total: &SourceTotal) {
        let open =
            self.0.entry(total.start).or_insert_with(|| OpenTotal { first: offset, sources: Vec::new() });
        let SourceTotal { since, version, count, .. } = *total;
        let same = |known: &&mut Announced| (known.source, known.since) == (source, since);
        match open.sources.iter_mut().find(same) {
            Some(known) if known.version > version => {}
            Some(known) => (known.version, known.count) = (version, count),
            None => open.sources.push(Announced { source, since, version, count }),
        }
    }

    /// Events in the window that starts at `start`, as far as sources have announced them.
    pub(super) fn count(&self, start: EventTime) -> u64 {
        let sources = self.0.get(&start).map(|open| open.sources.as_slice()).unwrap_or_default();
        sources.iter().map(|source| source.count).sum()
    }

    /// The start of the oldest open window.
    pub(super) fn oldest(&self) -> Option<EventTime> {
        self.0.keys().next().copied()
    }

    /// Events in the window that starts at `start`, which is closed now and so forgotten.
    pub(super) fn take_closed(&mut self, start: EventTime) -> u64 {
        let count = self.count(start);
        self.0.remove(&start);
        count
    }

    /// The offset of the first record that announced a total of an open window.
    pub(super) fn first(&self) -> Option<Offset> {
        self.0.values().map(|open| open.first).min()
    }
}
