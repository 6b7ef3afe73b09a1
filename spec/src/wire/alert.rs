//! A detector's verdict on one window of one key.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{Fingerprint, WireError, check_version, write_json};
use crate::units::EventTime;

/// How much an alert matters.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look.
    #[default]
    Warning,
    /// Worth waking someone.
    Critical,
}

/// Identity of an alert: the same (pipeline, detector, key, window start) gives the same id, wherever and however often
/// it is computed. 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AlertId(pub String);

impl AlertId {
    /// The id of what `detector` says of the window of `key` that starts at `start`: XXH3-128 of the four.
    #[must_use]
    pub fn of(pipeline: &str, detector: &str, key: &str, start: EventTime) -> Self {
        let mut hash = Xxh3::new();
        for part in [pipeline, detector, key] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.update(&start.0.to_le_bytes());
        Self(format!("{:032x}", hash.digest128()))
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an alert is in its life. Records of one alert may come twice or out of order: the highest state wins
/// ([`AlertState::rank`]), so every store ends with the same row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The window is still open and already out of the usual range.
    Early,
    /// The window closed out of the usual range.
    Firing,
    /// A later window of the key was usual again.
    Resolved,
    /// Raised early, then found to belong to an alert of an earlier window that was still open at the time: not shown.
    Withdrawn,
}

impl AlertState {
    /// Place in the life of an alert; never goes down.
    #[must_use]
    pub fn rank(self) -> u8 {
        self as u8
    }

    /// Whether a person should see this alert as going on.
    #[must_use]
    pub fn is_firing(self) -> bool {
        matches!(self, Self::Early | Self::Firing)
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A record of the `alerts` topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// [`super::VERSION`].
    pub v: u8,
    /// Identity; the record's key.
    pub id: AlertId,
    /// The pipeline.
    pub pipeline: String,
    /// The detector that says so.
    pub detector: String,
    /// The metric it watches.
    pub metric: String,
    /// What raised it: the definition of the metric and how the detector learns. A detector of the same name with another rule
    /// never resolves it. All zeros in records from before alerts said so.
    #[serde(default)]
    pub rule: Fingerprint,
    /// The key it says it of, e.g. an item id.
    pub key: String,
    /// How much it matters.
    pub severity: Severity,
    /// Where it is in its life.
    pub state: AlertState,
    /// Start of the window, event time.
    pub start: EventTime,
    /// Length of the window in milliseconds.
    pub size_ms: u64,
    /// How long before the end of the window the time begins that `count`, `value` and `expected` are of, in milliseconds: the
    /// length of the window, or a multiple of it where the excess gathered over several. 0 in records from before alerts said
    /// so: the length of the window.
    #[serde(default)]
    pub span_ms: u64,
    /// Events in that time.
    pub count: u64,
    /// The value of that time: so far if [`AlertState::Early`], else of closed windows.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// The usual spread around it (one standard deviation, or the algorithm's equivalent); 0 where it has none.
    pub spread: f64,
    /// How unusual the value is, in the algorithm's measure.
    pub score: f64,
    /// Why, in words for a person: "product-123: 412 views in 10 s, expected about 35 ± 6, 63 times the usual spread".
    pub summary: String,
    /// Start of the first later window that was usual again, where resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<EventTime>,
    /// How the alert went on after its window; none while its window is open, and in records from before alerts said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode: Option<Episode>,
    /// Why, as far as the events tell; none before they were looked through. A store keeps the one of the latest
    /// [`Explanation::until`], whatever the order of the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// An episode: the time in which a key is out of its usual range, from the first window that contributed to the alert until the
/// key is usual again or what it does has become usual. One alert is raised for it; records of the alert bring it up to date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Start of its first window: that of the alert, or up to seven windows before it where the excess gathered over several.
    pub since: EventTime,
    /// End of the newest closed window that was taken in. Of two records of an alert in the same state, the one with the later
    /// end is the newer one.
    pub until: EventTime,
    /// The value furthest from the expected one, of a single window.
    pub peak: f64,
    /// Start of that window.
    pub peak_start: EventTime,
    /// How much more than expected all its windows hold together, in units of the metric; negative if less. Of a mean, which
    /// does not add up, the largest difference.
    pub excess: f64,
    /// How it ended; none while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// How an episode ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// The key is back in its usual range.
    Usual,
    /// It stayed where it was for so long that this became usual: the new expected value of a window.
    NewLevel(f64),
}

/// What the events of an alert have in common that usual events of the same key, or of the same metric, do not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// End of the newest window whose events were looked through. Of two explanations of an alert the one with the later end
    /// counts, then the one of more events.
    pub until: EventTime,
    /// Events of the alert that were looked through.
    pub events: u64,
    /// Whether there were more, of which only the newest were looked through.
    pub sampled: bool,
    /// Different users among these events; 0 if none of them names one.
    pub users: u64,
    /// What stands out, what explains most of the excess first; none if nothing does.
    pub causes: Vec<Cause>,
    /// In words: "92 % of the excess from country BR, 81 % via referrer t.co; 380 people".
    pub summary: String,
}

/// A value of a field, or of two fields together, of which there is more than usual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// The fields as they are written in a pipeline, each with its value; one, or two that stand out only together.
    pub values: Vec<(String, String)>,
    /// The part of the alert's excess that events with these values make up, from 0 to 1.
    pub share: f64,
    /// The part of usual events that have these values, from 0 to 1.
    pub usual: f64,
}

impl Alert {
    /// Reads a record of the `alerts` topic.
    ///
    /// # Errors
    /// [`WireError`] if it is not one, or of another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let alert: Self = serde_json::from_slice(bytes)
            .map_err(|source| WireError::Malformed { record: "alert", source })?;
        check_version("alert", alert.v)?;
        Ok(alert)
    }

    /// Whether this is the record that raises the alert: of the closed window that begins its episode. Later ones bring it up to date.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        let end = self.start.plus(Duration::from_millis(self.size_ms));
        let is_first = self.episode.as_ref().is_none_or(|episode| episode.until <= end);
        self.state == AlertState::Firing && is_first
    }

    /// Appends the record's bytes to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_json(out, self);
    }
}
