//! What has to be looked through to explain an alert.

use std::ops::Range;
use std::time::Duration;

use herd_spec::plan::{ALL_KEY, AggregatePlan, MetricPlan};
use herd_spec::units::{EventTime, millis};
use herd_spec::wire::{Alert, FieldPath};

/// How many times as long as the alert the time before it is that usual events are taken from.
const REFERENCE: i64 = 4;
/// Longest time before an alert that its usual events are taken from.
pub const LONGEST_REFERENCE: Duration = Duration::from_secs(900);

/// An alert to be explained.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its metric.
    pub metric: MetricPlan,
    /// Its key.
    pub key: String,
    /// The fields its events are counted by.
    pub fields: Vec<FieldPath>,
    /// From the first window that contributed to the alert to the end of the newest one.
    pub alert: Range<EventTime>,
    /// The time before it that usual events are taken from: four times as long, at most `longest`.
    pub reference: Range<EventTime>,
    expected: Expected,
}

/// How many events were expected, as far as the alert tells.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// All but so many.
    AllBut(f64),
    /// This part of them, from 0 to 1.
    Part(f64),
    /// The metric counts no events: as many in an equal time as in the reference.
    AsBefore,
}

impl Question {
    /// What explains `alert`, of `metric`, by `fields`. The reference is at most `longest` long.
    #[must_use]
    pub fn of(alert: &Alert, metric: &MetricPlan, fields: Vec<FieldPath>, longest: Duration) -> Self {
        let size = Duration::from_millis(alert.size_ms);
        let span = Duration::from_millis(if alert.span_ms == 0 { alert.size_ms } else { alert.span_ms });
        let end = alert.start.plus(size);
        let (since, until) = match &alert.episode {
            Some(episode) => (episode.since, episode.until.max(end)),
            None => (end.minus(span), end),
        };
        let length = until.0.saturating_sub(since.0).max(0);
        let before = length.saturating_mul(REFERENCE).min(millis(longest));
        Self {
            metric: metric.clone(),
            key: alert.key.clone(),
            fields,
            alert: since..until,
            reference: EventTime(since.0.saturating_sub(before))..since,
            expected: Expected::of(alert, metric),
        }
    }

    /// Whether it is about the whole metric: all events are its own.
    #[must_use]
    pub fn is_of_all(&self) -> bool {
        self.key == ALL_KEY
    }

    /// When the reference begins: no event before it matters.
    #[must_use]
    pub fn begin(&self) -> EventTime {
        self.reference.start
    }

    /// How many of `events` of the alert were expected, where the key had `before` events in the reference. `sampled`: whether
    /// the alert had more.
    pub(super) fn expected(&self, events: f64, before: f64, sampled: bool) -> f64 {
        let length = |range: &Range<EventTime>| (range.end.0 - range.start.0) as f64;
        match self.expected {
            Expected::AllBut(excess) if !sampled => (events - excess).max(0.0),
            Expected::Part(part) => events * part,
            Expected::AllBut(_) | Expected::AsBefore => {
                let reference = length(&self.reference);
                if reference > 0.0 { before * length(&self.alert) / reference } else { 0.0 }
            }
        }
    }
}

impl Expected {
    fn of(alert: &Alert, metric: &MetricPlan) -> Self {
        match (&metric.aggregate, &alert.episode) {
            (AggregatePlan::Count, Some(episode)) => Self::AllBut(episode.excess.max(0.0)),
            (AggregatePlan::Count, None) if alert.value > 0.0 => {
                Self::Part((alert.expected / alert.value).clamp(0.0, 1.0))
            }
            _ => Self::AsBefore,
        }
    }
}
