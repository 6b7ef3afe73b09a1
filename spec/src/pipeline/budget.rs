use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of alerts in a period, as written in a spec: `5 per day`, `2 per hour`, `0.5 per week`, or an integer, which is a number
/// per day. It is written back with its period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    alerts: f64,
    period: Period,
}

/// Period of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Hour,
    Day,
    Week,
}

impl Period {
    const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }
}

/// Most digits of a budget before its decimal point, and most after it.
const DIGITS: usize = 9;

impl Budget {
    /// `alerts` per day.
    #[must_use]
    pub const fn per_day(alerts: f64) -> Self {
        Self { alerts, period: Period::Day }
    }

    /// Number of alerts in a day.
    #[must_use]
    pub fn alerts_per_day(&self) -> f64 {
        match self.period {
            Period::Hour => self.alerts * 24.0,
            Period::Day => self.alerts,
            Period::Week => self.alerts / 7.0,
        }
    }

    /// `5 alerts per day`, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let plural = if self.alerts == 1.0 { "" } else { "s" };
        format!("{} alert{plural} per {}", self.alerts, self.period.name())
    }
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{written}` is not a number of alerts in a period: write e.g. `5 per day`, `2 per hour`, `10 per week`"
            )
        };
        let (number, name) = written.split_once(" per ").ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_digits =
            |text: &str| (1..=DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) {
            return Err(wrong());
        }
        let period = Period::ALL.into_iter().find(|period| period.name() == name).ok_or_else(wrong)?;
        Ok(Self { alerts: number.parse().map_err(|_| wrong())?, period })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {}", self.alerts, self.period.name())
    }
}

impl Serialize for Budget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl serde::de::Visitor<'_> for Written {
            type Value = Budget;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of alerts in a period, e.g. `5 per day`, or an integer")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Budget, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Budget, E> {
                u64::try_from(number)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
                    .and_then(|number| self.visit_u64(number))
            }

            #[allow(clippy::cast_precision_loss)] // numbers so large are out of the range of a budget
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Budget, E> {
                Ok(Budget::per_day(number as f64))
            }
        }

        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Budget {
    fn schema_name() -> Cow<'static, str> {
        "Budget".into()
    }

    fn inline_schema() -> bool {
        true
    }

    // As Kubernetes describes its quantities: the bounds apply to an integer, the pattern to a text.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 1,
            "maximum": 100_000,
            "pattern": "^[0-9]{1,9}([.][0-9]{1,9})? per (hour|day|week)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("5 per day", "5 per day", 5.0)]
    #[case("2 per hour", "2 per hour", 48.0)]
    #[case("10 per week", "10 per week", 10.0 / 7.0)]
    #[case("007.50 per day", "7.5 per day", 7.5)]
    #[case("0.01 per day", "0.01 per day", 0.01)]
    fn parses_a_budget(#[case] written: &str, #[case] again: &str, #[case] per_day: f64) {
        let budget: Budget = written.parse().unwrap();
        assert_eq!((budget.to_string().as_str(), budget.alerts_per_day()), (again, per_day));
    }

    #[rstest]
    #[case("")]
    #[case("5")]
    #[case("5 a day")]
    #[case("5 per  day")]
    #[case("5 per days")]
    #[case(" per day")]
    #[case("-5 per day")]
    #[case("1e3 per day")]
    #[case(".5 per day")]
    #[case("5. per day")]
    #[case("inf per day")]
    #[case("1234567890 per day")]
    fn rejects_an_invalid_budget_with_examples(#[case] written: &str) {
        let error = written.parse::<Budget>().unwrap_err();
        assert!(error.contains("`5 per day`"), "{error}");
    }

    #[rstest]
    #[case("5", Some("5 per day"))]
    #[case("\"5 per week\"", Some("5 per week"))]
    #[case("-5", None)]
    #[case("0.5", None)]
    #[case("[]", None)]
    fn reads_an_integer_as_a_number_per_day(#[case] json: &str, #[case] written: Option<&str>) {
        let budget = serde_json::from_str::<Budget>(json).ok();
        assert_eq!(budget.map(|budget| budget.to_string()).as_deref(), written);
    }

    #[rstest]
    #[case("1 per hour", "1 alert per hour")]
    #[case("0.5 per day", "0.5 alerts per day")]
    fn is_described_in_words(#[case] written: &str, #[case] words: &str) {
        assert_eq!(written.parse::<Budget>().unwrap().describe(), words);
    }

    proptest! {
        #[test]
        fn parses_what_it_prints(whole in 0_u32..1_000_000_000, fraction in 0_u32..1_000_000, period in 0..3_usize) {
            let period = Period::ALL[period];
            let budget = Budget { alerts: format!("{whole}.{fraction:06}").parse().unwrap(), period };
            prop_assert_eq!(budget.to_string().parse::<Budget>(), Ok(budget));
        }
    }
}
