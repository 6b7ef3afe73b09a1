//! What the stage counts of itself. No label is an item, a user or a message.

use std::time::Duration;

use herd_spec::units::{Offset, Partition};
use herd_spec::wire::{AlertState, WireError};
use herd_stage::{Stage, Throttle, Waiting};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::fold::ApplyOutcome;

/// Of fold.
#[derive(Clone, Debug, Default)]
pub struct FoldMetrics {
    events: Counter,
    late: Counter,
    duplicate: Counter,
    malformed: Counter,
    malformed_told: Throttle,
    too_large: Counter,
    too_large_told: Throttle,
    open_keys: Gauge,
    pub(crate) waiting: Waiting,
}

impl FoldMetrics {
    /// Registered with the stage.
    #[must_use]
    pub fn register(stage: &Stage) -> Self {
        let waiting = Waiting::register(stage, "fold");
        stage.instruments(|registry| {
            let metrics = Self { waiting, ..Self::default() };
            let m = metrics.clone();
            registry.register("fold_events", "Events read", m.events);
            registry.register("fold_late_events", "Events with a window that was already closed", m.late);
            registry.register("fold_duplicate_events", "Events whose id was already counted", m.duplicate);
            registry.register(
                "fold_malformed_events",
                "Malformed records in the events topic, skipped",
                m.malformed,
            );
            registry.register(
                "fold_too_large_values",
                "Events with a number larger than 1e21 in a field that a metric adds up; that metric leaves them out",
                m.too_large,
            );
            registry.register("fold_open_keys", "Keys of open windows held by this member", m.open_keys);
            metrics
        })
    }

    /// Events read so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.get()
    }

    pub(crate) fn saw(&self, seen: ApplyOutcome) {
        self.events.inc();
        if seen.late {
            self.late.inc();
        } else if seen.duplicate {
            self.duplicate.inc();
        }
        if seen.too_large {
            self.too_large.inc();
            if let Some(count) = self.too_large_told.tell() {
                tracing::warn!(
                    count,
                    "events skipped by a sum or mean, because their number is above 1e21 and cannot be added exactly; correct the \
                     producer of the events"
                );
            }
        }
    }

    pub(crate) fn malformed(&self, partition: Partition, offset: Offset, error: &WireError) {
        self.malformed.inc();
        if let Some(count) = self.malformed_told.tell() {
            tracing::warn!(count, %partition, %offset, %error, "records of the events topic that are no events are not counted; the last one is named here");
        }
    }

    pub(crate) fn open_keys(&self, keys: usize) {
        self.open_keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }
}

/// Of the step that explains alerts.
#[derive(Clone, Debug)]
pub struct ExplainMetrics {
    explained: Counter,
    passed_over: Counter,
    seconds: Histogram,
}

impl ExplainMetrics {
    /// Registered with the stage.
    #[must_use]
    pub fn register(stage: &Stage) -> Self {
        stage.instruments(|registry| {
            // 10 ms to 20 s.
            let seconds = Histogram::new(exponential_buckets(0.01, 2.0, 12));
            let metrics = Self { explained: Counter::default(), passed_over: Counter::default(), seconds };
            let m = metrics.clone();
            registry.register("explain_alerts", "Records of alerts sent with an explanation", m.explained);
            registry.register(
                "explain_passed_over",
                "Alerts that were not explained, because their events could not be read, or there were none",
                m.passed_over,
            );
            registry.register("explain_look_seconds", "Time to read the events of alerts", m.seconds);
            metrics
        })
    }

    pub(crate) fn explained(&self) {
        self.explained.inc();
    }

    pub(crate) fn passed_over(&self, alerts: usize) {
        self.passed_over.inc_by(alerts as u64);
    }

    pub(crate) fn looked(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }
}

/// Of judge.
#[derive(Clone, Debug, Default)]
pub struct JudgeMetrics {
    parts: Counter,
    late_parts: Counter,
    malformed: Counter,
    malformed_told: Throttle,
    windows_closed: Counter,
    alerts: Family<AlertLabels, Counter>,
    open_keys: Gauge,
    baselines: Gauge,
    pub(crate) waiting: Waiting,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlertLabels {
    detector: String,
    state: &'static str,
}

impl JudgeMetrics {
    /// Registered with the stage.
    #[must_use]
    pub fn register(stage: &Stage) -> Self {
        let waiting = Waiting::register(stage, "judge");
        stage.instruments(|registry| {
            let metrics = Self { waiting, ..Self::default() };
            let m = metrics.clone();
            registry.register("judge_parts", "Parts and watermarks read", m.parts);
            registry.register("judge_late_parts", "Parts of windows that were already closed", m.late_parts);
            registry.register(
                "judge_malformed_parts",
                "Malformed records in the parts topic, skipped",
                m.malformed,
            );
            registry.register("judge_windows_closed", "Windows of keys closed", m.windows_closed);
            registry.register("judge_alerts", "Alert records sent, by detector and state", m.alerts);
            registry.register("judge_open_keys", "Keys of open windows held by this member", m.open_keys);
            registry.register("judge_baselines", "Keys with a baseline held by this member", m.baselines);
            metrics
        })
    }

    pub(crate) fn part(&self) {
        self.parts.inc();
    }

    pub(crate) fn late_part(&self) {
        self.late_parts.inc();
    }

    pub(crate) fn malformed(&self, partition: Partition, offset: Offset, why: &str) {
        self.malformed.inc();
        if let Some(count) = self.malformed_told.tell() {
            tracing::warn!(count, %partition, %offset, why, "skipped records of the parts topic; the last one is named here");
        }
    }

    pub(crate) fn closed(&self, windows: u64) {
        self.windows_closed.inc_by(windows);
    }

    pub(crate) fn alert(&self, detector: &str, state: AlertState) {
        let labels = AlertLabels { detector: detector.to_owned(), state: state.as_str() };
        self.alerts.get_or_create(&labels).inc();
    }

    pub(crate) fn holds(&self, open_keys: usize, baselines: usize) {
        self.open_keys.set(i64::try_from(open_keys).unwrap_or(i64::MAX));
        self.baselines.set(i64::try_from(baselines).unwrap_or(i64::MAX));
    }
}
