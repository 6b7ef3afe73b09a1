//! Alerts, with the episode of each.

use std::cmp::Ordering;

use herd_spec::units::WallTime;
use herd_spec::wire::{Alert, AlertState, Cause, Ending, Episode, Explanation, Severity};
use herd_store::{StateChange, StoredAlert};
use serde::Serialize;
use utoipa::ToSchema;

use crate::enumerations::{AlertStateName, EndingName, SeverityName};

/// A page of alerts, newest window first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = Alerts)]
pub(crate) struct AlertsShape {
    /// The alerts.
    pub(crate) alerts: Vec<AlertShape>,
    /// Value of `cursor` for the next page; null on the last page.
    #[schema(required)]
    pub(crate) next_cursor: Option<String>,
    /// Data that is missing from the response, and why, if the store is unavailable. Absent if the response is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<String>,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Alert)]
pub(crate) struct AlertShape {
    /// Id: 32 hexadecimal digits.
    pub(crate) id: String,
    /// The pipeline.
    pub(crate) pipeline: String,
    /// The detector.
    pub(crate) detector: String,
    /// The metric it watches.
    pub(crate) metric: String,
    /// The key.
    pub(crate) key: String,
    /// `info`, `warning` or `critical`.
    #[schema(value_type = SeverityName)]
    pub(crate) severity: Severity,
    /// `early`, `firing` or `resolved`; over WebSocket also `withdrawn`, after which the alert must no longer be shown.
    #[schema(value_type = AlertStateName)]
    pub(crate) state: AlertState,
    /// Start of the window.
    pub(crate) start: i64,
    /// Length of the window.
    pub(crate) size_ms: u64,
    /// Length of the time, up to the end of the window, that `count`, `value` and `expected` are of.
    pub(crate) span_ms: u64,
    /// Events in that time.
    pub(crate) count: u64,
    /// Value of that time.
    pub(crate) value: f64,
    /// Expected value.
    pub(crate) expected: f64,
    /// Expected deviation.
    pub(crate) spread: f64,
    /// Anomaly score.
    pub(crate) score: f64,
    /// Human-readable summary.
    pub(crate) summary: String,
    /// Start of the first later window that was within the expected range; null while it goes on.
    #[schema(required)]
    pub(crate) resolved: Option<i64>,
    /// How it goes on after its window; null while its window is open, and for alerts from before this was recorded.
    #[schema(required)]
    pub(crate) episode: Option<EpisodeShape>,
    /// What its events have in common that usual events do not; null before they were examined.
    #[schema(required)]
    pub(crate) explanation: Option<ExplanationShape>,
    /// Time at which it was first raised, by the clock of the detector.
    pub(crate) raised: i64,
    /// When it first was in each of its states, in the order of states; empty for alerts from before this was recorded.
    pub(crate) history: Vec<StateChangeShape>,
    /// Whether people found it useful, by their last feedback; null without feedback.
    #[schema(required)]
    pub(crate) useful: Option<bool>,
}

/// The time in which a key is out of its expected range.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Episode)]
pub(crate) struct EpisodeShape {
    /// Start of its first window.
    pub(crate) since: i64,
    /// End of the newest closed window that belongs to it.
    pub(crate) until: i64,
    /// The value furthest from the expected one, of a single window.
    pub(crate) peak: f64,
    /// Start of that window.
    pub(crate) peak_start: i64,
    /// How much more than expected all its windows hold together; negative if less. Of a mean, the largest difference.
    pub(crate) excess: f64,
    /// `usual` or `new_level`; null while it lasts.
    #[schema(required, value_type = Option<EndingName>)]
    pub(crate) ending: Option<&'static str>,
    /// The new expected value of a window, if it ended with a new level; otherwise null.
    #[schema(required)]
    pub(crate) level: Option<f64>,
}

/// What the events of an alert have in common that usual events do not.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Explanation)]
pub(crate) struct ExplanationShape {
    /// End of the newest window whose events were examined.
    pub(crate) until: i64,
    /// Number of events of the alert that were examined.
    pub(crate) events: u64,
    /// Whether there were more, of which only the newest were examined.
    pub(crate) sampled: bool,
    /// Number of different users among these events; 0 if none of them names one.
    pub(crate) users: u64,
    /// What stands out, what explains most of the excess first; empty if nothing does.
    pub(crate) causes: Vec<CauseShape>,
    /// Human-readable summary.
    pub(crate) summary: String,
}

/// A value of a field, or of two fields together, of which there is more than usual.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Cause)]
pub(crate) struct CauseShape {
    /// The fields with their values: one, or two that stand out only together.
    pub(crate) values: Vec<FieldValueShape>,
    /// Share of the excess of the alert that has these values, from 0 to 1.
    pub(crate) share: f64,
    /// Share of usual events that have these values, from 0 to 1.
    pub(crate) usual: f64,
}

/// A field and its value.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = FieldValue)]
pub(crate) struct FieldValueShape {
    /// Path of the field, as in a spec, e.g. `properties.country`.
    pub(crate) field: String,
    /// Its value, as text.
    pub(crate) value: String,
}

/// The first record of an alert in a state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = StateChange)]
pub(crate) struct StateChangeShape {
    /// The state.
    #[schema(value_type = AlertStateName)]
    pub(crate) state: AlertState,
    /// When the alert first was in it, by the clock of the detector.
    pub(crate) at: i64,
}

impl From<Episode> for EpisodeShape {
    fn from(episode: Episode) -> Self {
        let (ending, level) = match episode.ending {
            None => (None, None),
            Some(Ending::Usual) => (Some("usual"), None),
            Some(Ending::NewLevel(level)) => (Some("new_level"), Some(level)),
        };
        Self {
            since: episode.since.0,
            until: episode.until.0,
            peak: episode.peak,
            peak_start: episode.peak_start.0,
            excess: episode.excess,
            ending,
            level,
        }
    }
}

impl From<Explanation> for ExplanationShape {
    fn from(explanation: Explanation) -> Self {
        let Explanation { until, events, sampled, users, causes, summary } = explanation;
        let pair = |(field, value)| FieldValueShape { field, value };
        let cause = |cause: Cause| CauseShape {
            values: cause.values.into_iter().map(pair).collect(),
            share: cause.share,
            usual: cause.usual,
        };
        let causes = causes.into_iter().map(cause).collect();
        Self { until: until.0, events, sampled, users, causes, summary }
    }
}

impl ExplanationShape {
    /// The order of the explanations of an alert, the same as in every store: the latest end, then the most events; users and
    /// summary make it total.
    fn order(&self) -> (i64, u64, u64, &str) {
        (self.until, self.events, self.users, &self.summary)
    }
}

/// The later one of two explanations; on a tie the first.
fn latest(known: Option<ExplanationShape>, other: Option<ExplanationShape>) -> Option<ExplanationShape> {
    match (known, other) {
        (Some(known), Some(other)) if known.order() < other.order() => Some(other),
        (known, other) => known.or(other),
    }
}

impl AlertShape {
    /// The JSON of a record that was sent at this time.
    #[must_use]
    pub(crate) fn of(alert: Alert, sent: WallTime) -> Self {
        let history = vec![StateChange { state: alert.state, at: sent }];
        Self::from(StoredAlert { alert, raised: sent, history, useful: None })
    }

    /// The order of the records of an alert, the same as in every store: the highest state is the newest, in it the latest end of
    /// the episode, then the most events. Score and summary make the order total.
    fn order(&self, other: &Self) -> Ordering {
        let place = |alert: &Self| {
            (alert.state.rank(), alert.episode.as_ref().map(|episode| episode.until), alert.count)
        };
        place(self)
            .cmp(&place(other))
            .then_with(|| self.score.total_cmp(&other.score))
            .then_with(|| self.summary.cmp(&other.summary))
    }

    /// Merges with what else is known of the same alert, and says whether that was newer: its record, or its explanation, which is
    /// kept by an order of its own. Feedback known here precedes the other's.
    pub(crate) fn join(&mut self, mut other: Self) -> bool {
        let newer = self.order(&other) == Ordering::Less;
        let raised = self.raised.min(other.raised);
        let useful = self.useful.or(other.useful);
        let mut history = std::mem::take(&mut self.history);
        for change in &other.history {
            match history.iter_mut().find(|known| known.state == change.state) {
                Some(known) => known.at = known.at.min(change.at),
                None => history.push(*change),
            }
        }
        history.sort_unstable_by_key(|change| change.state);
        let known = self.explanation.take();
        let explanation = latest(known.clone(), other.explanation.take());
        let explained = explanation != known;
        if newer {
            *self = other;
        }
        (self.raised, self.useful, self.history, self.explanation) = (raised, useful, history, explanation);
        newer || explained
    }
}

impl From<StoredAlert> for AlertShape {
    fn from(stored: StoredAlert) -> Self {
        let StoredAlert { alert, raised, history, useful } = stored;
        let change = |change: StateChange| StateChangeShape { state: change.state, at: change.at.0 };
        Self {
            id: alert.id.0,
            pipeline: alert.pipeline,
            detector: alert.detector,
            metric: alert.metric,
            key: alert.key,
            severity: alert.severity,
            state: alert.state,
            start: alert.start.0,
            size_ms: alert.size_ms,
            // Records from before spans were recorded are of one window.
            span_ms: if alert.span_ms == 0 { alert.size_ms } else { alert.span_ms },
            count: alert.count,
            value: alert.value,
            expected: alert.expected,
            spread: alert.spread,
            score: alert.score,
            summary: alert.summary,
            resolved: alert.resolved.map(|time| time.0),
            episode: alert.episode.map(EpisodeShape::from),
            explanation: alert.explanation.map(ExplanationShape::from),
            raised: raised.0,
            history: history.into_iter().map(change).collect(),
            useful,
        }
    }
}
