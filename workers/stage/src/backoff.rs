//! Pauses between tries: each about twice the one before, with jitter, so that many members do not come back at once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The first and the longest pause of a run of failures.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The first.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

/// How the pauses of several members are kept apart.
#[derive(Clone, Copy, Debug)]
enum Jitter {
    None,
    Random,
    Seeded(u64),
}

impl Pace {
    /// For a database: it is asked often, since everything waits for it.
    pub const STORE: Self = Self { first: Duration::from_millis(100), longest: Duration::from_secs(10) };
    /// For an endpoint.
    pub const ENDPOINT: Self = Self { first: Duration::from_millis(500), longest: Duration::from_secs(30) };

    /// For what a person must mend: seldom, so that it goes on by itself once that is done.
    pub const MENDING: Self = Self { first: Duration::from_secs(5), longest: Duration::from_secs(300) };

    /// With jitter.
    #[must_use]
    pub fn pauses(self) -> Pauses {
        self.with(Jitter::Random)
    }

    /// With a jitter that is this member's own, and always the same.
    #[must_use]
    pub fn pauses_of(self, member: &str) -> Pauses {
        let mut hasher = DefaultHasher::new();
        member.hash(&mut hasher);
        self.with(Jitter::Seeded(hasher.finish()))
    }

    /// Without jitter.
    #[must_use]
    pub fn exact_pauses(self) -> Pauses {
        self.with(Jitter::None)
    }

    fn with(self, jitter: Jitter) -> Pauses {
        Pauses { pace: self, jitter, inner: self.build(jitter) }
    }

    fn build(self, jitter: Jitter) -> ExponentialBackoff {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(self.first)
            .with_max_delay(self.longest)
            .without_max_times();
        match jitter {
            Jitter::None => pauses,
            Jitter::Random => pauses.with_jitter(),
            Jitter::Seeded(seed) => pauses.with_jitter().with_jitter_seed(seed),
        }
        .build()
    }
}

/// The pauses of one run of failures.
#[derive(Debug)]
pub struct Pauses {
    pace: Pace,
    jitter: Jitter,
    inner: ExponentialBackoff,
}

impl Pauses {
    /// The next one.
    #[allow(clippy::should_implement_trait)] // there is always another one
    pub fn next(&mut self) -> Duration {
        self.inner.next().unwrap_or(self.pace.longest)
    }

    /// What failed works again: the next pause is the first.
    pub fn reset(&mut self) {
        self.inner = self.pace.build(self.jitter);
    }
}
