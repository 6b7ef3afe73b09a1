//! When something happened, in the ways people write it.

use herd_spec::units::EventTime;

/// Numbers below this are seconds, others milliseconds: as milliseconds it is in 1973, as seconds in the year 5138.
const SECONDS_BELOW: f64 = 1e11;
/// The end of the year 9999, in milliseconds.
const END: f64 = 253_402_300_800_000.0;

const HELP: &str = "write RFC 3339 (2026-01-01T10:00:00Z), or seconds or milliseconds since 1970";

/// Reads RFC 3339, or seconds or milliseconds since 1970, as a number or as its digits in a string.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(written: &str) -> Result<EventTime, String> {
    if let Ok(number) = written.parse::<f64>() {
        return of_number(number)
            .ok_or_else(|| format!("`{}` is not a time: {HELP}", super::shorten(written)));
    }
    match written.parse::<jiff::Timestamp>() {
        Ok(time) if time.as_millisecond() >= 0 => Ok(EventTime(time.as_millisecond())),
        Ok(_) => Err(format!("`{}` is before 1970", super::shorten(written))),
        Err(_) => Err(format!("`{}` is not a time: {HELP}", super::shorten(written))),
    }
}

fn of_number(number: f64) -> Option<EventTime> {
    let millis = if number.abs() < SECONDS_BELOW { number * 1000.0 } else { number };
    // In range, so nothing is cut off but what is less than a millisecond.
    #[allow(clippy::cast_possible_truncation)]
    (0.0..END).contains(&millis).then(|| EventTime(millis.round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("2023-11-14T22:13:20Z", 1_700_000_000_000)]
    #[case("2023-11-14T23:13:20.123+01:00", 1_700_000_000_123)]
    #[case("1700000000", 1_700_000_000_000)]
    #[case("1700000000.5", 1_700_000_000_500)]
    #[case("1700000000123", 1_700_000_000_123)]
    #[case("1.7e9", 1_700_000_000_000)]
    #[case("0", 0)]
    fn times_are_read_in_every_usual_way(#[case] written: &str, #[case] millis: i64) {
        assert_eq!(read(written), Ok(EventTime(millis)));
    }

    #[rstest]
    #[case("yesterday")]
    #[case("2023-11-14")]
    #[case("2023-13-14T22:13:20Z")]
    #[case("-1")]
    #[case("NaN")]
    #[case("inf")]
    #[case("1700000000123000")]
    #[case("1960-01-01T00:00:00Z")]
    #[case("")]
    fn what_is_no_time_is_said_to_be_none(#[case] written: &str) {
        assert!(read(written).is_err());
    }
}
