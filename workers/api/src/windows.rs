//! Recent windows of active keys, for charts: bounded, pure.

use std::collections::VecDeque;

use compact_str::CompactString;
use hashbrown::HashMap;

use crate::shapes::Point;

/// Maximum number of windows per key.
pub(crate) const WINDOWS_A_KEY: usize = 120;

/// The recent windows of one metric.
#[derive(Clone, Debug)]
pub(crate) struct RecentWindows {
    keys: HashMap<CompactString, VecDeque<Point>>,
    /// Maximum number of keys. Above it, keys with the oldest newest window are evicted first, then those with the lowest value.
    capacity: usize,
}

impl RecentWindows {
    /// Empty, with this capacity of keys.
    #[must_use]
    pub(crate) fn new(capacity: usize) -> Self {
        Self { keys: HashMap::new(), capacity: capacity.max(4) }
    }

    /// Applies a window. Returns whether it changed anything.
    pub(crate) fn take(&mut self, key: &str, point: &Point) -> bool {
        if !self.keys.contains_key(key) && self.keys.len() >= self.capacity {
            self.evict();
        }
        let windows = self.keys.entry(CompactString::from(key)).or_default();
        let place = windows.partition_point(|known| known.start < point.start);
        if let Some(known) = windows.get_mut(place).filter(|known| known.start == point.start) {
            let news = point.supersedes(known);
            if news {
                *known = point.clone();
            }
            return news;
        }
        if windows.len() >= WINDOWS_A_KEY {
            if place == 0 {
                return false;
            }
            windows.pop_front();
            windows.insert(place - 1, point.clone());
        } else {
            windows.insert(place, point.clone());
        }
        true
    }

    fn evict(&mut self) {
        let mut keys: Vec<(i64, f64, CompactString)> = self
            .keys
            .iter()
            .map(|(key, windows)| {
                let newest = windows.back();
                (newest.map_or(i64::MIN, |w| w.start), newest.map_or(0.0, |w| w.value), key.clone())
            })
            .collect();
        let drop = (self.capacity / 4).max(1).min(keys.len().saturating_sub(1));
        keys.select_nth_unstable_by(drop, |a, b| {
            a.0.cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)).then_with(|| a.2.cmp(&b.2))
        });
        for (_, _, key) in keys.drain(..drop) {
            self.keys.remove(&key);
        }
    }

    /// The windows of a key, oldest first.
    pub(crate) fn of(&self, key: &str) -> impl Iterator<Item = &Point> {
        self.keys.get(key).into_iter().flatten()
    }

    /// The newest window of the `limit` most recently active keys.
    #[must_use]
    pub(crate) fn newest(&self, limit: usize) -> Vec<(&CompactString, &Point)> {
        let mut keys: Vec<(&CompactString, &Point)> =
            self.keys.iter().filter_map(|(key, windows)| windows.back().map(|point| (key, point))).collect();
        keys.sort_unstable_by(|a, b| {
            b.1.start.cmp(&a.1.start).then_with(|| b.1.value.total_cmp(&a.1.value)).then_with(|| a.0.cmp(b.0))
        });
        keys.truncate(limit);
        keys
    }

    /// Number of keys.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// Merges two lists of windows, oldest first. Of the same window, the superseding value is kept; above `limit`, the newest windows.
#[must_use]
pub(crate) fn merge(stored: Vec<Point>, live: Vec<Point>, limit: usize) -> Vec<Point> {
    let mut all: std::collections::BTreeMap<i64, Point> =
        stored.into_iter().map(|point| (point.start, point)).collect();
    for point in live {
        match all.get(&point.start) {
            Some(known) if !point.supersedes(known) => {}
            _ => {
                all.insert(point.start, point);
            }
        }
    }
    let surplus = all.len().saturating_sub(limit);
    all.into_values().skip(surplus).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(start: i64, count: u32, is_final: bool) -> Point {
        Point { start, count: count.into(), value: count.into(), is_final, bands: Vec::new() }
    }

    fn counts(recent: &RecentWindows, key: &str) -> Vec<(i64, u64, bool)> {
        recent.of(key).map(|point| (point.start, point.count, point.is_final)).collect()
    }

    #[test]
    fn a_value_is_replaced_by_newer_and_final_ones() {
        let mut recent = RecentWindows::new(10);
        assert!(recent.take("a", &point(10, 3, false)));
        assert!(recent.take("a", &point(10, 5, false)));
        assert!(!recent.take("a", &point(10, 3, false)));
        assert!(recent.take("a", &point(10, 5, true)));
        assert!(!recent.take("a", &point(10, 5, true)));
        assert!(recent.take("a", &point(0, 1, true)));
        assert_eq!(counts(&recent, "a"), [(0, 1, true), (10, 5, true)]);
    }

    #[test]
    fn inactive_keys_are_evicted_first() {
        let mut recent = RecentWindows::new(4);
        for (key, start) in [("quiet", 0), ("b", 10), ("c", 10), ("d", 10), ("e", 10)] {
            recent.take(key, &point(start, 1, true));
        }
        assert_eq!(counts(&recent, "quiet"), []);
        assert_eq!(recent.len(), 4);
    }

    #[test]
    fn merges_stored_and_live_windows() {
        let merged = merge(
            vec![point(0, 4, true), point(10, 5, true)],
            vec![point(10, 3, false), point(20, 1, false)],
            2,
        );
        assert_eq!(merged, [point(10, 5, true), point(20, 1, false)]);
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_windows_stay_in_order(
            records in prop::collection::vec((0_u8..30, 0_i64..400, 1_u32..9), 1..600),
            capacity in 4_usize..20,
        ) {
            let mut recent = RecentWindows::new(capacity);
            for (key, start, count) in records {
                recent.take(&key.to_string(), &point(start, count, false));
                prop_assert!(recent.len() <= capacity);
            }
            for key in 0..30_u8 {
                let windows = counts(&recent, &key.to_string());
                prop_assert!(windows.len() <= WINDOWS_A_KEY);
                prop_assert!(windows.windows(2).all(|pair| pair[0].0 < pair[1].0));
            }
        }
    }
}
