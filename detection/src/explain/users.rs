//! Whether a few users made most of the events.

use std::collections::BTreeMap;

/// As many users at most are a few.
const FEW: usize = 5;
/// They made at least this part of the events, of at least so many.
const MOST: f64 = 0.8;
const EVENTS: u64 = 20;

/// Events of each user.
#[derive(Clone, Debug, Default)]
pub struct Users {
    counts: BTreeMap<u64, u64>,
}

/// Users that made most of the events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Few {
    /// How many they are.
    pub users: u64,
    /// The part of the events that they made, from 0 to 1.
    pub share: f64,
}

impl Users {
    /// Counts an event of a user, by a hash of its name.
    pub fn add(&mut self, user: u64) {
        *self.counts.entry(user).or_default() += 1;
    }

    /// How many users there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.len() as u64
    }

    /// A few users that made most of many events.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // far fewer events than 2^53
    pub fn few(&self) -> Option<Few> {
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let all: u64 = counts.iter().sum();
        counts.sort_unstable_by(|one, other| other.cmp(one));
        let mut made = 0;
        let few = counts.iter().take(FEW).position(|count| {
            made += count;
            made as f64 >= MOST * all as f64
        })? as u64
            + 1;
        (all >= EVENTS && all >= 5 * few).then(|| Few { users: few, share: made as f64 / all as f64 })
    }
}
