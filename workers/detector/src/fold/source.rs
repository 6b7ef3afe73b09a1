//! One partition of `events`: its open windows and nothing else.
//!
//! Everything here is a function of the events' order and of the times passed in. What is promised to judge
//! ([`Source::speak`]) and what is committed ([`Source::position`]) let a successor rebuild exactly this state from the log:
//! it folds the events from `replay_from` to the committed offset into the windows that are open under the committed
//! watermark (each of these is complete, none of its events was late), then goes on normally.

use std::collections::HashSet;
use std::time::Duration;

use compact_str::CompactString;
use herd_spec::plan::OTHER_KEY;
use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{EventRef, Part, SourceState, Watermark};
use xxhash_rust::xxh3::xxh3_128;

use crate::aggregate::Running;
use crate::commit::Position;
use crate::extract::Fields;
use crate::keyed::{self, Keyed};
use crate::metric::{Metrics, contribution};

/// What became of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its id was seen before, in a window still open.
    pub duplicate: bool,
    /// A window it belongs to was closed.
    pub late: bool,
}

/// The state of one source partition.
#[derive(Debug)]
pub struct Source {
    partition: Partition,
    next: Offset,
    /// Events before this offset were processed by a predecessor: they only rebuild open windows.
    replay_until: Offset,
    /// Windows that end at or before this are closed.
    watermark: Option<EventTime>,
    highest_time: Option<EventTime>,
    /// Of each metric, its open windows, oldest first.
    windows: Vec<Vec<Window>>,
    /// Of each metric: changes from this offset on have not been sent.
    unsent: Vec<Offset>,
    /// Ids of events by the longest window they fall in, oldest first.
    seen: Vec<Ids>,
    last_record: WallTime,
    /// When the source became idle, and its watermark then.
    idle_since: Option<(WallTime, EventTime)>,
    key: CompactString,
}

#[derive(Debug)]
struct Window {
    start: EventTime,
    /// Offset of its first event.
    first: Offset,
    /// Offset of its last event.
    last: Offset,
    keys: Keyed<Cell>,
}

#[derive(Debug)]
struct Cell {
    value: Running,
    version: Offset,
}

#[derive(Debug)]
struct Ids {
    start: EventTime,
    first: Offset,
    ids: HashSet<u128, foldhash::fast::RandomState>,
}

impl Source {
    /// A partition taken over at `position`; reading is to begin at [`Position::replay_from`].
    #[must_use]
    pub fn resume(partition: Partition, position: Position, metrics: &Metrics, now: WallTime) -> Self {
        Self {
            partition,
            next: position.replay_from.min(position.next),
            replay_until: position.next,
            watermark: position.closed,
            highest_time: None,
            windows: metrics.all.iter().map(|_| Vec::new()).collect(),
            unsent: vec![Offset(0); metrics.all.len()],
            seen: Vec::new(),
            last_record: now,
            idle_since: None,
            key: CompactString::default(),
        }
    }

    /// The offset of the next event to apply.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Skips a record that is no event.
    pub fn skip(&mut self, offset: Offset, now: WallTime) {
        self.next = self.next.max(offset.next());
        self.last_record = now;
        self.idle_since = None;
    }

    /// Counts an event. One whose offset was passed already is ignored.
    pub fn apply(&mut self, offset: Offset, event: &EventRef<'_>, metrics: &Metrics, now: WallTime) -> Seen {
        if offset < self.next {
            return Seen::default();
        }
        self.skip(offset, now);
        let replay = offset < self.replay_until;
        let duplicate = !self.first_sight(event, offset, metrics);
        let late = self.count(event, offset, duplicate, metrics);
        if replay {
            return Seen::default();
        }
        let highest = self.highest_time.map_or(event.time, |time| time.max(event.time));
        self.highest_time = Some(highest);
        let reached = highest.minus(metrics.lateness);
        self.watermark = Some(self.watermark.map_or(reached, |time| time.max(reached)));
        Seen { duplicate, late }
    }

    fn is_closed(&self, start: EventTime, size: Duration) -> bool {
        self.watermark.is_some_and(|watermark| start.plus(size) <= watermark)
    }

    /// Remembers the event's id while its longest window is open; false if it was there.
    fn first_sight(&mut self, event: &EventRef<'_>, offset: Offset, metrics: &Metrics) -> bool {
        let start = event.time.window_start(metrics.longest);
        if self.is_closed(start, metrics.longest) {
            return true; // every window of it is closed: late, whether new or not
        }
        let place = match self.seen.binary_search_by_key(&start, |ids| ids.start) {
            Ok(place) => place,
            Err(place) => {
                self.seen.insert(place, Ids { start, first: offset, ids: HashSet::default() });
                place
            }
        };
        self.seen[place].ids.insert(xxh3_128(event.event_id.as_bytes()))
    }

    fn count(&mut self, event: &EventRef<'_>, offset: Offset, duplicate: bool, metrics: &Metrics) -> bool {
        let mut fields = Fields::of(event);
        let mut late = false;
        let mut key = std::mem::take(&mut self.key);
        for (index, metric) in metrics.all.iter().enumerate() {
            let start = event.time.window_start(metric.window);
            let closed = self.is_closed(start, metric.window);
            if duplicate && !closed {
                continue;
            }
            let windows = &mut self.windows[index];
            let counted = contribution(metric, &mut fields, &mut key, |key, contribution| {
                if closed {
                    return;
                }
                let window = window_at(windows, start, offset);
                window.last = offset;
                let cell = window.cell(key, usize::try_from(metric.max_keys).unwrap_or(usize::MAX));
                cell.value.add(contribution);
                cell.version = offset;
            });
            late |= counted && closed;
        }
        self.key = key;
        late
    }

    /// How the source is doing at `at`, and its watermark brought up to that: `at_end` says that at a moment not before
    /// `at` everything in the log had been read. None while a source that never had an event is not read to its end.
    ///
    /// An idle source goes on from its watermark at the clock's pace; it never jumps to the wall clock, so that last
    /// year's events can be replayed.
    pub fn state(&mut self, at: WallTime, at_end: bool, patience: Duration) -> Option<SourceState> {
        let quiet = at_end && at.since(self.last_record) >= patience;
        let Some(watermark) = self.watermark else {
            return at_end.then_some(SourceState::Empty);
        };
        if !quiet {
            return Some(SourceState::Active);
        }
        let (since, base) = *self.idle_since.get_or_insert((at, watermark));
        self.watermark = Some(watermark.max(base.plus(at.since(since))));
        Some(SourceState::Idle)
    }

    /// Whether nothing came for `patience`: worth asking where the log ends.
    #[must_use]
    pub fn is_quiet(&self, now: WallTime, patience: Duration) -> bool {
        now.since(self.last_record) >= patience || self.watermark.is_none()
    }

    /// Hands out what changed: the parts of metrics that are `due`, and of every window that is closed now, which is then
    /// forgotten. Whoever calls this sends them all before the watermark, or stops.
    pub fn emit(&mut self, metrics: &Metrics, due: &[bool], mut send: impl FnMut(Part<'_>)) {
        let partition = self.partition;
        for (index, metric) in metrics.all.iter().enumerate() {
            let unsent = self.unsent[index];
            let closes = |start: EventTime| {
                self.watermark.is_some_and(|watermark| start.plus(metric.window) <= watermark)
            };
            for window in &self.windows[index] {
                if window.last < unsent || !(due[index] || closes(window.start)) {
                    continue;
                }
                for (key, cell) in window.keys.iter().filter(|(_, cell)| cell.version >= unsent) {
                    let part = Part {
                        metric: metric.name.as_str().into(),
                        key: key.as_str().into(),
                        start: window.start,
                        source: partition,
                        version: cell.version,
                        value: cell.value.to_wire(),
                    };
                    send(part);
                }
            }
            if due[index] {
                self.unsent[index] = self.next;
            }
            let closed = self.windows[index].iter().take_while(|window| closes(window.start)).count();
            self.windows[index].drain(..closed);
        }
        let longest = metrics.longest;
        let closed = self.seen.iter().take_while(|ids| self.is_closed(ids.start, longest)).count();
        self.seen.drain(..closed);
    }

    /// The source's word.
    #[must_use]
    pub fn speak(&self, state: SourceState, sources: u32, at: WallTime) -> Watermark {
        Watermark { source: self.partition, sources, watermark: self.watermark, state, at }
    }

    /// What to commit. While a predecessor's events are still being replayed, what it had committed.
    #[must_use]
    pub fn position(&self) -> Position {
        let windows = self.windows.iter().flatten().map(|window| window.first);
        let first = windows.chain(self.seen.iter().map(|ids| ids.first)).min();
        let next = self.next.max(self.replay_until);
        let replay_from = first.unwrap_or(next).min(self.next);
        Position { next, replay_from, closed: self.watermark }
    }

    /// Keys in all open windows, of all metrics.
    #[must_use]
    pub fn open_keys(&self) -> usize {
        self.windows.iter().flatten().map(|window| window.keys.len()).sum()
    }
}

/// The window that starts at `start`, opened by the event at `offset` if it is new.
fn window_at(windows: &mut Vec<Window>, start: EventTime, offset: Offset) -> &mut Window {
    // The newest windows are at the end and get most of the events.
    let place = windows.iter().rposition(|window| window.start <= start);
    let place = match place {
        Some(place) if windows[place].start == start => place,
        other => {
            let place = other.map_or(0, |before| before + 1);
            windows.insert(place, Window { start, first: offset, last: offset, keys: Keyed::default() });
            place
        }
    };
    &mut windows[place]
}

impl Window {
    fn cell(&mut self, key: &str, max_keys: usize) -> &mut Cell {
        // Past the limit, new keys share one; the limit counts that one too.
        let key = if self.keys.len() >= max_keys && !self.keys.contains_key(key) { OTHER_KEY } else { key };
        keyed::at(&mut self.keys, key, || Cell { value: Running::default(), version: Offset(0) })
    }
}
