//! Which keys of an open window grow faster than the window: their parts go out before those of the others.

use compact_str::CompactString;

use crate::keyed::{self, Keyed};

/// Keys of a window that are watched between two emits; those that come after them wait for the next one.
const KEYS_MAX: usize = 65_536;

/// How the keys of an open window grew since all its parts were sent.
#[derive(Debug, Default)]
pub(super) struct Growth {
    keys: Keyed<Grown>,
    /// Events in the window when all its parts were sent.
    before: u64,
}

#[derive(Debug, Default)]
struct Grown {
    /// Events since all parts were sent.
    events: u64,
    /// Whether any of them is in no part that was sent.
    is_unsent: bool,
}

impl Growth {
    /// An event of a key.
    pub(super) fn note(&mut self, key: &str) {
        if self.keys.len() < KEYS_MAX || self.keys.contains_key(key) {
            let grown = keyed::at(&mut self.keys, key, Grown::default);
            (grown.events, grown.is_unsent) = (grown.events + 1, true);
        }
    }

    /// A part of a key was sent.
    pub(super) fn sent(&mut self, key: &str) {
        if let Some(grown) = self.keys.get_mut(key) {
            grown.is_unsent = false;
        }
    }

    /// All parts were sent of a window that has `count` events.
    pub(super) fn sent_all(&mut self, count: u64) {
        self.keys.clear();
        self.before = count;
    }

    /// The keys with events that are in no part yet, each with its [`surprise`]. `window`: events in the window; `of_key`: of a
    /// key.
    pub(super) fn unsent(
        &self,
        window: u64,
        of_key: impl Fn(&str) -> u64,
    ) -> impl Iterator<Item = (f64, &CompactString)> {
        let since = window.saturating_sub(self.before);
        let unsent = self.keys.iter().filter(|(_, grown)| grown.is_unsent);
        unsent.map(move |(key, grown)| {
            let before = of_key(key).saturating_sub(grown.events);
            (surprise(before, grown.events, self.before, since), key)
        })
    }
}

/// By how many standard deviations of a Poisson distribution a key has more new events than its share of the window's events
/// before, of which one is added so that a key without any has a deviation too.
#[allow(clippy::cast_precision_loss)] // far below 2^53
fn surprise(before: u64, events: u64, window_before: u64, window_events: u64) -> f64 {
    let expected = window_events as f64 * before as f64 / window_before.max(1) as f64;
    (events as f64 - expected) / (expected + 1.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys by falling surprise, in a window that had `before` events of each key when all parts were sent.
    fn ranked(before: &[(&str, u64)], events: &[(&str, u64)]) -> Vec<String> {
        let mut growth = Growth::default();
        let all = before.iter().map(|(_, count)| count).sum();
        growth.sent_all(all);
        for (key, count) in events {
            (0..*count).for_each(|_| growth.note(key));
        }
        let count = |of: &[(&str, u64)], key: &str| {
            of.iter().find(|(name, _)| *name == key).map_or(0, |(_, count)| *count)
        };
        let window = all + events.iter().map(|(_, count)| count).sum::<u64>();
        let mut ranked: Vec<_> =
            growth.unsent(window, |key| count(before, key) + count(events, key)).collect();
        ranked.sort_by(|one, other| other.0.total_cmp(&one.0));
        ranked.into_iter().map(|(_, key)| key.to_string()).collect()
    }

    #[test]
    fn a_key_that_takes_off_is_before_one_that_is_popular_as_before() {
        let before = [("popular", 900), ("rare", 10)];
        assert_eq!(ranked(&before, &[("popular", 90), ("rare", 8)]), ["rare", "popular"]);
    }

    #[test]
    fn a_key_that_was_never_seen_is_before_one_with_as_many_events_as_usual() {
        assert_eq!(ranked(&[("usual", 50)], &[("usual", 5), ("new", 5)]), ["new", "usual"]);
    }

    #[test]
    fn at_the_begin_of_a_window_the_key_with_most_events_is_first() {
        assert_eq!(ranked(&[], &[("few", 2), ("most", 9), ("some", 4)]), ["most", "some", "few"]);
    }

    #[test]
    fn a_key_whose_part_was_sent_waits_until_it_grows_again() {
        let mut growth = Growth::default();
        growth.note("a");
        growth.sent("a");
        assert_eq!(growth.unsent(1, |_| 1).count(), 0);
        growth.note("a");
        assert_eq!(growth.unsent(2, |_| 2).count(), 1);
        growth.sent_all(2);
        assert_eq!(growth.unsent(2, |_| 2).count(), 0);
    }

    #[test]
    fn of_too_many_keys_the_first_are_watched() {
        let mut growth = Growth::default();
        (0..=KEYS_MAX).for_each(|key| growth.note(&key.to_string()));
        growth.note("0");
        assert_eq!(growth.keys.len(), KEYS_MAX);
        assert_eq!(growth.keys["0"].events, 2);
    }
}
