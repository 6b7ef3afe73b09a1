//! Alerts by detector and day, and by key.

use std::collections::BTreeMap;

use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertState};
use serde::Serialize;

/// A day in milliseconds.
const DAY: i64 = 86_400_000;

/// What the alerts of a backtest amount to. Withdrawn alerts, which nobody sees, are not counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Each detector, in the order of the plan.
    pub detectors: Vec<DetectorSummary>,
    /// Alerts by detector and UTC day (`2026-01-31`), days without an alert omitted.
    pub days: BTreeMap<String, BTreeMap<String, u64>>,
    /// The keys with the most alerts, most first; equal numbers by key.
    pub keys: Vec<(String, u64)>,
}

/// The alerts of one detector.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DetectorSummary {
    /// Its name.
    pub detector: String,
    /// Its alerts.
    pub alerts: u64,
    /// Those that were not resolved at the end.
    pub open: u64,
    /// Its alerts per day of event time; none if the events span less than a day.
    pub per_day: Option<f64>,
}

impl Summary {
    /// The summary of `alerts`, for these detectors and events from `span.0` to `span.1`. `keys` is the number of keys to list.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    pub fn of(
        alerts: &[Alert],
        detectors: &[String],
        span: Option<(EventTime, EventTime)>,
        keys: usize,
    ) -> Self {
        let days_spanned = span.map(|(first, last)| last.since(first).as_secs_f64() / 86_400.0);
        let mut by_key: BTreeMap<&str, u64> = BTreeMap::new();
        let mut days: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        let mut summaries: Vec<DetectorSummary> = detectors
            .iter()
            .map(|name| DetectorSummary { detector: name.clone(), ..DetectorSummary::default() })
            .collect();
        for alert in alerts.iter().filter(|alert| alert.state != AlertState::Withdrawn) {
            *by_key.entry(&alert.key).or_default() += 1;
            *days.entry(day(alert.start)).or_default().entry(alert.detector.clone()).or_default() += 1;
            if let Some(summary) = summaries.iter_mut().find(|known| known.detector == alert.detector) {
                summary.alerts += 1;
                summary.open += u64::from(alert.state.is_firing());
            }
        }
        for summary in &mut summaries {
            let rate = days_spanned.filter(|days| *days >= 1.0).map(|days| summary.alerts as f64 / days);
            summary.per_day = rate;
        }
        let mut by_key: Vec<(String, u64)> = by_key.into_iter().map(|(key, n)| (key.to_owned(), n)).collect();
        by_key.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        by_key.truncate(keys);
        Self { detectors: summaries, days, keys: by_key }
    }
}

/// The UTC day of a time: `2026-01-31`.
fn day(time: EventTime) -> String {
    let written = EventTime(time.0.div_euclid(DAY) * DAY).rfc3339();
    written.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_midnight_utc() {
        assert_eq!(day(EventTime(1_700_006_400_000)), "2023-11-15");
        assert_eq!(day(EventTime(1_700_006_399_999)), "2023-11-14");
    }
}
