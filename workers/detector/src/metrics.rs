//! What the stage counts of itself. No label is an item, a user or a message.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use herd_spec::plan::AlertLimit;
use herd_spec::units::{Offset, Partition};
use herd_spec::wire::{Alert, WireError};
use herd_stage::{Stage, Throttle, Waiting};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::fold::ApplyOutcome;
use crate::judge::activity::Activity;
use crate::judge::watch::Watched;

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
    early_parts: Counter,
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
            registry.register(
                "fold_early_parts",
                "Parts sent before the emit interval was over, of keys that grow fastest (`emit: adaptive`)",
                m.early_parts,
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

    pub(crate) fn early_parts(&self, parts: u64) {
        self.early_parts.inc_by(parts);
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
    raised: Family<DetectorLabels, Counter>,
    budget: Family<DetectorLabels, Gauge<f64, AtomicU64>>,
    threshold: Family<DetectorLabels, Gauge<f64, AtomicU64>>,
    warming_up: Family<DetectorLabels, Gauge>,
    key_events: Family<KeyLabels, Counter>,
    open_keys: Gauge,
    baselines: Gauge,
    pub(crate) waiting: Waiting,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DetectorLabels {
    detector: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    metric: String,
    /// `known` or `new`.
    key: &'static str,
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
            registry.register(
                "judge_alerts_raised",
                "Alerts raised by closed windows, each once; more after a restart, which may judge windows again",
                m.raised,
            );
            registry.register(
                "judge_alert_budget",
                "False alerts a day that the detector may raise over all keys of the pipeline",
                m.budget,
            );
            registry.register(
                "judge_alert_threshold",
                "Score (negative decimal logarithm of the probability) from which on a window of a key alerts, on average over the \
                 partitions of this member",
                m.threshold,
            );
            registry.register(
                "judge_warming_up_keys",
                "Keys with events in the newest closed window that the detector cannot judge yet",
                m.warming_up,
            );
            registry.register(
                "judge_key_events",
                "Events in closed windows, of keys with a baseline (known) and of keys without one (new)",
                m.key_events,
            );
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

    pub(crate) fn alert(&self, alert: &Alert) {
        let labels = AlertLabels { detector: alert.detector.clone(), state: alert.state.as_str() };
        self.alerts.get_or_create(&labels).inc();
        if alert.is_raised() {
            self.raised.get_or_create(&DetectorLabels { detector: alert.detector.clone() }).inc();
        }
    }

    /// Publishes the budgets of detectors, and begins to count their alerts.
    pub(crate) fn watch(&self, watched: &Watched) {
        for watch in &watched.watches {
            let labels = DetectorLabels { detector: watch.name.clone() };
            self.raised.get_or_create(&labels).inc_by(0);
            if let Some(AlertLimit::Budget(budget)) = watch.rule.limit() {
                self.budget.get_or_create(&labels).set(budget.alerts_per_day());
            }
        }
    }

    /// Publishes what the detectors of a metric did, in each of the partitions of this member.
    pub(crate) fn activity(&self, watched: &Watched, partitions: &[Activity]) {
        let metric = watched.metric.name.as_str();
        for (key, events) in [
            ("known", partitions.iter().map(|partition| partition.known_events).sum()),
            ("new", partitions.iter().map(|partition| partition.new_events).sum()),
        ] {
            self.key_events.get_or_create(&KeyLabels { metric: metric.to_owned(), key }).inc_by(events);
        }
        for (place, watch) in watched.watches.iter().enumerate() {
            let labels = DetectorLabels { detector: watch.name.clone() };
            let detector: Vec<_> =
                partitions.iter().filter_map(|partition| partition.detectors.get(place)).collect();
            let warming_up: u64 = detector.iter().map(|detector| detector.warming_up).sum();
            self.warming_up.get_or_create(&labels).set(i64::try_from(warming_up).unwrap_or(i64::MAX));
            let thresholds: Vec<f64> = detector.iter().filter_map(|detector| detector.threshold).collect();
            if thresholds.is_empty() {
                self.threshold.remove(&labels);
            } else {
                #[allow(clippy::cast_precision_loss)] // there are few partitions
                let mean = thresholds.iter().sum::<f64>() / thresholds.len() as f64;
                self.threshold.get_or_create(&labels).set(mean);
            }
        }
    }

    pub(crate) fn holds(&self, open_keys: usize, baselines: usize) {
        self.open_keys.set(i64::try_from(open_keys).unwrap_or(i64::MAX));
        self.baselines.set(i64::try_from(baselines).unwrap_or(i64::MAX));
    }
}
