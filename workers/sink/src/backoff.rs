//! Pauses between tries: each about twice the one before, with jitter, so that many members do not come back at once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The shortest and the longest pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Pace {
    /// For a database: it is asked often, since everything waits for it.
    pub(crate) const STORE: Self =
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(10) };
    /// For an endpoint.
    pub(crate) const ENDPOINT: Self =
        Self { first: Duration::from_millis(500), longest: Duration::from_secs(30) };

    /// For what a person must mend: seldom, so that it goes on by itself once that is done.
    pub(crate) const MENDING: Self =
        Self { first: Duration::from_secs(5), longest: Duration::from_secs(300) };

    pub(crate) fn pauses(self) -> Pauses {
        Pauses { pace: self, seed: None, inner: self.build(None) }
    }

    /// With a jitter that is this member's own, and always the same.
    pub(crate) fn pauses_of(self, member: &str) -> Pauses {
        let mut hasher = DefaultHasher::new();
        member.hash(&mut hasher);
        let seed = Some(hasher.finish());
        Pauses { pace: self, seed, inner: self.build(seed) }
    }

    fn build(self, seed: Option<u64>) -> ExponentialBackoff {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(self.first)
            .with_max_delay(self.longest)
            .with_jitter()
            .without_max_times();
        seed.map_or(pauses, |seed| pauses.with_jitter_seed(seed)).build()
    }
}

/// The pauses of one run of failures.
#[derive(Debug)]
pub(crate) struct Pauses {
    pace: Pace,
    seed: Option<u64>,
    inner: ExponentialBackoff,
}

impl Pauses {
    pub(crate) fn next(&mut self) -> Duration {
        self.inner.next().unwrap_or(self.pace.longest)
    }

    pub(crate) fn reset(&mut self) {
        self.inner = self.pace.build(self.seed);
    }
}
