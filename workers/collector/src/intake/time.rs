//! Parsing of event times.

use herd_spec::units::EventTime;

/// The unit of a number is derived from its magnitude. Numbers below this are seconds: it is in 1973 as milliseconds and in 5138
/// as seconds.
const SECONDS_BELOW: f64 = 1e11;
/// Numbers below this are milliseconds.
const MILLIS_BELOW: f64 = 1e14;
/// Numbers below this are microseconds, larger ones nanoseconds.
const MICROS_BELOW: f64 = 1e17;
/// The end of the year 9999, in milliseconds.
const END: f64 = 253_402_300_800_000.0;

const HELP: &str =
    "write RFC 3339 (2026-01-01T10:00:00Z), or seconds, milliseconds, microseconds or nanoseconds since 1970";

/// Parses RFC 3339, or seconds, milliseconds, microseconds or nanoseconds since 1970, as a number or as its digits in a string.
///
/// # Errors
/// Why it is not a time.
pub(super) fn read(written: &str) -> Result<EventTime, String> {
    let shown = || super::shorten(written);
    if let Ok(number) = written.parse::<f64>() {
        return of_number(number).ok_or_else(|| format!("`{}` is not a time: {HELP}", shown()));
    }
    match written.parse::<jiff::Timestamp>() {
        Ok(time) if time.as_millisecond() >= 0 => Ok(EventTime(time.as_millisecond())),
        Ok(_) => Err(format!("`{}` is before 1970", shown())),
        Err(_) if written.parse::<jiff::civil::DateTime>().is_ok() && written.contains(':') => {
            Err(format!("`{}` has no UTC offset: append it, `Z` for UTC or e.g. `+02:00`", shown()))
        }
        Err(_) => Err(format!("`{}` is not a time: {HELP}", shown())),
    }
}

fn of_number(number: f64) -> Option<EventTime> {
    let size = number.abs();
    let millis = if size < SECONDS_BELOW {
        number * 1e3
    } else if size < MILLIS_BELOW {
        number
    } else if size < MICROS_BELOW {
        number / 1e3
    } else {
        number / 1e6
    };
    // In range, so only fractions of a millisecond are truncated.
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
    #[case::microseconds("1700000000123456", 1_700_000_000_123)]
    #[case::nanoseconds("1700000000123456789", 1_700_000_000_123)]
    #[case::microseconds_as_a_float("1.700000000123e15", 1_700_000_000_123)]
    fn parses_all_supported_formats(#[case] written: &str, #[case] millis: i64) {
        assert_eq!(read(written), Ok(EventTime(millis)));
    }

    #[rstest]
    #[case("yesterday")]
    #[case("2023-11-14")]
    #[case("2023-13-14T22:13:20Z")]
    #[case("-1")]
    #[case("NaN")]
    #[case("inf")]
    #[case("3e20")]
    #[case("-1700000000123456")]
    #[case("1960-01-01T00:00:00Z")]
    #[case("")]
    fn rejects_an_invalid_time(#[case] written: &str) {
        assert!(read(written).is_err());
    }

    #[rstest]
    #[case("2023-11-14T22:13:20")]
    #[case("2023-11-14 22:13:20.123")]
    fn rejects_a_time_without_utc_offset(#[case] written: &str) {
        let why = read(written).unwrap_err();
        assert!(
            why.contains(written) && why.contains("no UTC offset") && why.contains("`Z` for UTC"),
            "{why}"
        );
    }
}
