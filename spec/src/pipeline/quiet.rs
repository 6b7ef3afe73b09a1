use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Hours in which webhooks are sent no messages about the alerts of a detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuietHoursSpec {
    /// Time of day at which they begin: `HH:MM`, e.g. `22:00`.
    pub from: String,
    /// Time of day at which they end: `HH:MM`, up to `24:00`. Before `from`: on the next day.
    pub to: String,
    /// IANA name of the time zone of `from` and `to`, e.g. `Europe/Berlin`.
    #[serde(default = "default_time_zone")]
    pub time_zone: String,
    /// Days on which they begin. Omitted: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Weekday>,
}

fn default_time_zone() -> String {
    "UTC".into()
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Keys whose alerts are not sent to webhooks for some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MuteSpec {
    /// End of the time, in RFC 3339, e.g. `2026-12-01T08:00:00Z`.
    pub until: String,
    /// Patterns of the keys: `*` stands for any characters, `?` for one, `[ab]` for one of some. Omitted: all keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}
