//! JSON types of the API, the same over REST and WebSocket. All times are milliseconds since 1970 (UTC).

mod alert;

use herd_spec::pipeline::{AggregateFunction, Direction};
use herd_spec::plan::Plan;
use herd_spec::units::millis;
use herd_spec::wire::{Band, Severity, Window};
use serde::Serialize;
use utoipa::ToSchema;

use crate::enumerations::{FunctionName, SeverityName};
use crate::trending::Top;

pub(crate) use alert::{AlertShape, AlertsShape};
#[cfg(test)]
pub(crate) use alert::{EpisodeShape, ExplanationShape, StateChangeShape};

/// Metrics, detectors and sinks of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Pipeline)]
pub(crate) struct PipelineShape {
    /// Its name.
    pub(crate) name: String,
    /// Whether detectors and sinks are stopped.
    pub(crate) paused: bool,
    /// Maximum lateness of events.
    pub(crate) max_lateness_ms: i64,
    /// Metrics.
    pub(crate) metrics: Vec<MetricShape>,
    /// Detectors.
    pub(crate) detectors: Vec<DetectorShape>,
    /// Sinks.
    pub(crate) sinks: Vec<SinkShape>,
    /// Whether crowds can be simulated.
    pub(crate) simulate: bool,
    /// Whether the pipeline has a store for history.
    pub(crate) store: bool,
}

/// A metric.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Metric)]
pub(crate) struct MetricShape {
    /// Its name.
    pub(crate) name: String,
    /// `count`, `sum`, `mean` or `unique`.
    #[schema(value_type = FunctionName)]
    pub(crate) function: &'static str,
    /// The aggregated field; null for `count`.
    #[schema(required)]
    pub(crate) field: Option<String>,
    /// The fields whose values are the key.
    pub(crate) key: Vec<String>,
    /// Event types that are aggregated; empty: all.
    pub(crate) types: Vec<String>,
    /// Length of a window.
    pub(crate) window_ms: i64,
    /// Interval of provisional values.
    pub(crate) emit_ms: i64,
}

/// A detector.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Detector)]
pub(crate) struct DetectorShape {
    /// Its name.
    pub(crate) name: String,
    /// The metric it watches.
    pub(crate) metric: String,
    /// `crowd`, `level`, `threshold`, `zscore`, `ewma`, `mad` or `poisson`.
    pub(crate) algorithm: &'static str,
    /// `up`, `down` or `both`.
    pub(crate) direction: &'static str,
    /// `info`, `warning` or `critical`.
    #[schema(value_type = SeverityName)]
    pub(crate) severity: Severity,
    /// Minimum number of events in a window for an upward alert.
    pub(crate) min_count: u64,
    /// Minimum number of different users in a window for an upward alert; 0: no minimum.
    pub(crate) min_users: u64,
    /// Minimum time between two alerts of the same key.
    pub(crate) cooldown_ms: i64,
}

/// A sink.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Sink)]
pub(crate) struct SinkShape {
    /// Its name.
    pub(crate) name: String,
    /// `postgres`, `sqlite` or `webhook`.
    pub(crate) kind: &'static str,
}

impl PipelineShape {
    /// The pipeline of a plan.
    #[must_use]
    pub(crate) fn of(plan: &Plan, store: bool) -> Self {
        Self {
            name: plan.pipeline.to_string(),
            paused: plan.paused,
            max_lateness_ms: millis(plan.events.max_lateness),
            metrics: plan
                .metrics
                .iter()
                .map(|metric| MetricShape {
                    name: metric.name.to_string(),
                    function: match metric.aggregate.function() {
                        AggregateFunction::Count => "count",
                        AggregateFunction::Sum => "sum",
                        AggregateFunction::Mean => "mean",
                        AggregateFunction::Unique => "unique",
                    },
                    field: metric.aggregate.field().map(ToString::to_string),
                    key: metric.key.iter().map(ToString::to_string).collect(),
                    types: metric.types.clone(),
                    window_ms: millis(metric.window),
                    emit_ms: millis(metric.emit),
                })
                .collect(),
            detectors: plan
                .detectors
                .iter()
                .map(|detector| DetectorShape {
                    name: detector.name.to_string(),
                    metric: detector.metric.to_string(),
                    algorithm: detector.algorithm.name(),
                    direction: match detector.direction {
                        Direction::Up => "up",
                        Direction::Down => "down",
                        Direction::Both => "both",
                    },
                    severity: detector.severity,
                    min_count: detector.min_count,
                    min_users: detector.min_users,
                    cooldown_ms: millis(detector.cooldown),
                })
                .collect(),
            sinks: plan
                .sinks
                .iter()
                .map(|sink| SinkShape { name: sink.name.to_string(), kind: sink.kind.name() })
                .collect(),
            simulate: plan.api.simulate,
            store,
        }
    }
}

/// Throughput, totals and lag of the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = Stats)]
pub(crate) struct StatsShape {
    /// Time of the measurement.
    pub(crate) now: i64,
    /// Events accepted per second, over the last seconds.
    pub(crate) events_per_second: f64,
    /// Total of accepted events.
    pub(crate) events_total: u64,
    /// Total of refused events.
    pub(crate) refused_total: u64,
    /// Number of closed windows: in the store or, without one, since the start of this stage.
    pub(crate) windows_total: u64,
    /// Number of open alerts.
    pub(crate) alerts_firing: u64,
    /// Lag and throughput of each stage.
    pub(crate) stages: Vec<StageShape>,
}

/// Lag and throughput of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Stage)]
pub(crate) struct StageShape {
    /// `fold`, `judge` or `sink.NAME`.
    pub(crate) stage: String,
    /// Consumer lag in records.
    pub(crate) lag: u64,
    /// Estimated time to process the lag at the current rate, in seconds; null if the stage makes no progress.
    #[schema(required)]
    pub(crate) lag_seconds: Option<f64>,
    /// Records processed per second, over the last seconds.
    pub(crate) rate_per_second: f64,
}

/// Trending keys of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Trending)]
pub(crate) struct TrendingShape {
    /// The metric.
    pub(crate) metric: String,
    /// Length of its windows.
    pub(crate) window_ms: i64,
    /// End of the newest window included; null without data.
    #[schema(required)]
    pub(crate) as_of: Option<i64>,
    /// Value of all keys together over the windows of the last minute.
    pub(crate) total: f64,
    /// Number of keys with a value in these windows.
    pub(crate) keys: u64,
    /// The top keys in descending order.
    pub(crate) items: Vec<TrendingItem>,
    /// All other keys.
    pub(crate) other: TrendingOther,
}

/// A trending key.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct TrendingItem {
    /// Rank, from 1.
    pub(crate) rank: u64,
    /// Rank one window earlier; null if the key is new.
    #[schema(required)]
    pub(crate) previous_rank: Option<u64>,
    /// The key.
    pub(crate) key: String,
    /// Value over the windows of the last minute.
    pub(crate) value: f64,
    /// Fraction of the total, 0 to 1.
    pub(crate) share: f64,
    /// The last 20 window values, oldest first.
    pub(crate) spark: Vec<f64>,
}

/// Keys that are not in the list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct TrendingOther {
    /// Number of keys.
    pub(crate) keys: u64,
    /// Their value.
    pub(crate) value: f64,
}

impl TrendingShape {
    /// The JSON of a trending list.
    #[must_use]
    pub(crate) fn of(metric: &str, window_ms: i64, top: Top) -> Self {
        Self {
            metric: metric.to_owned(),
            window_ms,
            as_of: top.as_of.map(|time| time.0),
            total: top.total,
            keys: top.keys,
            items: top
                .items
                .into_iter()
                .map(|item| TrendingItem {
                    rank: item.rank,
                    previous_rank: item.previous_rank,
                    key: item.key.into_string(),
                    value: item.value,
                    share: item.share,
                    spark: item.spark,
                })
                .collect(),
            other: TrendingOther { keys: top.other_keys, value: top.other_value },
        }
    }
}

/// The windows of one key.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Windows)]
pub(crate) struct WindowsShape {
    /// The metric.
    pub(crate) metric: String,
    /// The key.
    pub(crate) key: String,
    /// Length of a window.
    pub(crate) size_ms: i64,
    /// Windows, oldest first.
    pub(crate) windows: Vec<Point>,
    /// Data that is missing from the response, and why, if the store is unavailable. Absent if the response is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<String>,
}

/// One window of a key.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Point {
    /// Start of the window.
    pub(crate) start: i64,
    /// Number of events.
    pub(crate) count: u64,
    /// The metric's value.
    pub(crate) value: f64,
    /// Whether the window is closed, so that it does not change any more.
    #[serde(rename = "final")]
    pub(crate) is_final: bool,
    /// Expected range of each detector.
    pub(crate) bands: Vec<BandShape>,
}

/// Expected range of a detector.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Band)]
pub(crate) struct BandShape {
    /// The detector.
    pub(crate) detector: String,
    /// Expected value.
    pub(crate) expected: f64,
    /// The lowest value that would not alert.
    pub(crate) lower: f64,
    /// The highest value that would not alert.
    pub(crate) upper: f64,
    /// Anomaly score, in the unit of the detector.
    pub(crate) score: f64,
}

impl From<Band> for BandShape {
    fn from(band: Band) -> Self {
        let Band { detector, expected, lower, upper, score } = band;
        Self { detector, expected, lower, upper, score }
    }
}

impl Point {
    /// A window record without metric and key.
    #[must_use]
    pub(crate) fn of(window: Window<'_>) -> Self {
        Self {
            start: window.start.0,
            count: window.count,
            value: window.value,
            is_final: window.is_final,
            bands: window.bands.into_iter().map(BandShape::from).collect(),
        }
    }

    /// Whether this supersedes `other` of the same window: final values do, then values of more events.
    #[must_use]
    pub(crate) fn supersedes(&self, other: &Self) -> bool {
        (self.is_final, self.count) > (other.is_final, other.count)
    }
}

/// A change of a window, as sent to rooms.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct WindowChange<'a> {
    /// The metric.
    pub(crate) metric: &'a str,
    /// The key.
    pub(crate) key: &'a str,
    /// Length of the window.
    pub(crate) size_ms: i64,
    /// The window.
    #[serde(flatten)]
    pub(crate) point: &'a Point,
}

/// Statistics of a user.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = User)]
pub(crate) struct UserShape {
    /// The user.
    pub(crate) user_id: String,
    /// Number of events.
    pub(crate) events: i64,
    /// Number of events of type `purchase` or `order`.
    pub(crate) purchases: i64,
    /// Revenue.
    pub(crate) revenue: f64,
    /// Number of sessions: sequences of events without a gap of more than 30 minutes.
    pub(crate) sessions: i64,
    /// Time of the earliest event.
    pub(crate) first_seen: i64,
    /// Time of the latest event.
    pub(crate) last_seen: i64,
}

impl From<herd_store::UserStats> for UserShape {
    fn from(stats: herd_store::UserStats) -> Self {
        Self {
            user_id: stats.user_id,
            events: stats.events,
            purchases: stats.purchases,
            revenue: stats.revenue,
            sessions: stats.sessions,
            first_seen: stats.first_seen.0,
            last_seen: stats.last_seen.0,
        }
    }
}
