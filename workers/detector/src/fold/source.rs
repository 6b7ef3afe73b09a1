//! One partition of `events`: its open windows and nothing else.
//!
//! Everything here is a function of the events' order and of the times passed in. What is promised to judge
//! ([`Source::watermark`]) and what is committed ([`Source::position`]) let a successor rebuild exactly this state from the log:
//! it folds the events from `replay_from` to the committed offset into the windows that are open under the committed
//! watermark (each of these is complete, none of its events was late), then goes on normally.
//!
//! A metric whose definition is not the one of the commit begins at the commit: what was sent by then is counted in windows
//! of the old definition, which judge closes with what they hold; everything after it in windows of the new one.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use compact_str::CompactString;
use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{EventRef, Fingerprint, Part, Shape, SourceState, SourceTotal, Watermark};
use xxhash_rust::xxh3::xxh3_128;

use super::window::{Origin, Window, window_at};
use crate::commit::{CountedMetric, Counting, Position};
use crate::extract::Fields;
use crate::metric::{Counted, Metrics, contribution};

/// Early parts of one source at once, at most.
const EARLY_PARTS_MAX: usize = 256;

/// What became of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyOutcome {
    /// Its id was seen before, in a window still open.
    pub duplicate: bool,
    /// A window it belongs to was closed.
    pub late: bool,
    /// A metric adds up one of its fields, and the number is too large to be added exactly.
    pub too_large: bool,
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
    /// Events before this time are late, whatever windows are open: whether their ids were seen is not known.
    floor: Option<EventTime>,
    /// What is counted, in the order of the plan.
    metrics: Vec<MetricState>,
    /// Ids of events by the longest window they fall in, oldest first.
    seen: Vec<Ids>,
    last_record: WallTime,
    /// When the source became idle, and its watermark then.
    idle_since: Option<(WallTime, EventTime)>,
    key: CompactString,
}

/// What a source keeps of one metric.
#[derive(Debug, Default)]
struct MetricState {
    /// Only events from this offset on are counted: those before it were counted by another definition.
    since: Offset,
    /// Parts of all events before this offset were acknowledged.
    sent: Offset,
    /// Changes from this offset on have not been sent by this member.
    unsent: Offset,
    /// The totals of windows that changed from this offset on have not been announced by this member.
    unannounced: Offset,
    /// Its open windows, oldest first.
    windows: Vec<Window>,
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
    pub fn resume(partition: Partition, position: &Position, metrics: &Metrics, now: WallTime) -> Self {
        let counting = position.counting.as_ref();
        let state = |(name, shape): &(Fingerprint, Shape)| {
            // Before commits said so, nothing is known of other definitions than today's.
            let Some(counting) = counting else {
                return MetricState { sent: position.next, ..MetricState::default() };
            };
            let known = counting.metrics.iter().find(|metric| metric.name == *name);
            match known {
                Some(known) if known.definition == shape.definition => {
                    MetricState { since: known.since, sent: known.sent, ..MetricState::default() }
                }
                // What the old definition had not sent yet is the new one's.
                Some(known) => MetricState { since: known.sent, sent: known.sent, ..MetricState::default() },
                None => MetricState { since: position.next, sent: position.next, ..MetricState::default() },
            }
        };
        Self {
            partition,
            next: position.replay_from.min(position.next),
            replay_until: position.next,
            watermark: position.closed,
            highest_time: None,
            floor: counting.and_then(|counting| counting.floor),
            metrics: metrics.shapes.iter().map(state).collect(),
            seen: Vec::new(),
            last_record: now,
            idle_since: None,
            key: CompactString::default(),
        }
    }

    /// The metrics that begin with this member, because the commit it went on from knows them by another definition or not at
    /// all: their places in the plan, and the offset from which on they count.
    pub fn began(&self, position: &Position, metrics: &Metrics) -> Vec<(usize, Offset)> {
        let Some(counting) = &position.counting else { return Vec::new() };
        let is_known = |(name, shape): &(Fingerprint, Shape)| {
            counting.metrics.iter().any(|known| (known.name, known.definition) == (*name, shape.definition))
        };
        let states = self.metrics.iter().zip(&metrics.shapes).enumerate();
        let new = states.filter(|(_, (_, shape))| !is_known(shape));
        new.map(|(place, (state, _))| (place, state.since)).collect()
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
    pub fn apply(
        &mut self,
        offset: Offset,
        event: &EventRef<'_>,
        metrics: &Metrics,
        now: WallTime,
    ) -> ApplyOutcome {
        if offset < self.next {
            return ApplyOutcome::default();
        }
        self.skip(offset, now);
        let replay = offset < self.replay_until;
        let duplicate = !self.first_sight(event, offset, metrics);
        let seen = self.count(event, offset, duplicate, metrics);
        if replay {
            return ApplyOutcome::default();
        }
        let highest = self.highest_time.map_or(event.time, |time| time.max(event.time));
        self.highest_time = Some(highest);
        let reached = highest.minus(metrics.lateness);
        self.watermark = Some(self.watermark.map_or(reached, |time| time.max(reached)));
        seen
    }

    fn is_closed(&self, start: EventTime, size: Duration) -> bool {
        self.watermark.is_some_and(|watermark| start.plus(size) <= watermark)
    }

    fn is_below_floor(&self, time: EventTime) -> bool {
        self.floor.is_some_and(|floor| time < floor)
    }

    /// Remembers the event's id while any window of it may be open; false if it was there.
    fn first_sight(&mut self, event: &EventRef<'_>, offset: Offset, metrics: &Metrics) -> bool {
        let start = event.time.window_start(metrics.longest);
        let forgotten = self.watermark.is_some_and(|watermark| metrics.forgets(start, watermark));
        if forgotten || self.is_below_floor(event.time) {
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

    fn count(
        &mut self,
        event: &EventRef<'_>,
        offset: Offset,
        duplicate: bool,
        metrics: &Metrics,
    ) -> ApplyOutcome {
        let mut fields = Fields::of(event);
        let mut seen = ApplyOutcome { duplicate, ..ApplyOutcome::default() };
        let mut key = std::mem::take(&mut self.key);
        let below_floor = self.is_below_floor(event.time);
        for (index, metric) in metrics.all.iter().enumerate() {
            if offset < self.metrics[index].since {
                continue;
            }
            let start = event.time.window_start(metric.window);
            let closed = below_floor || self.is_closed(start, metric.window);
            if duplicate && !closed {
                continue;
            }
            let windows = &mut self.metrics[index].windows;
            let counted = contribution(metric, &mut fields, &mut key, |key, contribution, user| {
                if closed {
                    return;
                }
                let window = window_at(windows, start, offset);
                window.last = offset;
                window.count += 1;
                let cell = window.cell(key, usize::try_from(metric.max_keys).unwrap_or(usize::MAX));
                cell.value.add(contribution);
                if let Some(user) = user {
                    cell.value.add_user(user);
                }
                cell.version = offset;
                if metric.early_parts {
                    window.growth.note(key);
                }
            });
            seen.late |= counted == Counted::Yes && closed;
            seen.too_large |= counted == Counted::TooLarge;
        }
        self.key = key;
        seen
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

    /// The totals of all windows that changed since this was last called, for the next watermark. Called before [`Source::emit`],
    /// which forgets the windows that are closed.
    pub fn take_totals(&mut self, metrics: &Metrics) -> Vec<SourceTotal> {
        let next = self.next;
        let mut totals = Vec::new();
        for (index, state) in
            self.metrics.iter_mut().enumerate().filter(|(index, _)| metrics.announced[*index])
        {
            let origin = Origin::of(metrics, index, self.partition, state.since);
            let changed = state.windows.iter().filter(|window| window.last >= state.unannounced);
            totals.extend(changed.map(|window| origin.total(window)));
            state.unannounced = next;
        }
        totals
    }

    /// Hands out what changed: the parts of metrics that are `due`, and of every window that is closed now, which is then
    /// forgotten. Whoever calls this sends them all before the watermark, or stops.
    ///
    /// # Errors
    /// The first that `send` returns; what was not sent is then lost, and the caller must stop.
    pub fn emit<E>(
        &mut self,
        metrics: &Metrics,
        due: &[bool],
        mut send: impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (partition, watermark, next) = (self.partition, self.watermark, self.next);
        for (index, metric) in metrics.all.iter().enumerate() {
            let state = &mut self.metrics[index];
            let origin = Origin::of(metrics, index, partition, state.since);
            let closes =
                |start: EventTime| watermark.is_some_and(|watermark| start.plus(metric.window) <= watermark);
            for window in &mut state.windows {
                if window.last < state.unsent || !(due[index] || closes(window.start)) {
                    continue;
                }
                window.growth.sent_all(window.count);
                for (key, cell) in window.keys.iter().filter(|(_, cell)| cell.version >= state.unsent) {
                    send(origin.part(window.start, key, cell))?;
                }
            }
            if due[index] {
                state.unsent = next;
                state.sent = state.sent.max(next);
            }
            let closed = state.windows.iter().take_while(|window| closes(window.start)).count();
            state.windows.drain(..closed);
        }
        let forgets = |ids: &&Ids| watermark.is_some_and(|watermark| metrics.forgets(ids.start, watermark));
        let closed = self.seen.iter().take_while(forgets).count();
        self.seen.drain(..closed);
        Ok(())
    }

    /// Hands out early parts: those of the keys that grew most since all parts were sent, of metrics that send early parts. Nothing is
    /// taken for sent by that, so that [`Source::emit`] hands out the same again. Returns the totals of their windows, to be announced
    /// once the parts are acknowledged.
    ///
    /// # Errors
    /// See [`Source::emit`].
    pub fn emit_early<E>(
        &mut self,
        metrics: &Metrics,
        mut send: impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<Vec<SourceTotal>, E> {
        let mut totals = Vec::new();
        for ((index, place), keys) in self.fastest(metrics) {
            let state = &mut self.metrics[index];
            let origin = Origin::of(metrics, index, self.partition, state.since);
            let window = &mut state.windows[place];
            for key in keys {
                let Some(cell) = window.keys.get(&key) else { continue };
                send(origin.part(window.start, &key, cell))?;
                window.growth.sent(&key);
            }
            if metrics.announced[index] {
                totals.push(origin.total(window));
            }
        }
        Ok(totals)
    }

    /// The keys whose early parts are next: by metric and place of the window.
    fn fastest(&self, metrics: &Metrics) -> BTreeMap<(usize, usize), Vec<CompactString>> {
        let mut unsent = Vec::new();
        for (index, state) in
            self.metrics.iter().enumerate().filter(|(index, _)| metrics.all[*index].early_parts)
        {
            for (place, window) in state.windows.iter().enumerate() {
                let count = |key: &str| window.keys.get(key).map_or(0, |cell| cell.value.count);
                let keys = window.growth.unsent(window.count, count);
                unsent.extend(keys.map(|(surprise, key)| (surprise, (index, place), key)));
            }
        }
        if unsent.len() > EARLY_PARTS_MAX {
            unsent.select_nth_unstable_by(EARLY_PARTS_MAX, |one, other| other.0.total_cmp(&one.0));
            unsent.truncate(EARLY_PARTS_MAX);
        }
        let mut fastest: BTreeMap<(usize, usize), Vec<CompactString>> = BTreeMap::new();
        for (_, window, key) in unsent {
            fastest.entry(window).or_default().push(key.clone());
        }
        fastest
    }

    /// What the source announces to judge, with totals that [`Source::take_totals`] or [`Source::emit_early`] returned. Without a
    /// `state` it announces these alone.
    #[must_use]
    pub fn watermark(
        &self,
        state: Option<SourceState>,
        sources: u32,
        at: WallTime,
        totals: Vec<SourceTotal>,
    ) -> Watermark {
        let watermark = state.and(self.watermark);
        let state = state.unwrap_or(SourceState::Active);
        Watermark { source: self.partition, sources, watermark, state, at, totals }
    }

    /// What to commit. While a predecessor's events are still being replayed, what it had committed.
    #[must_use]
    pub fn position(&self, metrics: &Metrics) -> Position {
        let windows = self.metrics.iter().flat_map(|metric| &metric.windows).map(|window| window.first);
        let first = windows.chain(self.seen.iter().map(|ids| ids.first)).min();
        let next = self.next.max(self.replay_until);
        let replay_from = first.unwrap_or(next).min(self.next);
        let counted = |(state, (name, shape)): (&MetricState, &(Fingerprint, Shape))| {
            let waits = next > self.next || state.windows.iter().any(|window| window.last >= state.unsent);
            CountedMetric {
                name: *name,
                definition: shape.definition,
                since: state.since,
                sent: if waits { state.sent.min(next) } else { next },
            }
        };
        let counting = Counting {
            floor: self.floor.max(self.watermark.map(|watermark| metrics.known_from(watermark))),
            metrics: self.metrics.iter().zip(&metrics.shapes).map(counted).collect(),
        };
        Position { next, replay_from, closed: self.watermark, counting: Some(counting), rules: None }
    }

    /// Keys in all open windows, of all metrics.
    #[must_use]
    pub fn open_keys(&self) -> usize {
        self.metrics.iter().flat_map(|metric| &metric.windows).map(|window| window.keys.len()).sum()
    }
}
