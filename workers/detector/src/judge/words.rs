//! What the sources have said, and what follows: until when is everything in?
//!
//! An active source vouches for its own watermark. An idle or empty one vouches for the time of its word: for the highest
//! watermark that any source had announced before it spoke (less a slack for clock skew), since it had read all that was
//! sent by then. A source whose owner is gone says nothing new, and so holds the minimum back: leaving it out would lose
//! windows.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use herd_spec::units::{EventTime, Partition, WallTime};
use herd_spec::wire::{SourceState, Watermark};

/// Clocks of detectors may differ by this much.
const SLACK: Duration = Duration::from_secs(1);
/// Words older than this vouch for nothing but themselves: what was announced before them may have been forgotten.
const FRESH: Duration = Duration::from_secs(30);

/// The words of all sources, as one partition of `parts` has them.
#[derive(Debug, Default)]
pub struct Words {
    /// How many sources there are, as far as anybody has said.
    sources: u32,
    said: HashMap<Partition, Said>,
    /// The watermarks announced lately, by when.
    announced: BTreeMap<WallTime, EventTime>,
    /// The highest watermark announced before those.
    before: Option<EventTime>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Said {
    own: Option<EventTime>,
    vouched: Option<EventTime>,
}

impl Words {
    /// Takes a word in, at `now`.
    pub fn hear(&mut self, word: &Watermark, now: WallTime) {
        self.sources = self.sources.max(word.sources).max(word.source.0 + 1);
        let said = self.said.entry(word.source).or_default();
        said.own = said.own.max(word.watermark);
        if let (Some(own), true) = (said.own, word.state != SourceState::Empty) {
            let announced = self.announced.entry(word.at).or_insert(own);
            *announced = own.max(*announced);
        }
        let heard = match word.state {
            SourceState::Active => None,
            SourceState::Idle | SourceState::Empty if word.at < now.minus(FRESH) => None,
            SourceState::Idle | SourceState::Empty => {
                let until = word.at.minus(SLACK);
                let lately = self.announced.range(..until).map(|(_, watermark)| *watermark).max();
                lately.max(self.before)
            }
        };
        said.vouched = said.vouched.max(said.own).max(heard);
        while let Some(entry) = self.announced.first_entry() {
            if *entry.key() >= now.minus(FRESH) {
                break;
            }
            self.before = self.before.max(Some(entry.remove()));
        }
    }

    /// Windows that end at or before this are complete; none while a source has not been heard.
    #[must_use]
    pub fn closed(&self) -> Option<EventTime> {
        let heard =
            (0..self.sources).map(|source| self.said.get(&Partition(source)).and_then(|said| said.vouched));
        // `Option`'s order puts None first: one silent source and nothing is closed.
        heard.min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(source: u32, watermark: Option<i64>, state: SourceState, at: i64) -> Watermark {
        Watermark {
            source: Partition(source),
            sources: 2,
            watermark: watermark.map(EventTime),
            state,
            at: WallTime(at),
        }
    }

    fn after(words: &[Watermark], now: i64) -> Option<i64> {
        let mut heard = Words::default();
        words.iter().for_each(|word| heard.hear(word, WallTime(now)));
        heard.closed().map(|time| time.0)
    }

    use SourceState::{Active, Empty, Idle};

    #[test]
    fn active_sources_close_what_both_have_passed() {
        assert_eq!(after(&[word(0, Some(900), Active, 1), word(1, Some(700), Active, 1)], 1), Some(700));
    }

    #[test]
    fn a_source_that_never_spoke_holds_everything_back() {
        assert_eq!(after(&[word(0, Some(900), Active, 1)], 1), None);
    }

    #[test]
    fn an_empty_source_vouches_for_what_was_announced_before_it_spoke() {
        let first = word(0, Some(900), Active, 10_000);
        assert_eq!(after(&[first, word(1, None, Empty, 10_500)], 10_500), None, "within the slack");
        assert_eq!(after(&[first, word(1, None, Empty, 11_001)], 11_001), Some(900));
    }

    #[test]
    fn an_idle_source_does_not_vouch_for_what_came_after_its_word() {
        let words = [
            word(1, Some(100), Idle, 10_000),
            word(0, Some(900), Active, 10_000),
            word(0, Some(5_000), Active, 20_000),
            word(1, Some(150), Idle, 15_000),
        ];
        assert_eq!(after(&words, 20_000), Some(900));
    }

    #[test]
    fn an_old_word_vouches_for_itself_only() {
        let words = [word(0, Some(900), Active, 10_000), word(1, Some(100), Idle, 12_000)];
        assert_eq!(after(&words, 50_000), Some(100));
    }

    #[test]
    fn what_is_closed_never_opens_again() {
        let words =
            [word(0, Some(900), Active, 1), word(1, Some(900), Active, 1), word(1, Some(400), Active, 2)];
        assert_eq!(after(&words, 2), Some(900));
    }
}
