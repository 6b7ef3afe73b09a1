//! The watermarks of all sources, and what follows: until when is everything in?
//!
//! An active source vouches for its own watermark. An idle or empty one vouches for the time at which it announced that: for the
//! highest watermark that any source had announced before (less a slack for clock skew), since it had read all that was sent by
//! then. A source whose owner is gone announces nothing new, and so holds the minimum back: leaving it out would lose windows.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use herd_spec::units::{EventTime, Partition, WallTime};
use herd_spec::wire::{SourceState, Watermark};

/// Clocks of detectors may differ by this much.
const SLACK: Duration = Duration::from_secs(1);
/// Watermarks older than this vouch for nothing but themselves: what was announced before them may have been forgotten.
const FRESH: Duration = Duration::from_secs(30);

/// The watermarks of all sources, as one partition of `parts` has them.
#[derive(Debug, Default)]
pub(super) struct WatermarkTracker {
    /// How many sources there are, as far as anybody has announced.
    sources: u32,
    by_source: HashMap<Partition, Announced>,
    /// The watermarks announced lately, by when.
    announced: BTreeMap<WallTime, EventTime>,
    /// The highest watermark announced before those.
    before: Option<EventTime>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Announced {
    own: Option<EventTime>,
    vouched: Option<EventTime>,
}

impl WatermarkTracker {
    /// Takes in what a source announced, at `now`.
    pub(super) fn observe(&mut self, record: &Watermark, now: WallTime) {
        self.sources = self.sources.max(record.sources).max(record.source.0 + 1);
        let source = self.by_source.entry(record.source).or_default();
        source.own = source.own.max(record.watermark);
        if let (Some(own), true) = (source.own, record.state != SourceState::Empty) {
            let announced = self.announced.entry(record.at).or_insert(own);
            *announced = own.max(*announced);
        }
        let others = match record.state {
            SourceState::Active => None,
            SourceState::Idle | SourceState::Empty if record.at < now.minus(FRESH) => None,
            SourceState::Idle | SourceState::Empty => {
                let until = record.at.minus(SLACK);
                let lately = self.announced.range(..until).map(|(_, watermark)| *watermark).max();
                lately.max(self.before)
            }
        };
        source.vouched = source.vouched.max(source.own).max(others);
        while let Some(entry) = self.announced.first_entry() {
            if *entry.key() >= now.minus(FRESH) {
                break;
            }
            self.before = self.before.max(Some(entry.remove()));
        }
    }

    /// Windows that end at or before this are complete; none while a source has announced nothing.
    #[must_use]
    pub(super) fn closed(&self) -> Option<EventTime> {
        let vouched = (0..self.sources).map(|source| self.by_source.get(&Partition(source))?.vouched);
        // `Option`'s order puts None first: one silent source and nothing is closed.
        vouched.min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announce(source: u32, watermark: Option<i64>, state: SourceState, at: i64) -> Watermark {
        Watermark {
            source: Partition(source),
            sources: 2,
            watermark: watermark.map(EventTime),
            state,
            at: WallTime(at),
            totals: Vec::new(),
        }
    }

    fn after(records: &[Watermark], now: i64) -> Option<i64> {
        let mut tracker = WatermarkTracker::default();
        records.iter().for_each(|record| tracker.observe(record, WallTime(now)));
        tracker.closed().map(|time| time.0)
    }

    use SourceState::{Active, Empty, Idle};

    #[test]
    fn closes_what_all_active_sources_have_passed() {
        assert_eq!(
            after(&[announce(0, Some(900), Active, 1), announce(1, Some(700), Active, 1)], 1),
            Some(700)
        );
    }

    #[test]
    fn closes_nothing_while_a_source_has_announced_nothing() {
        assert_eq!(after(&[announce(0, Some(900), Active, 1)], 1), None);
    }

    #[test]
    fn an_empty_source_vouches_for_watermarks_announced_before_its_own() {
        let first = || announce(0, Some(900), Active, 10_000);
        assert_eq!(after(&[first(), announce(1, None, Empty, 10_500)], 10_500), None, "within the slack");
        assert_eq!(after(&[first(), announce(1, None, Empty, 11_001)], 11_001), Some(900));
    }

    #[test]
    fn an_idle_source_does_not_vouch_for_watermarks_announced_after_its_own() {
        let records = [
            announce(1, Some(100), Idle, 10_000),
            announce(0, Some(900), Active, 10_000),
            announce(0, Some(5_000), Active, 20_000),
            announce(1, Some(150), Idle, 15_000),
        ];
        assert_eq!(after(&records, 20_000), Some(900));
    }

    #[test]
    fn an_old_watermark_vouches_for_itself_only() {
        let records = [announce(0, Some(900), Active, 10_000), announce(1, Some(100), Idle, 12_000)];
        assert_eq!(after(&records, 50_000), Some(100));
    }

    #[test]
    fn never_goes_back_when_a_source_announces_a_lower_watermark() {
        let records = [
            announce(0, Some(900), Active, 1),
            announce(1, Some(900), Active, 1),
            announce(1, Some(400), Active, 2),
        ];
        assert_eq!(after(&records, 2), Some(900));
    }
}
