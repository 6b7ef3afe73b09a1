//! Comparison of alerts with what people said of earlier ones.

use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertId, AlertState};
use serde::Serialize;

/// An earlier alert of which somebody said whether it was useful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Its id.
    pub id: AlertId,
    /// Its metric.
    pub metric: String,
    /// Its key.
    pub key: String,
    /// When it began.
    pub from: EventTime,
    /// When it was over.
    pub until: EventTime,
    /// Whether it was useful.
    pub useful: bool,
}

/// How many of the earlier alerts are raised, and how many are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// Those that are.
    pub raised: u64,
    /// Those that are not.
    pub missing: u64,
}

/// The earlier alerts by what was said of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Feedback {
    /// Those that were useful.
    pub useful: Agreement,
    /// Those that were not.
    pub not_useful: Agreement,
}

impl Feedback {
    /// Compares `alerts` with `opinions`. An earlier alert is raised if it is among the alerts by its id, or if one of them is of the
    /// same metric and key and at a time in common: another detector may notice the same. Withdrawn alerts do not count.
    #[must_use]
    pub fn of(opinions: &[Opinion], alerts: &[Alert]) -> Self {
        let mut shown: Vec<&Alert> =
            alerts.iter().filter(|alert| alert.state != AlertState::Withdrawn).collect();
        shown.sort_by(|a, b| (&a.metric, &a.key, a.start).cmp(&(&b.metric, &b.key, b.start)));
        let mut feedback = Self::default();
        for opinion in opinions {
            let of_key = (&opinion.metric, &opinion.key);
            let first = shown.partition_point(|alert| (&alert.metric, &alert.key) < of_key);
            let same = shown[first..].iter().take_while(|alert| (&alert.metric, &alert.key) == of_key);
            let is_same = |alert: &&&Alert| {
                alert.id == opinion.id || (begin(alert) < opinion.until && opinion.from < end(alert))
            };
            let counts = if opinion.useful { &mut feedback.useful } else { &mut feedback.not_useful };
            match { same }.find(is_same) {
                Some(_) => counts.raised += 1,
                None => counts.missing += 1,
            }
        }
        feedback
    }
}

fn begin(alert: &Alert) -> EventTime {
    alert.episode.as_ref().map_or(alert.start, |episode| episode.since)
}

fn end(alert: &Alert) -> EventTime {
    let window = alert.start.plus(std::time::Duration::from_millis(alert.size_ms));
    let until = alert.episode.as_ref().map(|episode| episode.until).or(alert.resolved);
    until.unwrap_or(window).max(window)
}

#[cfg(test)]
mod tests {
    use super::*;
    use herd_spec::wire::{Fingerprint, Severity, VERSION};
    use rstest::rstest;

    fn alert(state: AlertState, key: &str, start: i64) -> Alert {
        Alert {
            v: VERSION,
            id: AlertId(format!("{key}-{start}")),
            pipeline: "shop".into(),
            detector: "herd".into(),
            metric: "views".into(),
            rule: Fingerprint::default(),
            key: key.into(),
            severity: Severity::Warning,
            state,
            start: EventTime(start),
            size_ms: 10,
            span_ms: 10,
            count: 1,
            value: 1.0,
            expected: 0.0,
            spread: 0.0,
            score: 0.0,
            summary: String::new(),
            resolved: None,
            episode: None,
            explanation: None,
        }
    }

    #[rstest]
    #[case::by_id("a", 100, 100, AlertState::Resolved, true)]
    #[case::overlapping("a", 95, 101, AlertState::Firing, true)]
    #[case::over_before("a", 90, 100, AlertState::Firing, false)]
    #[case::begun_after("a", 110, 120, AlertState::Firing, false)]
    #[case::of_another_key("b", 100, 110, AlertState::Firing, false)]
    #[case::withdrawn("a", 100, 110, AlertState::Withdrawn, false)]
    fn an_earlier_alert_is_raised_by_an_alert_of_its_key_at_its_time(
        #[case] key: &str,
        #[case] from: i64,
        #[case] until: i64,
        #[case] state: AlertState,
        #[case] is_raised: bool,
        #[values(true, false)] useful: bool,
    ) {
        let opinion = Opinion {
            id: AlertId(format!("{key}-{from}")),
            metric: "views".into(),
            key: key.into(),
            from: EventTime(from),
            until: EventTime(until),
            useful,
        };
        let feedback =
            Feedback::of(&[opinion], &[alert(state, "a", 100), alert(AlertState::Firing, "c", 100)]);
        let expected = Agreement { raised: u64::from(is_raised), missing: u64::from(!is_raised) };
        let (said, other) = if useful {
            (feedback.useful, feedback.not_useful)
        } else {
            (feedback.not_useful, feedback.useful)
        };
        assert_eq!((said, other), (expected, Agreement::default()));
    }
}
