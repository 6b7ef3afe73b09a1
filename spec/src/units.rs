//! Types that carry their unit.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A record's place in one partition, from 0. As a committed position: the offset of the *next* record.
    Offset(i64)
);
number!(
    /// A partition of a topic, from 0.
    Partition(u32)
);
number!(
    /// How many pods (or members in one process) of a stage.
    Replicas(u32)
);
number!(
    /// When something happened by the event's own account: milliseconds since 1970-01-01T00:00:00Z.
    EventTime(i64)
);
number!(
    /// When Herd did something, by the clock of the machine it ran on: milliseconds since 1970-01-01T00:00:00Z.
    WallTime(i64)
);

impl Offset {
    /// The offset after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Whole milliseconds of a duration, for arithmetic with the times of this module. Saturates at `i64::MAX`.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

macro_rules! instant {
    ($name:ident) => {
        impl $name {
            /// This time plus `duration`; saturates at the ends of the range.
            #[must_use]
            pub fn plus(self, duration: Duration) -> Self {
                Self(self.0.saturating_add(millis(duration)))
            }

            /// This time less `duration`; saturates at the ends of the range.
            #[must_use]
            pub fn minus(self, duration: Duration) -> Self {
                Self(self.0.saturating_sub(millis(duration)))
            }

            /// How long after `earlier` this time is; zero if it is before.
            #[must_use]
            pub fn since(self, earlier: Self) -> Duration {
                Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
            }

            /// RFC 3339 in UTC with milliseconds, for people and for JSON.
            #[must_use]
            pub fn rfc3339(self) -> String {
                jiff::Timestamp::from_millisecond(self.0)
                    .map_or_else(|_| self.0.to_string(), |t| format!("{t:.3}"))
            }
        }
    };
}
instant!(EventTime);
instant!(WallTime);

impl EventTime {
    /// The start of the window of `size` that this time falls in. Windows are aligned to 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn window_start(self, size: Duration) -> Self {
        let size = millis(size).max(1);
        Self(self.0.div_euclid(size) * size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_time_falls_in_exactly_the_window_that_starts_at_or_before_it(t in -1_000_000_000_000_i64..4_000_000_000_000, s in 1_u64..600) {
            let size = Duration::from_secs(s);
            let start = EventTime(t).window_start(size);
            prop_assert!(start.0 <= t && t < start.plus(size).0);
            prop_assert_eq!(start.window_start(size), start);
        }
    }

    #[test]
    fn times_print_in_utc_with_milliseconds() {
        assert_eq!(WallTime(1_700_000_000_123).rfc3339(), "2023-11-14T22:13:20.123Z");
    }
}
