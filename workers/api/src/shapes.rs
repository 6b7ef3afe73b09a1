//! What the api says, in JSON: the same shapes over REST and WebSocket. All times are milliseconds since 1970 (UTC).

use herd_spec::pipeline::{AggregateFunction, Direction};
use herd_spec::plan::Plan;
use herd_spec::units::{WallTime, millis};
use herd_spec::wire::{Alert, AlertState, Band, Severity, Window};
use serde::Serialize;
use utoipa::ToSchema;

use crate::trending::Top;

/// What the pipeline counts, watches and keeps.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Pipeline)]
pub(crate) struct PipelineShape {
    /// Its name.
    pub(crate) name: String,
    /// Whether detectors and sinks stand still.
    pub(crate) paused: bool,
    /// How long after the newest event an older one may still come.
    pub(crate) max_lateness_ms: i64,
    /// What is counted.
    pub(crate) metrics: Vec<MetricShape>,
    /// What is watched.
    pub(crate) detectors: Vec<DetectorShape>,
    /// Where things go.
    pub(crate) sinks: Vec<SinkShape>,
    /// Whether bursts may be simulated.
    pub(crate) simulate: bool,
    /// Whether there is a store, for questions about the past.
    pub(crate) store: bool,
}

/// One thing that is counted.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Metric)]
pub(crate) struct MetricShape {
    /// Its name.
    pub(crate) name: String,
    /// `count`, `sum`, `mean` or `unique`.
    pub(crate) function: &'static str,
    /// The field it is computed of; none for `count`.
    pub(crate) field: Option<String>,
    /// The fields whose values are the key.
    pub(crate) key: Vec<String>,
    /// Event types that count; empty: all.
    pub(crate) types: Vec<String>,
    /// Length of a window.
    pub(crate) window_ms: i64,
    /// How often running values come.
    pub(crate) emit_ms: i64,
}

/// One thing that is watched.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Detector)]
pub(crate) struct DetectorShape {
    /// Its name.
    pub(crate) name: String,
    /// The metric it watches.
    pub(crate) metric: String,
    /// `threshold`, `zscore`, `ewma`, `mad` or `poisson`.
    pub(crate) algorithm: &'static str,
    /// `up`, `down` or `both`.
    pub(crate) direction: &'static str,
    /// `info`, `warning` or `critical`.
    #[schema(value_type = String)]
    pub(crate) severity: Severity,
    /// Windows with fewer events never alert upwards.
    pub(crate) min_count: u64,
    /// Pause between alerts of a key.
    pub(crate) cooldown_ms: i64,
}

/// A store or receiver.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Sink)]
pub(crate) struct SinkShape {
    /// Its name.
    pub(crate) name: String,
    /// `postgres`, `sqlite` or `webhook`.
    pub(crate) kind: &'static str,
}

impl PipelineShape {
    /// What there is to say of a plan.
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

/// How the pipeline is doing now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = Stats)]
pub(crate) struct StatsShape {
    /// When this was said.
    pub(crate) now: i64,
    /// Events accepted a second, over the last seconds.
    pub(crate) events_per_second: f64,
    /// Events accepted since the beginning.
    pub(crate) events_total: u64,
    /// Events refused since the beginning.
    pub(crate) refused_total: u64,
    /// Closed windows: in the store, or, without one, seen since this stage started.
    pub(crate) windows_total: u64,
    /// Alerts that go on now.
    pub(crate) alerts_firing: u64,
    /// How far each stage is.
    pub(crate) stages: Vec<StageShape>,
}

/// How far a stage is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Stage)]
pub(crate) struct StageShape {
    /// `fold`, `judge` or `sink.NAME`.
    pub(crate) stage: String,
    /// Records that wait for it.
    pub(crate) lag: u64,
    /// How long it would take for these at its present rate; none: it stands still while records wait.
    pub(crate) lag_seconds: Option<f64>,
    /// Records it got done a second, over the last seconds.
    pub(crate) rate_per_second: f64,
}

/// The keys of a metric that most events are about.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Trending)]
pub(crate) struct TrendingShape {
    /// The metric.
    pub(crate) metric: String,
    /// Length of its windows.
    pub(crate) window_ms: i64,
    /// End of the newest window taken into account; none: nothing was seen yet.
    pub(crate) as_of: Option<i64>,
    /// The value of all keys together, over the windows that cover the last minute.
    pub(crate) total: f64,
    /// How many keys had a value in them.
    pub(crate) keys: u64,
    /// The heaviest, heaviest first.
    pub(crate) items: Vec<TrendingItem>,
    /// All others.
    pub(crate) other: TrendingOther,
}

/// A key in the list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct TrendingItem {
    /// Its place, from 1.
    pub(crate) rank: u64,
    /// Its place one window earlier; none: it is new.
    pub(crate) previous_rank: Option<u64>,
    /// The key.
    pub(crate) key: String,
    /// Its value over the windows that cover the last minute.
    pub(crate) value: f64,
    /// Its part of the total, 0 to 1.
    pub(crate) share: f64,
    /// Its last 20 window values, oldest first.
    pub(crate) spark: Vec<f64>,
}

/// What is not in the list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct TrendingOther {
    /// How many keys.
    pub(crate) keys: u64,
    /// Their value together.
    pub(crate) value: f64,
}

impl TrendingShape {
    /// A list as it is served.
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
    /// Oldest first.
    pub(crate) windows: Vec<Point>,
    /// What the answer is without, and why: the store does not answer. Not there where nothing is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<String>,
}

/// One window of a key.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Point {
    /// Its start.
    pub(crate) start: i64,
    /// Events in it.
    pub(crate) count: u64,
    /// The metric's value.
    pub(crate) value: f64,
    /// Whether it is closed and will not change.
    #[serde(rename = "final")]
    pub(crate) is_final: bool,
    /// What each detector expected.
    pub(crate) bands: Vec<BandShape>,
}

/// The range a detector takes for usual.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Band)]
pub(crate) struct BandShape {
    /// The detector.
    pub(crate) detector: String,
    /// The value it expected.
    pub(crate) expected: f64,
    /// The lowest value that would not alert.
    pub(crate) lower: f64,
    /// The highest value that would not alert.
    pub(crate) upper: f64,
    /// How unusual the value is, in the detector's measure.
    pub(crate) score: f64,
}

impl From<Band> for BandShape {
    fn from(band: Band) -> Self {
        let Band { detector, expected, lower, upper, score } = band;
        Self { detector, expected, lower, upper, score }
    }
}

impl Point {
    /// A window record without what its key says.
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

    /// Whether this says more of the window than `other`: a final value does, then one of more events.
    #[must_use]
    pub(crate) fn supersedes(&self, other: &Self) -> bool {
        (self.is_final, self.count) > (other.is_final, other.count)
    }
}

/// A change of one window, as rooms get it.
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

/// A page of alerts, newest window first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = Alerts)]
pub(crate) struct AlertsShape {
    /// The alerts.
    pub(crate) alerts: Vec<AlertShape>,
    /// Give it as `cursor` for the next page; none: this is the last.
    pub(crate) next_cursor: Option<String>,
    /// What the answer is without, and why: the store does not answer. Not there where nothing is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<String>,
}

/// A detector's verdict.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Alert)]
pub(crate) struct AlertShape {
    /// Identity: 32 hexadecimal digits.
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
    #[schema(value_type = String)]
    pub(crate) severity: Severity,
    /// `early`, `firing`, `resolved`; over WebSocket also `withdrawn`: take it off the page.
    #[schema(value_type = String)]
    pub(crate) state: AlertState,
    /// Start of the window.
    pub(crate) start: i64,
    /// Length of the window.
    pub(crate) size_ms: u64,
    /// Events in the window.
    pub(crate) count: u64,
    /// The window's value.
    pub(crate) value: f64,
    /// What was expected.
    pub(crate) expected: f64,
    /// The usual spread around it.
    pub(crate) spread: f64,
    /// How unusual the value is.
    pub(crate) score: f64,
    /// Why, in words.
    pub(crate) summary: String,
    /// Start of the first later window that was usual again.
    pub(crate) resolved: Option<i64>,
    /// When it was first raised, by the detector's clock.
    pub(crate) raised: i64,
}

impl AlertShape {
    /// An alert as it is served.
    #[must_use]
    pub(crate) fn of(alert: Alert, raised: WallTime) -> Self {
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
            count: alert.count,
            value: alert.value,
            expected: alert.expected,
            spread: alert.spread,
            score: alert.score,
            summary: alert.summary,
            resolved: alert.resolved.map(|time| time.0),
            raised: raised.0,
        }
    }

    /// Whether this says more than `other` of the same alert: a later state does, then more events.
    #[must_use]
    pub(crate) fn supersedes(&self, other: &Self) -> bool {
        (self.state.rank(), self.count) > (other.state.rank(), other.count)
    }
}

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = User)]
pub(crate) struct UserShape {
    /// The user.
    pub(crate) user_id: String,
    /// Events.
    pub(crate) events: i64,
    /// Events of type `purchase` or `order`.
    pub(crate) purchases: i64,
    /// What was spent.
    pub(crate) revenue: f64,
    /// Runs of events without a gap of more than 30 minutes.
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
