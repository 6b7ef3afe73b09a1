//! When messages about the alerts of a detector are held back: quiet hours and muted keys. Alerts are raised, stored and shown all
//! the same.

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use crate::pipeline::{AlertsSpec, DetectorSpec, MuteSpec, QuietHoursSpec, Weekday};
use crate::problem::{Invalid, SpecPath};
use crate::scale::schedule::time_zone;
use crate::units::WallTime;

/// Most quiet hours, and most mutes, of a detector.
const MAX_ENTRIES: usize = 16;
/// Most patterns of a mute.
const MAX_KEYS: usize = 100;
/// Quiet times that follow each other without a pause are taken together, at most so many: after that long, what was held back is
/// delivered even where it is never loud.
const MAX_CHAIN: usize = 32;
const MINUTES_OF_DAY: u16 = 24 * 60;

/// When messages about the alerts of a detector are held back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuietPlan {
    /// Hours that come again each day or week.
    pub hours: Vec<QuietHours>,
    /// Keys that are muted up to some time.
    pub mutes: Vec<Mute>,
}

/// Hours of a day, in a time zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuietHours {
    /// Minute of the day at which they begin: 0 to 1439.
    from: u16,
    /// Minute of the day at which they end, 1440 for its end; on the next day if not after `from`.
    to: u16,
    /// Name of a time zone that there is.
    time_zone: String,
    /// Days on which they begin; empty: all.
    days: Vec<Weekday>,
}

/// Keys that are muted up to some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mute {
    /// The end.
    pub until: WallTime,
    /// Patterns that are known to be some; empty: all keys.
    keys: Vec<String>,
}

/// The quiet time that a moment is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// Its end: the first moment that is no longer in it.
    pub until: WallTime,
    /// What it is, for people: `22:00–07:00 Europe/Berlin`.
    pub name: String,
}

impl QuietPlan {
    /// The quiet times of the detectors that have some, by name.
    pub(super) fn of_detectors(
        specs: &[DetectorSpec],
        at: &SpecPath<'_>,
    ) -> Result<BTreeMap<String, Self>, Invalid> {
        let parsed = at.each(specs, |spec, at| {
            Ok((spec.name.clone(), Self::parse(&spec.alerts, &at.child("alerts"))?))
        })?;
        Ok(parsed.into_iter().filter(|(_, quiet)| *quiet != Self::default()).collect())
    }

    fn parse(spec: &AlertsSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let few = |name: &str, entries: usize| {
            at.child(name).require(
                entries <= MAX_ENTRIES,
                format!("has {entries} entries, at most {MAX_ENTRIES} are allowed"),
            )
        };
        let few = few("quietHours", spec.quiet_hours.len()).and(few("mute", spec.mute.len()));
        let hours = at.child("quietHours").each(&spec.quiet_hours, QuietHours::parse);
        let mutes = at.child("mute").each(&spec.mute, Mute::parse);
        few?;
        Ok(Self { hours: hours?, mutes: mutes? })
    }

    /// The quiet time of alerts of this key that `time` is in; times that follow each other without a pause are one. A function of its
    /// arguments alone, so that it is the same after a restart.
    #[must_use]
    pub fn at(&self, key: &str, time: WallTime) -> Option<Quiet> {
        let spans = |time: WallTime| {
            let hours =
                self.hours.iter().filter_map(move |hours| Some((hours.end(time)?, hours.to_string())));
            let muting = self.mutes.iter().filter(move |mute| time < mute.until && mute.matches(key));
            hours.chain(muting.map(|mute| (mute.until, format!("muted until {}", mute.until.rfc3339()))))
        };
        let mut names: Vec<String> = Vec::new();
        let mut until = time;
        for _ in 0..MAX_CHAIN {
            let Some((end, name)) = spans(until).max() else { break };
            until = end;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        (until > time).then(|| Quiet { until, name: names.join(", ") })
    }
}

impl QuietHours {
    fn parse(spec: &QuietHoursSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let minute = |name: &str, written: &str, most: u16| {
            minute_of_day(written).filter(|minute| *minute <= most).ok_or_else(|| {
                at.child(name)
                    .invalid(format!("`{written}` is not a time of day: write `HH:MM`, e.g. `22:00`"))
            })
        };
        let from = minute("from", &spec.from, MINUTES_OF_DAY - 1);
        let to = minute("to", &spec.to, MINUTES_OF_DAY);
        let zone =
            time_zone(&spec.time_zone).map_err(|error| at.child("timeZone").invalid(error.to_string()));
        let (from, to) = (from?, to?);
        at.child("to").require(
            from != to,
            "is the same time as `from`: for whole days write `from: \"00:00\"` and `to: \"24:00\"`",
        )?;
        zone?;
        Ok(Self { from, to, time_zone: spec.time_zone.clone(), days: spec.days.clone() })
    }

    /// The end of these hours if `time` is in them. A beginning or end that daylight saving time skips is as much later; of one that
    /// comes twice, the first counts.
    fn end(&self, time: WallTime) -> Option<WallTime> {
        // Parsed before, so that there is one.
        let zone = time_zone(&self.time_zone).unwrap_or(TimeZone::UTC);
        let now = Timestamp::from_millisecond(time.0).ok()?;
        let today = now.to_zoned(zone.clone()).date();
        let moment = |civil: DateTime| civil.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp());
        let within = |begins: Date| {
            let overnight = self.to <= self.from;
            let end_day = if overnight { begins.tomorrow().ok()? } else { begins };
            let (start, end) =
                (moment(at_minute(begins, self.from)?)?, moment(at_minute(end_day, self.to)?)?);
            let is_day = self.days.is_empty() || self.days.contains(&weekday(begins));
            (is_day && start <= now && now < end).then_some(WallTime(end.as_millisecond()))
        };
        [today.yesterday().ok(), Some(today)].into_iter().flatten().filter_map(within).max()
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}–{} {}", time(self.from), time(self.to), self.time_zone)
    }
}

impl Mute {
    fn parse(spec: &MuteSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let until = spec.until.parse::<Timestamp>().map_err(|_| {
            at.child("until").invalid(format!(
                "`{}` is not a time: write it in RFC 3339, e.g. `2026-12-01T08:00:00Z`",
                spec.until
            ))
        });
        let few = at.child("keys").require(
            spec.keys.len() <= MAX_KEYS,
            format!("has {} entries, at most {MAX_KEYS} are allowed", spec.keys.len()),
        );
        let keys = at.child("keys").each(&spec.keys, |pattern, at| {
            glob::Pattern::new(pattern).map_err(|error| {
                at.invalid(format!(
                    "`{pattern}` is not a pattern of keys: {}; write e.g. `product-1*`",
                    error.msg
                ))
            })
        });
        few?;
        keys?;
        Ok(Self { until: WallTime(until?.as_millisecond()), keys: spec.keys.clone() })
    }

    fn matches(&self, key: &str) -> bool {
        let fits = |pattern: &String| glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(key));
        self.keys.is_empty() || self.keys.iter().any(fits)
    }
}

/// `HH:MM` as a minute of the day, up to `24:00`.
fn minute_of_day(written: &str) -> Option<u16> {
    let (hours, minutes) = written.split_once(':')?;
    let digits = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u16>().ok())?
    };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= MINUTES_OF_DAY).then_some(minute)
}

fn at_minute(date: Date, minute: u16) -> Option<DateTime> {
    date.at(0, 0, 0, 0).checked_add(i64::from(minute).minutes()).ok()
}

fn weekday(date: Date) -> Weekday {
    match date.weekday() {
        jiff::civil::Weekday::Monday => Weekday::Mon,
        jiff::civil::Weekday::Tuesday => Weekday::Tue,
        jiff::civil::Weekday::Wednesday => Weekday::Wed,
        jiff::civil::Weekday::Thursday => Weekday::Thu,
        jiff::civil::Weekday::Friday => Weekday::Fri,
        jiff::civil::Weekday::Saturday => Weekday::Sat,
        jiff::civil::Weekday::Sunday => Weekday::Sun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn hours(from: &str, to: &str, zone: &str, days: &[Weekday]) -> QuietHours {
        QuietHours {
            from: minute_of_day(from).unwrap(),
            to: minute_of_day(to).unwrap(),
            time_zone: zone.into(),
            days: days.to_vec(),
        }
    }

    fn time(written: &str) -> WallTime {
        WallTime(written.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn end(plan: &QuietPlan, at: &str) -> Option<String> {
        plan.at("mug", time(at)).map(|quiet| quiet.until.rfc3339().replace(":00.000Z", "Z"))
    }

    #[rstest]
    #[case::before("2026-01-14T20:59:59Z", None)]
    #[case::at_its_beginning("2026-01-14T21:00:00Z", Some("2026-01-15T06:00Z"))]
    #[case::across_midnight("2026-01-15T00:30:00Z", Some("2026-01-15T06:00Z"))]
    #[case::at_its_end("2026-01-15T06:00:00Z", None)]
    #[case::in_summer("2026-07-14T20:00:00Z", Some("2026-07-15T05:00Z"))]
    // Clocks go forward on 29 March at 01:00 UTC, and back on 25 October at 01:00 UTC.
    #[case::a_short_night("2026-03-28T21:00:00Z", Some("2026-03-29T05:00Z"))]
    #[case::a_long_night("2026-10-24T20:00:00Z", Some("2026-10-25T06:00Z"))]
    #[case::the_end_of_a_long_night("2026-10-25T05:59:59Z", Some("2026-10-25T06:00Z"))]
    fn a_night_in_berlin(#[case] at: &str, #[case] until: Option<&str>) {
        let plan =
            QuietPlan { hours: vec![hours("22:00", "07:00", "Europe/Berlin", &[])], mutes: Vec::new() };
        assert_eq!(end(&plan, at).as_deref(), until);
    }

    #[rstest]
    // 02:30 does not exist on 29 March: it begins at 03:30.
    #[case::skipped("2026-03-29T01:29:00Z", None)]
    #[case::as_much_later("2026-03-29T01:30:00Z", Some("2026-03-29T02:00Z"))]
    // On 25 October 02:30 comes twice: the first counts, and 04:00 is two and a half hours later.
    #[case::the_first_of_two("2026-10-25T00:30:00Z", Some("2026-10-25T03:00Z"))]
    fn a_change_of_the_clock_within_the_hours(#[case] at: &str, #[case] until: Option<&str>) {
        let plan =
            QuietPlan { hours: vec![hours("02:30", "04:00", "Europe/Berlin", &[])], mutes: Vec::new() };
        assert_eq!(end(&plan, at).as_deref(), until);
    }

    #[test]
    fn days_are_those_of_the_beginning_and_adjacent_times_are_one() {
        use Weekday::{Fri, Sat, Sun};
        let night = hours("22:00", "07:00", "UTC", &[Fri]);
        let only = QuietPlan { hours: vec![night.clone()], mutes: Vec::new() };
        // 2026-01-16 is a Friday.
        assert_eq!(end(&only, "2026-01-16T23:00:00Z").as_deref(), Some("2026-01-17T07:00Z"));
        assert_eq!(end(&only, "2026-01-17T06:59:00Z").as_deref(), Some("2026-01-17T07:00Z"));
        assert_eq!(end(&only, "2026-01-17T23:00:00Z"), None);
        let weekend = hours("00:00", "24:00", "UTC", &[Sat, Sun]);
        let both = QuietPlan { hours: vec![night, weekend], mutes: Vec::new() };
        assert_eq!(end(&both, "2026-01-16T23:00:00Z").as_deref(), Some("2026-01-19T00:00Z"));
        let quiet = both.at("mug", time("2026-01-16T23:00:00Z")).unwrap();
        assert_eq!(quiet.name, "22:00–07:00 UTC, 00:00–24:00 UTC");
    }

    #[test]
    fn what_is_never_loud_has_an_end() {
        let always = QuietPlan { hours: vec![hours("00:00", "24:00", "UTC", &[])], mutes: Vec::new() };
        assert_eq!(end(&always, "2026-01-01T12:00:00Z").as_deref(), Some("2026-02-02T00:00Z"));
    }

    #[test]
    fn a_mute_holds_for_its_keys_up_to_its_end() {
        let mute = |until: &str, keys: &[&str]| Mute {
            until: time(until),
            keys: keys.iter().map(|key| (*key).into()).collect(),
        };
        let plan = QuietPlan {
            hours: Vec::new(),
            mutes: vec![
                mute("2026-01-01T00:00:00Z", &["pot", "product-1*"]),
                mute("2026-01-03T00:00:00Z", &["m?g"]),
            ],
        };
        let until = |key: &str, at: &str| plan.at(key, time(at)).map(|quiet| quiet.name);
        assert_eq!(
            until("mug", "2026-01-02T00:00:00Z").as_deref(),
            Some("muted until 2026-01-03T00:00:00.000Z")
        );
        assert_eq!(until("mug", "2026-01-03T00:00:00Z"), None);
        assert!(until("product-17", "2025-12-31T00:00:00Z").is_some());
        assert_eq!(until("product-2", "2025-12-31T00:00:00Z"), None);
        assert_eq!(until("pot", "2026-01-02T00:00:00Z"), None);
    }
}
