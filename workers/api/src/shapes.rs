//! What the api says, in JSON: the same shapes over REST and WebSocket. All times are milliseconds since 1970 (UTC).

use herd_spec::pipeline::{AggregateFunction, AlgorithmSpec, Direction};
use herd_spec::plan::AggregatePlan;
use herd_spec::plan::{Plan, SinkKind};
use herd_spec::units::{WallTime, millis};
use herd_spec::wire::{Alert, AlertState, Band, Severity, Window};
use serde::Serialize;
use utoipa::ToSchema;

use crate::trending::Top;

/// What the pipeline counts, watches and keeps.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Pipeline)]
pub struct PipelineShape {
    /// Its name.
    pub name: String,
    /// Whether detectors and sinks stand still.
    pub paused: bool,
    /// How long after the newest event an older one may still come.
    pub max_lateness_ms: i64,
    /// What is counted.
    pub metrics: Vec<MetricShape>,
    /// What is watched.
    pub detectors: Vec<DetectorShape>,
    /// Where things go.
    pub sinks: Vec<SinkShape>,
    /// Whether bursts may be simulated.
    pub simulate: bool,
    /// Whether there is a store, for questions about the past.
    pub store: bool,
}

/// One thing that is counted.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Metric)]
pub struct MetricShape {
    /// Its name.
    pub name: String,
    /// `count`, `sum`, `mean` or `unique`.
    pub function: &'static str,
    /// The field it is computed of; none for `count`.
    pub field: Option<String>,
    /// The fields whose values are the key.
    pub key: Vec<String>,
    /// Event types that count; empty: all.
    pub types: Vec<String>,
    /// Length of a window.
    pub window_ms: i64,
    /// How often running values come.
    pub emit_ms: i64,
}

/// One thing that is watched.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Detector)]
pub struct DetectorShape {
    /// Its name.
    pub name: String,
    /// The metric it watches.
    pub metric: String,
    /// `threshold`, `zscore`, `ewma`, `mad` or `poisson`.
    pub algorithm: &'static str,
    /// `up`, `down` or `both`.
    pub direction: &'static str,
    /// `info`, `warning` or `critical`.
    #[schema(value_type = String)]
    pub severity: Severity,
    /// Windows with fewer events never alert upwards.
    pub min_count: u64,
    /// Pause between alerts of a key.
    pub cooldown_ms: i64,
}

/// A store or receiver.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Sink)]
pub struct SinkShape {
    /// Its name.
    pub name: String,
    /// `postgres`, `sqlite` or `webhook`.
    pub kind: &'static str,
}

impl PipelineShape {
    /// What there is to say of a plan.
    #[must_use]
    pub fn of(plan: &Plan, store: bool) -> Self {
        Self {
            name: plan.pipeline.clone(),
            paused: plan.paused,
            max_lateness_ms: millis(plan.events.max_lateness),
            metrics: plan
                .metrics
                .iter()
                .map(|metric| MetricShape {
                    name: metric.name.clone(),
                    function: match metric.aggregate.function() {
                        AggregateFunction::Count => "count",
                        AggregateFunction::Sum => "sum",
                        AggregateFunction::Mean => "mean",
                        AggregateFunction::Unique => "unique",
                    },
                    field: match &metric.aggregate {
                        AggregatePlan::Count => None,
                        AggregatePlan::Sum(field)
                        | AggregatePlan::Mean(field)
                        | AggregatePlan::Unique(field) => Some(field.to_string()),
                    },
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
                    name: detector.name.clone(),
                    metric: detector.metric.clone(),
                    algorithm: algorithm(&detector.algorithm),
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
                .map(|sink| SinkShape {
                    name: sink.name.clone(),
                    kind: match sink.kind {
                        SinkKind::Postgres { .. } => "postgres",
                        SinkKind::Sqlite { .. } => "sqlite",
                        SinkKind::Webhook { .. } => "webhook",
                    },
                })
                .collect(),
            simulate: plan.api.simulate,
            store,
        }
    }
}

/// Exactly one is set in a plan.
fn algorithm(spec: &AlgorithmSpec) -> &'static str {
    let AlgorithmSpec { threshold, zscore, ewma, mad, poisson: _ } = spec;
    if threshold.is_some() {
        "threshold"
    } else if zscore.is_some() {
        "zscore"
    } else if ewma.is_some() {
        "ewma"
    } else if mad.is_some() {
        "mad"
    } else {
        "poisson"
    }
}

/// How the pipeline is doing now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = Stats)]
pub struct StatsShape {
    /// When this was said.
    pub now: i64,
    /// Events accepted a second, over the last seconds.
    pub events_per_second: f64,
    /// Events accepted since the beginning.
    pub events_total: u64,
    /// Events refused since the beginning.
    pub refused_total: u64,
    /// Closed windows: in the store, or, without one, seen since this stage started.
    pub windows_total: u64,
    /// Alerts that go on now.
    pub alerts_firing: u64,
    /// How far each stage is.
    pub stages: Vec<StageShape>,
}

/// How far a stage is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Stage)]
pub struct StageShape {
    /// `fold`, `judge` or `sink.NAME`.
    pub stage: String,
    /// Records that wait for it.
    pub lag: u64,
    /// How long it would take for these at its present rate; none: it stands still while records wait.
    pub lag_seconds: Option<f64>,
    /// Records it got done a second, over the last seconds.
    pub rate_per_second: f64,
}

/// The keys of a metric that most events are about.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Trending)]
pub struct TrendingShape {
    /// The metric.
    pub metric: String,
    /// Length of its windows.
    pub window_ms: i64,
    /// End of the newest window taken into account; none: nothing was seen yet.
    pub as_of: Option<i64>,
    /// The value of all keys together, over the windows that cover the last minute.
    pub total: f64,
    /// How many keys had a value in them.
    pub keys: u64,
    /// The heaviest, heaviest first.
    pub items: Vec<TrendingItem>,
    /// All others.
    pub other: TrendingOther,
}

/// A key in the list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TrendingItem {
    /// Its place, from 1.
    pub rank: u64,
    /// Its place one window earlier; none: it is new.
    pub previous_rank: Option<u64>,
    /// The key.
    pub key: String,
    /// Its value over the windows that cover the last minute.
    pub value: f64,
    /// Its part of the total, 0 to 1.
    pub share: f64,
    /// Its last 20 window values, oldest first.
    pub spark: Vec<f64>,
}

/// What is not in the list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TrendingOther {
    /// How many keys.
    pub keys: u64,
    /// Their value together.
    pub value: f64,
}

impl TrendingShape {
    /// A list as it is served.
    #[must_use]
    pub fn of(metric: &str, window_ms: i64, top: Top) -> Self {
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
pub struct WindowsShape {
    /// The metric.
    pub metric: String,
    /// The key.
    pub key: String,
    /// Length of a window.
    pub size_ms: i64,
    /// Oldest first.
    pub windows: Vec<Point>,
}

/// One window of a key.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Point {
    /// Its start.
    pub start: i64,
    /// Events in it.
    pub count: u64,
    /// The metric's value.
    pub value: f64,
    /// Whether it is closed and will not change.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// What each detector expected.
    pub bands: Vec<BandShape>,
}

/// The range a detector takes for usual.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Band)]
pub struct BandShape {
    /// The detector.
    pub detector: String,
    /// The value it expected.
    pub expected: f64,
    /// The lowest value that would not alert.
    pub lower: f64,
    /// The highest value that would not alert.
    pub upper: f64,
    /// How unusual the value is, in the detector's measure.
    pub score: f64,
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
    pub fn of(window: Window<'_>) -> Self {
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
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.is_final, self.count) > (other.is_final, other.count)
    }
}

/// A change of one window, as rooms get it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WindowChange<'a> {
    /// The metric.
    pub metric: &'a str,
    /// The key.
    pub key: &'a str,
    /// Length of the window.
    pub size_ms: i64,
    /// The window.
    #[serde(flatten)]
    pub point: &'a Point,
}

/// A page of alerts, newest window first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = Alerts)]
pub struct AlertsShape {
    /// The alerts.
    pub alerts: Vec<AlertShape>,
    /// Give it as `cursor` for the next page; none: this is the last.
    pub next_cursor: Option<String>,
}

/// A detector's verdict.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Alert)]
pub struct AlertShape {
    /// Identity: 32 hexadecimal digits.
    pub id: String,
    /// The pipeline.
    pub pipeline: String,
    /// The detector.
    pub detector: String,
    /// The metric it watches.
    pub metric: String,
    /// The key.
    pub key: String,
    /// `info`, `warning` or `critical`.
    #[schema(value_type = String)]
    pub severity: Severity,
    /// `early`, `firing`, `resolved`; over WebSocket also `withdrawn`: take it off the page.
    #[schema(value_type = String)]
    pub state: AlertState,
    /// Start of the window.
    pub start: i64,
    /// Length of the window.
    pub size_ms: u64,
    /// Events in the window.
    pub count: u64,
    /// The window's value.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// The usual spread around it.
    pub spread: f64,
    /// How unusual the value is.
    pub score: f64,
    /// Why, in words.
    pub summary: String,
    /// Start of the first later window that was usual again.
    pub resolved: Option<i64>,
    /// When it was first raised, by the detector's clock.
    pub raised: i64,
}

impl AlertShape {
    /// An alert as it is served.
    #[must_use]
    pub fn of(alert: Alert, raised: WallTime) -> Self {
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
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.state.rank(), self.count) > (other.state.rank(), other.count)
    }
}

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserShape {
    /// The user.
    pub user_id: String,
    /// Events.
    pub events: i64,
    /// Events of type `purchase` or `order`.
    pub purchases: i64,
    /// What was spent.
    pub revenue: f64,
    /// Runs of events without a gap of more than 30 minutes.
    pub sessions: i64,
    /// Time of the earliest event.
    pub first_seen: i64,
    /// Time of the latest event.
    pub last_seen: i64,
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
