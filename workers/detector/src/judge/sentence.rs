//! What an alert says, in a sentence for a person: that something began, how it goes on, how it ended.

use herd_spec::pipeline::AggregateFunction;
use herd_spec::plan::{ALL_KEY, MetricPlan};
use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, Ending, Episode, FieldPath};

use crate::algorithm::Crossing;

/// What a sentence is about, besides the alert.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    /// The metric that the alert is of.
    pub(super) metric: &'a MetricPlan,
    /// Which way the values left the usual range.
    pub(super) crossing: Crossing,
    /// Whether the detector compares with a fixed bound, which is then the alert's expected value.
    pub(super) is_bound: bool,
}

/// That it began: "product-17 is going viral: 412 views in 10 s, 35 usual (12×), since 20:32:28 UTC".
pub(super) fn begun(alert: &Alert, of: Subject<'_>) -> String {
    let since = alert.episode.as_ref().map_or(alert.start, |episode| episode.since);
    let what = Comparison {
        amount: amount(of, alert.value, span_ms(alert)),
        value: alert.value,
        expected: alert.expected,
        span_ms: span_ms(alert),
        lasted: alert.episode.as_ref().map_or_else(|| span(span_ms(alert) / 1_000), lasted),
    };
    format!("{}, since {}", compared(alert, of, &what), time_of_day(since))
}

/// How it goes on: "product-17 is going viral: up to 412 views in 10 s, 35 usual (12×), 1,530 more than usual in 40 s, since
/// 20:32:28 UTC".
pub(super) fn continued(alert: &Alert, of: Subject<'_>, episode: &Episode) -> String {
    let up_to = match of.crossing {
        Crossing::Up => "up to",
        Crossing::Down => "down to",
    };
    // What a single window is expected to hold: the alert's own value may be of several.
    let expected = alert.expected * ratio(alert.size_ms, span_ms(alert));
    let what = Comparison {
        amount: format!("{up_to} {}", amount(of, episode.peak, alert.size_ms)),
        value: episode.peak,
        expected,
        span_ms: alert.size_ms,
        lasted: lasted(episode),
    };
    let excess = excess(of, episode).map(|excess| format!(", {excess} in {}", lasted(episode)));
    format!(
        "{}{}, since {}",
        compared(alert, of, &what),
        excess.unwrap_or_default(),
        time_of_day(episode.since)
    )
}

/// How it ended: "product-17 is back to usual after 4 min 10 s: peak 412 views in 10 s, 5,120 more than usual".
pub(super) fn ended(alert: &Alert, of: Subject<'_>, episode: &Episode, ending: Ending) -> String {
    let size_ms = &alert.size_ms;
    let key = if alert.key == ALL_KEY { "everything" } else { &alert.key };
    let after = lasted(episode);
    let how = match ending {
        Ending::Usual if of.is_bound => format!("{key} is within the bound again after {after}"),
        Ending::Usual => format!("{key} is back to usual after {after}"),
        Ending::NewLevel(level) => {
            format!("{key} has a new usual level after {after}: {}", amount(of, level, *size_ms))
        }
    };
    let furthest = match of.crossing {
        Crossing::Up => "peak",
        Crossing::Down => "lowest",
    };
    let peak = amount(of, episode.peak, *size_ms);
    let joined = if matches!(ending, Ending::Usual) { ":" } else { "," };
    let excess = excess(of, episode).map(|excess| format!(", {excess}")).unwrap_or_default();
    format!("{how}{joined} {furthest} {peak}{excess}")
}

/// A value beside what was expected.
struct Comparison {
    /// The value in words.
    amount: String,
    value: f64,
    expected: f64,
    /// The time that both are of, in milliseconds.
    span_ms: u64,
    /// How long it has lasted.
    lasted: String,
}

/// That a value is out of its usual range.
fn compared(alert: &Alert, of: Subject<'_>, what: &Comparison) -> String {
    if alert.key == ALL_KEY {
        return whole_compared(of, what);
    }
    let Comparison { amount, value, expected, .. } = what;
    let (value, expected) = (*value, *expected);
    let key = &alert.key;
    if of.is_bound {
        let side = if of.crossing == Crossing::Up { "above" } else { "below" };
        return format!("{key}: {amount}, {side} the bound of {}", number(expected));
    }
    let counts =
        matches!(of.metric.aggregate.function(), AggregateFunction::Count | AggregateFunction::Unique);
    let is_item = of.metric.key == [FieldPath::ItemId];
    let what = match of.crossing {
        Crossing::Up if counts && is_item => "is going viral",
        Crossing::Up => "is above its usual range",
        Crossing::Down => "is below its usual range",
    };
    let times = value / expected;
    let times = match of.crossing {
        Crossing::Up if times > 1.0 && times <= 1_000.0 => format!(" ({}×)", number(times)),
        _ => String::new(),
    };
    let usual = match number(expected).as_str() {
        "0" => "none usual".to_owned(),
        usual => format!("{usual} usual"),
    };
    format!("{key} {what}: {amount}, {usual}{times}")
}

/// Of a whole metric: "everything is up 3.9×: 2,340 views in 10 s, 600 usual", "no views for 2 min: usually 600 in 10 s".
fn whole_compared(of: Subject<'_>, what: &Comparison) -> String {
    let Comparison { amount, value, expected, span_ms, lasted } = what;
    let (usual, least) = (number(*expected), expected.max(f64::MIN_POSITIVE));
    match of.crossing {
        Crossing::Down if *value == 0.0 => {
            format!("no {} for {lasted}: usually {usual} in {}", of.metric.name, span(span_ms / 1_000))
        }
        Crossing::Down => {
            let percent = 100.0 * value / least;
            format!("everything is down to {} %: {amount}, {usual} usual", number(percent.round()))
        }
        Crossing::Up => {
            let times = value / least;
            let times = if times <= 1_000.0 { format!(" {}×", number(times)) } else { String::new() };
            format!("everything is up{times}: {amount}, {usual} usual")
        }
    }
}

/// A value with its metric and its time: "412 views in 10 s".
fn amount(of: Subject<'_>, value: f64, span_ms: u64) -> String {
    let only = if of.crossing == Crossing::Down { "only " } else { "" };
    let (value, name) = (number(value), &of.metric.name);
    let what = match of.metric.aggregate.function() {
        AggregateFunction::Count | AggregateFunction::Unique => format!("{only}{value} {name}"),
        AggregateFunction::Sum => format!("{name} of {only}{value}"),
        AggregateFunction::Mean => format!("{name} of {only}{value} on average"),
    };
    format!("{what} in {}", span(span_ms / 1_000))
}

/// How much more or less than usual all windows held together; a mean does not add up, and a bound is nothing usual.
fn excess(of: Subject<'_>, episode: &Episode) -> Option<String> {
    if of.is_bound || of.metric.aggregate.function() == AggregateFunction::Mean {
        return None;
    }
    let side = if of.crossing == Crossing::Up { "more" } else { "less" };
    Some(format!("{} {side} than usual", number(episode.excess.abs())))
}

/// The time that the value of an alert is of, in milliseconds.
fn span_ms(alert: &Alert) -> u64 {
    if alert.span_ms == 0 { alert.size_ms } else { alert.span_ms }
}

#[allow(clippy::cast_precision_loss)] // lengths of a few windows
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn lasted(episode: &Episode) -> String {
    span(u64::try_from((episode.until.0 - episode.since.0) / 1_000).unwrap_or_default())
}

fn time_of_day(time: EventTime) -> String {
    match jiff::Timestamp::from_millisecond(time.0) {
        Ok(time) => time.strftime("%H:%M:%S UTC").to_string(),
        Err(_) => format!("{} ms", time.0), // not a time that a calendar has
    }
}

/// As a person writes it: no decimals from ten on, one below, two below one, none that are zero, and thousands apart.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 10.0 => 0,
        size if size >= 1.0 => 1,
        _ => 2,
    };
    let written = format!("{value:.decimals$}");
    match written.split_once('.') {
        Some(_) => match written.trim_end_matches('0').trim_end_matches('.') {
            "-0" => "0".to_owned(),
            written => written.to_owned(),
        },
        None => thousands(&written),
    }
}

/// Sets the thousands of a whole number apart with commas.
pub(crate) fn thousands(written: &str) -> String {
    let (sign, digits) = match written.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", written),
    };
    let mut apart = String::from(sign);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

/// A length of time: "10 s", "4 min 10 s", "2 h 5 min".
fn span(seconds: u64) -> String {
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(412.0, "412")]
    #[case(35.04, "35")]
    #[case(5.96, "6")]
    #[case(2.52, "2.5")]
    #[case(0.043, "0.04")]
    #[case(0.0, "0")]
    #[case(-0.001, "0")]
    #[case(-3.25, "-3.2")]
    #[case(5120.3, "5,120")]
    #[case(-1_234_567.0, "-1,234,567")]
    #[case(999.6, "1,000")]
    fn numbers_are_written_for_people(#[case] value: f64, #[case] written: &str) {
        assert_eq!(number(value), written);
    }

    #[rstest]
    #[case(2, "2 s")]
    #[case(60, "1 min")]
    #[case(250, "4 min 10 s")]
    #[case(3_600, "1 h")]
    #[case(7_510, "2 h 5 min")]
    fn lengths_of_time_are_written_for_people(#[case] seconds: u64, #[case] written: &str) {
        assert_eq!(span(seconds), written);
    }
}
