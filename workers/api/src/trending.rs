//! Trending: the top keys of one metric.
//!
//! Pure. Window records go in ([`Trending::observe`]), a ranked list comes out ([`Trending::top`]). Memory is bounded: a
//! fixed ring of window values per key (slots of 16 bytes), and at most `capacity` individual keys. If
//! there are more, the heaviest are kept and the closed windows of the others are aggregated (as in Space-Saving,
//! Metwally et al. 2005, but a kept key's value is exact, since a window record carries its whole value).
//!
//! A window's value is replaced, never added: of two records of the same window a final one wins, then the one with more
//! events. So records may come twice and in any order with the same outcome.

use std::time::Duration;

use compact_str::CompactString;
use hashbrown::HashMap;
use herd_spec::plan::OTHER_KEY;
use herd_spec::units::{EventTime, millis};
use xxhash_rust::xxh3::xxh3_64;

/// Number of windows of a sparkline.
pub(crate) const SPARK: usize = 20;
/// The time covered by a score; at least two windows.
const COVERED: Duration = Duration::from_secs(60);
/// A window counts as started when it (with those after it) has this fraction of the usual number of events, so that a single event
/// with a clock ahead does not move the list into the future.
const BEGUN: f64 = 0.1;
/// Words of the Bloom filter of aggregated keys per window: 2^20 bits, 1.5 % false positives at 100,000 keys.
const SEEN_WORDS: usize = 1 << 14;
/// Set in the version of a slot if the window is closed.
const FINAL: u64 = 1 << 63;

/// The heaviest keys of one metric.
#[derive(Clone, Debug)]
pub(crate) struct Trending {
    size_ms: i64,
    /// Windows that a score covers.
    span: usize,
    /// Maximum number of windows by which the newest record may be ahead of the list.
    ahead: usize,
    ring: usize,
    capacity: usize,
    /// Whether a score is the mean of the windows' values instead of their sum.
    averaged: bool,
    /// Number of the newest window seen: its start divided by its size.
    newest: Option<i64>,
    keys: HashMap<CompactString, Series>,
    /// The key `(other)`, which fold has already aggregated.
    pooled: Series,
    /// Aggregated closed windows of evicted keys, by window.
    rest: Vec<Rest>,
}

/// The last windows of one key: window `w` is in slot `w mod ring` while `w > newest − ring`.
#[derive(Clone, Debug)]
struct Series {
    newest: i64,
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Number of events, with [`FINAL`]; 0 if unknown.
    version: u64,
    value: f64,
}

#[derive(Clone, Debug)]
struct Rest {
    window: i64,
    keys: u64,
    value: f64,
    /// Bloom filter of the keys aggregated here, so that a duplicate record is not counted twice.
    seen: Box<[u64]>,
}

/// The trending list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Top {
    /// End of the newest window included; `None` without data.
    pub(crate) as_of: Option<EventTime>,
    /// Sum of the scores of all keys.
    pub(crate) total: f64,
    /// Number of keys with a score; for aggregated keys, a lower bound.
    pub(crate) keys: u64,
    /// The top keys, in descending order of score, then alphabetically.
    pub(crate) items: Vec<Item>,
    /// Number of keys that are not in `items`.
    pub(crate) other_keys: u64,
    /// Sum of the scores of keys that are not in `items`.
    pub(crate) other_value: f64,
}

/// A key in the list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// Its rank, from 1.
    pub(crate) rank: u64,
    /// Its rank one window earlier; `None` if it was not ranked.
    pub(crate) previous_rank: Option<u64>,
    /// The key.
    pub(crate) key: CompactString,
    /// Its score: its value over the windows of the last minute, at least two.
    pub(crate) value: f64,
    /// Its fraction of the total, 0 to 1.
    pub(crate) share: f64,
    /// Its last [`SPARK`] window values, oldest first.
    pub(crate) spark: Vec<f64>,
}

impl Trending {
    /// An empty list for windows of `size`, with at most `capacity` keys. `averaged` means that the metric is a mean. `ahead` is the
    /// maximum time by which events may be ahead of others (clock skew and lateness).
    #[must_use]
    pub(crate) fn new(size: Duration, averaged: bool, ahead: Duration, capacity: usize) -> Self {
        let size_ms = millis(size).max(1);
        let windows = |time: Duration, most: usize| {
            usize::try_from(millis(time).unsigned_abs().div_ceil(size_ms.unsigned_abs()))
                .unwrap_or(most)
                .min(most)
        };
        let span = windows(COVERED, 60).max(2);
        let ahead = windows(ahead, 60) + 1;
        let ring = SPARK.max(span + 1) + ahead;
        Self {
            size_ms,
            span,
            ahead,
            ring,
            capacity: capacity.max(4),
            averaged,
            newest: None,
            keys: HashMap::new(),
            pooled: Series::new(i64::MIN / 2, ring),
            rest: Vec::new(),
        }
    }

    /// Number of individual keys.
    #[cfg(test)]
    pub(crate) fn tracked(&self) -> usize {
        self.keys.len()
    }

    /// Applies a window record.
    pub(crate) fn observe(&mut self, key: &str, start: EventTime, count: u64, value: f64, is_final: bool) {
        let window = start.0.div_euclid(self.size_ms);
        let newest = self.newest.map_or(window, |newest| newest.max(window));
        self.newest = Some(newest);
        if self.too_old(window) || !value.is_finite() {
            return;
        }
        let slot = Slot { version: (count & !FINAL) | if is_final { FINAL } else { 0 }, value };
        if key == OTHER_KEY {
            self.pooled.put(window, slot);
            return;
        }
        let counted_together =
            is_final && self.rest.iter().any(|rest| rest.window == window && rest.has(key));
        if let Some(series) = self.keys.get_mut(key) {
            if !counted_together || series.at(window).version != 0 {
                series.put(window, slot);
            }
            return;
        }
        if counted_together {
            return;
        }
        if self.keys.len() >= self.capacity {
            self.evict();
        }
        let mut series = Series::new(window, self.ring);
        series.put(window, slot);
        self.keys.insert(CompactString::from(key), series);
    }

    fn too_old(&self, window: i64) -> bool {
        self.newest.is_some_and(|newest| window <= newest - signed(self.ring))
    }

    /// Evicts inactive keys, then the lightest, until a quarter is free; closed windows of evicted keys are aggregated.
    fn evict(&mut self) {
        let newest = self.newest.unwrap_or(0);
        let oldest = newest - signed(self.ring);
        self.keys.retain(|_, series| series.newest > oldest);
        let keep = self.capacity - self.capacity / 4;
        if self.keys.len() <= keep {
            return;
        }
        let mut weights: Vec<(f64, CompactString)> =
            self.keys.iter().map(|(key, series)| (series.weight(newest), key.clone())).collect();
        let drop = weights.len() - keep;
        weights.select_nth_unstable_by(drop, |a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        let mut lightest: Vec<CompactString> = weights.drain(..drop).map(|(_, key)| key).collect();
        // Floating-point sums depend on their order, which must not be the order of the map.
        lightest.sort_unstable();
        for key in lightest {
            let Some(series) = self.keys.remove(&key) else { continue };
            for window in (oldest + 1)..=newest {
                let slot = series.at(window);
                if slot.version & FINAL != 0 {
                    self.aggregate(&key, window, slot.value);
                }
            }
        }
    }

    fn aggregate(&mut self, key: &str, window: i64, value: f64) {
        let oldest = self.newest.unwrap_or(window) - signed(self.ring);
        self.rest.retain(|rest| rest.window > oldest);
        let place = self.rest.iter().position(|rest| rest.window == window).unwrap_or_else(|| {
            self.rest.push(Rest {
                window,
                keys: 0,
                value: 0.0,
                seen: vec![0; SEEN_WORDS].into_boxed_slice(),
            });
            self.rest.len() - 1
        });
        self.rest[place].add(key, value);
    }

    /// The newest window that has started.
    fn anchor(&self, newest: i64) -> i64 {
        let mut totals = vec![0.0; self.ring];
        for series in self.keys.values().chain([&self.pooled]) {
            for (back, total) in totals.iter_mut().enumerate() {
                *total += series.at(newest - signed(back)).value.abs();
            }
        }
        let filled: Vec<f64> = totals.iter().copied().filter(|total| *total > 0.0).collect();
        if filled.is_empty() {
            return newest;
        }
        #[allow(clippy::cast_precision_loss)] // a few windows
        let usual = filled.iter().sum::<f64>() / filled.len() as f64;
        let mut held = 0.0;
        for (back, total) in totals.iter().take(self.ahead).enumerate() {
            held += total;
            if held >= BEGUN * usual {
                return newest - signed(back);
            }
        }
        newest - signed(self.ahead)
    }

    fn score(&self, series: &Series, until: i64) -> f64 {
        let mut sum = 0.0;
        let mut windows = 0.0_f64;
        for window in (until - signed(self.span) + 1)..=until {
            let slot = series.at(window);
            if slot.version != 0 {
                sum += slot.value;
                windows += 1.0;
            }
        }
        if self.averaged { sum / windows.max(1.0) } else { sum }
    }

    /// The `limit` top keys.
    #[must_use]
    pub(crate) fn top(&self, limit: usize) -> Top {
        let Some(newest) = self.newest else {
            return Top {
                as_of: None,
                total: 0.0,
                keys: 0,
                items: Vec::new(),
                other_keys: 0,
                other_value: 0.0,
            };
        };
        let anchor = self.anchor(newest);
        let mut now: Vec<(f64, &CompactString, &Series)> = Vec::with_capacity(self.keys.len());
        let mut before: Vec<(f64, &CompactString)> = Vec::with_capacity(self.keys.len());
        for (key, series) in &self.keys {
            let score = self.score(series, anchor);
            if score > 0.0 {
                now.push((score, key, series));
            }
            let earlier = self.score(series, anchor - 1);
            if earlier > 0.0 {
                before.push((earlier, key));
            }
        }
        now.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        before.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));

        let covered = (anchor - signed(self.span) + 1)..=anchor;
        let rest: Vec<&Rest> = self.rest.iter().filter(|rest| covered.contains(&rest.window)).collect();
        let rest_keys = rest.iter().map(|rest| rest.keys).max().unwrap_or(0);
        let rest_value = rest.iter().map(|rest| rest.value).sum::<f64>() + self.score(&self.pooled, anchor);
        let total = now.iter().map(|(score, ..)| score).sum::<f64>() + rest_value;
        let keys = now.len() as u64 + rest_keys;

        let listed: HashMap<&CompactString, u64> =
            HashMap::from_iter(now.iter().take(limit).map(|(_, key, _)| (*key, 0)));
        let mut ranks_before = listed;
        for (place, (_, key)) in before.iter().enumerate() {
            if let Some(rank) = ranks_before.get_mut(*key) {
                *rank = place as u64 + 1;
            }
        }
        let items: Vec<Item> = now
            .iter()
            .take(limit)
            .enumerate()
            .map(|(place, (value, key, series))| Item {
                rank: place as u64 + 1,
                previous_rank: ranks_before.get(*key).copied().filter(|rank| *rank > 0),
                key: (*key).clone(),
                value: *value,
                share: if total > 0.0 { value / total } else { 0.0 },
                spark: (0..SPARK).rev().map(|back| series.at(anchor - signed(back)).value).collect(),
            })
            .collect();
        let other_value = now.iter().skip(limit).map(|(score, ..)| score).sum::<f64>() + rest_value;
        Top {
            as_of: Some(EventTime((anchor + 1).saturating_mul(self.size_ms))),
            total,
            keys,
            other_keys: keys - items.len() as u64,
            items,
            other_value,
        }
    }
}

impl Series {
    fn new(newest: i64, ring: usize) -> Self {
        Self { newest, slots: vec![Slot::default(); ring].into_boxed_slice() }
    }

    fn place(&self, window: i64) -> usize {
        usize::try_from(window.rem_euclid(signed(self.slots.len()))).unwrap_or(0)
    }

    /// The slot of a window; empty (0) outside the ring.
    fn at(&self, window: i64) -> Slot {
        if window > self.newest || window <= self.newest - signed(self.slots.len()) {
            return Slot::default();
        }
        self.slots[self.place(window)]
    }

    fn put(&mut self, window: i64, slot: Slot) {
        if window <= self.newest - signed(self.slots.len()) {
            return;
        }
        if window > self.newest {
            let first = (self.newest + 1).max(window - signed(self.slots.len()) + 1);
            for cleared in first..=window {
                let place = self.place(cleared);
                self.slots[place] = Slot::default();
            }
            self.newest = window;
        }
        let place = self.place(window);
        if slot.version > self.slots[place].version {
            self.slots[place] = slot;
        }
    }

    /// Sum of the ring, relative to the newest window of the metric.
    fn weight(&self, newest: i64) -> f64 {
        let oldest = newest - signed(self.slots.len());
        ((oldest + 1)..=newest).map(|window| self.at(window).value).sum()
    }
}

impl Rest {
    fn bits(key: &str) -> [(usize, u64); 3] {
        let hash = xxh3_64(key.as_bytes());
        [0, 20, 40].map(|shift| {
            let bit = (hash >> shift) & ((1 << 20) - 1);
            (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
        })
    }

    fn has(&self, key: &str) -> bool {
        Self::bits(key).iter().all(|(word, bit)| self.seen[*word] & bit != 0)
    }

    fn add(&mut self, key: &str, value: f64) {
        if self.has(key) {
            return;
        }
        for (word, bit) in Self::bits(key) {
            self.seen[word] |= bit;
        }
        self.keys += 1;
        self.value += value;
    }
}

fn signed(windows: usize) -> i64 {
    i64::try_from(windows).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "trending_tests.rs"]
mod tests;
