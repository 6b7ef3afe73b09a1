//! What a rule is judged by.

/// What came of a run. Delays are seconds from a record's arrival to its commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// How many records waited that many seconds.
    delays: Vec<u64>,
    /// Pods of each second.
    pub pods: Vec<u32>,
    /// Seconds in which the oldest record waited longer than the goal of 60 s.
    pub over_goal: u64,
    /// The last second in which a record waited longer than 10 s.
    pub late_until: u64,
    /// Changes of the number of replicas: when, from, to.
    pub changes: Vec<(u64, u32, u32)>,
    /// Seconds that partitions with work stood still because they changed hands or had no reader.
    pub still: u64,
}

/// Goal for the oldest record, in seconds.
const GOAL: u64 = 60;
/// From this age on, in seconds, a record is late.
const LATE: u64 = 10;
/// A change back within this time, in seconds, is a reversal.
const REVERSAL: u64 = 600;

impl Score {
    pub(crate) fn done(&mut self, seconds: u64, count: u64) {
        let index = seconds as usize;
        if self.delays.len() <= index {
            self.delays.resize(index + 1, 0);
        }
        self.delays[index] += count;
    }

    pub(crate) fn second(&mut self, now: u64, pods: usize, still: usize, oldest: u64) {
        self.pods.push(u32::try_from(pods).unwrap_or(u32::MAX));
        self.still += still as u64;
        self.over_goal += u64::from(oldest > GOAL);
        if oldest > LATE {
            self.late_until = now;
        }
    }

    /// Records worked off.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.delays.iter().sum()
    }

    /// The delay that a share of the records did not exceed, in seconds.
    #[must_use]
    pub fn delay(&self, share: f64) -> u64 {
        let rank = (self.records() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = self.delays.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.unwrap_or_default() as u64
    }

    /// Pod-seconds.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.pods.iter().map(|pods| u64::from(*pods)).sum()
    }

    /// Pod-seconds above and below another run's.
    #[must_use]
    pub fn against(&self, other: &Self) -> (u64, u64) {
        let both = || self.pods.iter().zip(&other.pods);
        let over = both().map(|(own, other)| u64::from(own.saturating_sub(*other))).sum();
        let under = both().map(|(own, other)| u64::from(other.saturating_sub(*own))).sum();
        (over, under)
    }

    /// Changes that took the one before back within ten minutes.
    #[must_use]
    pub fn reversals(&self) -> usize {
        let up = |(_, from, to): (u64, u32, u32)| to > from;
        let pairs = self.changes.windows(2);
        pairs.filter(|pair| up(pair[0]) != up(pair[1]) && pair[1].0 - pair[0].0 <= REVERSAL).count()
    }
}
