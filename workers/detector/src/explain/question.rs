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
    reference: Range<EventTime>,
    /// Times in it in which the key was out of its usual range; they do not overlap.
    except: Vec<Range<EventTime>>,
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
        let Range { start: since, end: until } = time_of(alert);
        let length = until.0.saturating_sub(since.0).max(0);
        let before = length.saturating_mul(REFERENCE).min(millis(longest));
        Self {
            metric: metric.clone(),
            key: alert.key.clone(),
            fields,
            alert: since..until,
            reference: EventTime(since.0.saturating_sub(before))..since,
            except: Vec::new(),
            expected: Expected::of(alert, metric),
        }
    }

    /// Leaves the times of other alerts of the key out of what is usual.
    #[must_use]
    pub fn except(mut self, mut times: Vec<Range<EventTime>>) -> Self {
        times.sort_by_key(|time| time.start);
        let mut from = self.reference.start;
        for time in times {
            let within = time.start.max(from)..time.end.min(self.reference.end);
            if within.start < within.end {
                from = within.end;
                self.except.push(within);
            }
        }
        self
    }

    /// Whether an event of this time is a usual one.
    #[must_use]
    pub fn is_usual(&self, time: EventTime) -> bool {
        self.reference.contains(&time) && !self.except.iter().any(|except| except.contains(&time))
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
                let reference = length(&self.reference) - self.except.iter().map(length).sum::<f64>();
                if reference > 0.0 { before * length(&self.alert) / reference } else { 0.0 }
            }
        }
    }
}

/// The time of an alert: from the first window that contributed to it to the end of the newest one.
pub(super) fn time_of(alert: &Alert) -> Range<EventTime> {
    let size = Duration::from_millis(alert.size_ms);
    let span = Duration::from_millis(if alert.span_ms == 0 { alert.size_ms } else { alert.span_ms });
    let end = alert.start.plus(size);
    match &alert.episode {
        Some(episode) => episode.since..episode.until.max(end),
        None => end.minus(span)..end,
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
