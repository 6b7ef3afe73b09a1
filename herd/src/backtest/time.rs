//! The part of the past that is looked at.

use std::str::FromStr;
use std::time::Duration;

use herd_spec::pipeline::Span;
use herd_spec::units::{EventTime, WallTime};

/// A time as it is written: RFC 3339, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A time.
    At(EventTime),
    /// So long before now.
    Ago(Duration),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        if let Ok(time) = written.parse::<jiff::Timestamp>() {
            return Ok(Self::At(EventTime(time.as_millisecond())));
        }
        let span: Span = written.parse().map_err(|_| {
            format!(
                "`{written}` is not a time: write it as 2026-01-31T08:00:00Z, or how long ago, e.g. 7d or 12h"
            )
        })?;
        Ok(Self::Ago(span.0))
    }
}

impl Moment {
    /// The time, with `now` as the present.
    pub(super) fn at(self, now: WallTime) -> EventTime {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => EventTime(now.0).minus(span),
        }
    }
}

/// Event times: what is read, and what of it is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TimeRange {
    /// Alerts before it are not reported.
    pub(super) since: Option<EventTime>,
    /// Events from it on are not read.
    pub(super) until: Option<EventTime>,
    /// How much before `since` is read; none: everything.
    pub(super) warmup: Option<Duration>,
}

impl TimeRange {
    /// The first time to be read; none: the first event.
    pub(super) fn from(&self) -> Option<EventTime> {
        self.since.zip(self.warmup).map(|(since, warmup)| since.minus(warmup))
    }

    /// Whether every event is read.
    pub(super) fn is_all(&self) -> bool {
        self.from().is_none() && self.until.is_none()
    }

    /// Whether an event of this time is read.
    pub(super) fn reads(&self, time: EventTime) -> bool {
        self.from().is_none_or(|from| time >= from) && self.until.is_none_or(|until| time < until)
    }

    /// Whether a window that starts at this time is reported.
    pub(super) fn reports(&self, start: EventTime) -> bool {
        self.since.is_none_or(|since| start >= since)
    }
}

impl std::fmt::Display for TimeRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.since, self.until) {
            (None, None) => f.write_str("at any time"),
            (Some(since), None) => write!(f, "since {}", since.rfc3339()),
            (None, Some(until)) => write!(f, "before {}", until.rfc3339()),
            (Some(since), Some(until)) => write!(f, "from {} to {}", since.rfc3339(), until.rfc3339()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOW: WallTime = WallTime(1_700_000_000_000);

    #[rstest]
    #[case("2023-11-14T22:13:20Z", Some(1_700_000_000_000))]
    #[case("2023-11-14T23:13:20.5+01:00", Some(1_700_000_000_500))]
    #[case("2h", Some(1_699_992_800_000))]
    #[case("7d", Some(1_699_395_200_000))]
    #[case("yesterday", None)]
    #[case("7", None)]
    fn parses_times(#[case] written: &str, #[case] expected: Option<i64>) {
        let seen = written.parse::<Moment>().ok().map(|moment| moment.at(NOW).0);
        assert_eq!(seen, expected);
    }

    #[test]
    fn reads_the_warmup_but_does_not_report_it() {
        let range = TimeRange {
            since: Some(EventTime(1_000)),
            until: Some(EventTime(2_000)),
            warmup: Some(Duration::from_millis(100)),
        };
        let seen = |time| (range.reads(EventTime(time)), range.reports(EventTime(time)));
        let expected =
            [(899, (false, false)), (900, (true, false)), (1_000, (true, true)), (2_000, (false, true))];
        expected.iter().for_each(|(time, expected)| assert_eq!(seen(*time), *expected, "{time}"));
    }
}
