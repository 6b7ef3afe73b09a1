//! The api stage: serves live data and history over REST and WebSocket, with the dashboard.
//!
//! ```text
//!  windows ─► follow ─────┐                    ┌─► rooms ─► WebSocket clients
//!  alerts  ─► follow ─────┼─► live (one lock) ─┤
//!  offsets ─► throughput ─┘                    └─► REST ◄─ store (PostgreSQL, SQLite): history
//! ```
//!
//! It reads `windows` and `alerts` without a consumer group, from near their end, and commits nothing, so that replicas are
//! independent of each other.

mod alerts;
mod app;
mod auth;
mod dashboard;
mod enumerations;
mod follow;
mod history;
mod hub;
mod live;
mod metrics;
mod problem;
mod routes;
mod shapes;
mod socket;
mod throughput;
mod trending;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, Version, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use herd_bus::Bus;
use herd_spec::health::{HealthReport, Trouble};
use herd_spec::plan::Plan;
use herd_stage::{Health, Retry, SecretError, Stage, StageError};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

pub use crate::app::Limits;
use crate::app::{App, Collector, now};
use crate::follow::{Following, follow};
use crate::history::History;
pub use crate::history::StoreSource;
use crate::live::{Live, TICK};
use crate::metrics::{ApiMetrics, StatusLabels, TopicLabels};
use crate::shapes::PipelineShape;
use crate::throughput::{Throughput, measure};

/// Number of latest records of `windows` read at the start, over all partitions.
const WINDOW_HISTORY: i64 = 100_000;
/// Number of latest records of `alerts` read at the start.
const ALERT_HISTORY: i64 = 10_000;
/// Maximum size of a request body, in bytes.
const BODY_BYTES: usize = 16 << 10;
/// Maximum time for clients and requests to end at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval and timeout of the health check of the bus.
const HEALTH_CHECK: Duration = Duration::from_secs(2);
/// Timeout for counting the rows of the store.
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);

/// An error that stops the api stage.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A Secret is missing.
    #[error("cannot start the api: {0}")]
    Secret(#[from] SecretError),
    /// The HTTP client for simulated crowds cannot be created.
    #[error("cannot create an HTTP client for the collector: {0}")]
    Client(#[from] reqwest::Error),
    /// The listener failed.
    #[error("cannot serve the api: {0}")]
    Serve(#[from] std::io::Error),
    /// A task of the stage panicked.
    #[error("a task of the api panicked: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

impl StageError for ApiError {
    fn retry(&self) -> Retry {
        match self {
            Self::Secret(_) => Retry::AfterRepair,
            Self::Client(_) | Self::Serve(_) | Self::Broken(_) => Retry::Soon,
        }
    }

    fn trouble(&self) -> Trouble {
        Trouble::StageFailed
    }
}

/// Serves `listener` until [`Stage::shutdown`]. `store` is the source of history, `collector` the URL of the collector without a
/// path, for simulated crowds.
///
/// # Errors
/// [`ApiError`]; the caller restarts the stage.
pub async fn run<B: Bus>(
    plan: Arc<Plan>,
    bus: B,
    store: Option<StoreSource>,
    stage: Stage,
    listener: TcpListener,
    collector: Option<String>,
) -> Result<(), ApiError> {
    run_with(plan, bus, store, stage, listener, collector, Limits::default()).await
}

/// [`run`] with other limits.
///
/// # Errors
/// As [`run`].
pub async fn run_with<B: Bus>(
    plan: Arc<Plan>,
    bus: B,
    store: Option<StoreSource>,
    stage: Stage,
    listener: TcpListener,
    collector: Option<String>,
    limits: Limits,
) -> Result<(), ApiError> {
    // A token of this stage only: a failed task ends the other tasks, but not the process.
    let shutdown = stage.shutdown.child_token();
    let _ended = shutdown.clone().drop_guard();
    let app = Arc::new(app(plan, store, &stage, collector, limits, shutdown.clone())?);
    for step in ["windows", "alerts"] {
        stage.health.starting(step, "the latest records have not been read yet");
    }
    stage.health.starting("bus", "the broker has not been contacted yet");
    let mut parts: JoinSet<Result<(), ApiError>> = JoinSet::new();
    follow_windows(&mut parts, &app, &bus, &stage);
    follow_alerts(&mut parts, &app, &bus, &stage);
    if let Some(history) = &app.history {
        let kept = Arc::clone(history).run(stage.health.clone(), shutdown.clone());
        parts.spawn(async {
            kept.await;
            Ok(())
        });
    }
    parts.spawn(watch(bus.clone(), stage.health.clone(), shutdown.clone()));
    parts.spawn(publish_stats(Arc::clone(&app), bus));
    parts.spawn(publish_trending(Arc::clone(&app)));
    let router = router(Arc::clone(&app));
    let served = shutdown.clone();
    parts.spawn(async move {
        // Frames are small: Nagle's algorithm would delay them.
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
        });
        axum::serve(listener, router)
            .with_graceful_shutdown(async move { served.cancelled().await })
            .await
            .map_err(ApiError::from)
    });

    let mut outcome = Ok(());
    while !shutdown.is_cancelled() && outcome.is_ok() {
        tokio::select! {
            () = shutdown.cancelled() => {}
            ended = parts.join_next() => match ended {
                Some(ended) => outcome = ended.map_err(ApiError::from).flatten(),
                None => break,
            },
        }
    }
    shutdown.cancel();
    app.tasks.close();
    let rest = async {
        app.tasks.wait().await;
        while let Some(ended) = parts.join_next().await {
            if let Err(error) = ended.map_err(ApiError::from).flatten()
                && outcome.is_ok()
            {
                outcome = Err(error);
            }
        }
    };
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, rest).await.is_err() {
        tracing::warn!("some requests did not end in time and are aborted");
    }
    outcome
}

fn app(
    plan: Arc<Plan>,
    store: Option<StoreSource>,
    stage: &Stage,
    collector: Option<String>,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<App, ApiError> {
    let token = plan.api.token.as_ref().map(|token| stage.secrets.read(token)).transpose()?;
    let collector = match collector.filter(|_| plan.api.simulate) {
        None => None,
        Some(base) => {
            let key = plan.collector.keys.first().map(|key| stage.secrets.read(&key.secret)).transpose()?;
            Some(Collector { base, key, http: herd_stage::http_client().no_proxy().build()? })
        }
    };
    Ok(App {
        pipeline: PipelineShape::of(&plan, store.is_some()),
        live: Mutex::new(Live::new(Arc::clone(&plan))),
        history: store.map(|source| Arc::new(History::new(source, &stage.health))),
        health: stage.health.clone(),
        token,
        collector,
        limits,
        metrics: ApiMetrics::registered(stage),
        client_permits: Arc::new(Semaphore::new(limits.clients)),
        crowd_permits: Arc::new(Semaphore::new(limits.crowds)),
        next_client: 0.into(),
        draining: stage.draining.clone(),
        shutdown,
        tasks: TaskTracker::new(),
        plan,
    })
}

fn follow_windows<B: Bus>(parts: &mut JoinSet<Result<(), ApiError>>, app: &Arc<App>, bus: &B, stage: &Stage) {
    let (app, bus, health) = (Arc::clone(app), bus.clone(), stage.health.clone());
    parts.spawn_blocking(move || {
        let following =
            Following { topic: &app.plan.topics.windows.name, history: WINDOW_HISTORY, step: "windows" };
        follow(&bus, &following, &health, &app.shutdown, |record| {
            let taken = record.value.map_or(Ok(()), |value| app.live.lock().take_window(value));
            if let Err(error) = taken {
                app.unreadable("windows", &error);
            }
        });
        Ok(())
    });
}

fn follow_alerts<B: Bus>(parts: &mut JoinSet<Result<(), ApiError>>, app: &Arc<App>, bus: &B, stage: &Stage) {
    let (app, bus, health) = (Arc::clone(app), bus.clone(), stage.health.clone());
    parts.spawn_blocking(move || {
        let following =
            Following { topic: &app.plan.topics.alerts.name, history: ALERT_HISTORY, step: "alerts" };
        follow(&bus, &following, &health, &app.shutdown, |record| {
            let sent = record.timestamp;
            let taken = record.value.map_or(Ok(()), |value| app.live.lock().take_alert(value, sent));
            if let Err(error) = taken {
                app.unreadable("alerts", &error);
            }
        });
        Ok(())
    });
}

impl App {
    fn unreadable(&self, topic: &'static str, error: &herd_spec::wire::WireError) {
        self.metrics.unreadable.get_or_create(&TopicLabels { topic }).inc();
        tracing::warn!(topic, %error, "skipped a record that cannot be parsed");
    }
}

/// Checks the health of the bus. Separate from the measurement, which may block for long.
async fn watch<B: Bus>(bus: B, health: Health, shutdown: CancellationToken) -> Result<(), ApiError> {
    let mut tick = tokio::time::interval(HEALTH_CHECK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        let bus = bus.clone();
        match tokio::task::spawn_blocking(move || bus.ping(HEALTH_CHECK)).await? {
            Ok(()) => health.ok("bus"),
            Err(error) => health.fail("bus", error.trouble(), error.to_string()),
        }
    }
}

/// Measures throughput and lag every second and publishes them.
async fn publish_stats<B: Bus>(app: Arc<App>, bus: B) -> Result<(), ApiError> {
    let mut throughput = Throughput::default();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        let open = app.live.lock().stats().alerts_firing;
        app.metrics.alerts_open.set(i64::try_from(open).unwrap_or(i64::MAX));
        let (plan, bus) = (Arc::clone(&app.plan), bus.clone());
        let measured = tokio::task::spawn_blocking(move || measure(&plan, &bus, now())).await?;
        match measured {
            Ok(sample) => {
                let mut stats = throughput.take(sample);
                stats.windows_total = closed_windows(&app).await;
                app.live.lock().take_stats(stats);
            }
            Err(error) => tracing::debug!(%error, "cannot measure throughput and lag"),
        }
    }
}

/// Number of closed windows in the store; without a store, or while it is unavailable, those seen since the start.
async fn closed_windows(app: &App) -> u64 {
    let seen = app.live.lock().closed();
    let Some(store) = app.history.as_ref().and_then(|history| history.store().ok()) else { return seen };
    match tokio::time::timeout(COUNT_TIMEOUT, store.counts()).await {
        Ok(Ok(counts)) => counts.windows.unsigned_abs(),
        Ok(Err(_)) | Err(_) => seen,
    }
}

/// Publishes the trending lists every second.
async fn publish_trending(app: Arc<App>) -> Result<(), ApiError> {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return Ok(()),
            _ = tick.tick() => app.live.lock().publish_trending(),
        }
    }
}

fn router(app: Arc<App>) -> Router {
    let (rest, _) = routes::router();
    // Images are compressed already.
    let compressed =
        CompressionLayer::new().gzip(true).compress_when(SizeAbove::new(860).and(NotForContentType::IMAGES));
    let guarded = rest
        .route("/ws", get(socket::open))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), auth::guard))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .method_not_allowed_fallback(dashboard::serve)
        .with_state(Arc::clone(&app));
    guarded.fallback(dashboard::serve).layer(compressed).layer(middleware::from_fn_with_state(app, finish))
}

/// Header that names unavailable dependencies: `store=DatabaseUnreachable, bus=KafkaUnreachable`. Absent if there are none.
const MISSING: HeaderName = HeaderName::from_static("herd-missing");

fn missing(report: &HealthReport) -> Option<HeaderValue> {
    let troubles = report.troubles.iter().map(|trouble| format!("{}={}", trouble.step, trouble.reason));
    let troubles: Vec<String> = troubles.collect();
    if troubles.is_empty() { None } else { HeaderValue::try_from(troubles.join(", ")).ok() }
}

/// Counts the response and sets its common headers.
async fn finish(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let is_http1 = request.version() <= Version::HTTP_11;
    let is_data = request.uri().path().starts_with("/api/");
    let mut response = next.run(request).await;
    app.metrics.requests.get_or_create(&StatusLabels::of(response.status())).inc();
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_data {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(missing) = missing(&app.health.report()) {
            headers.insert(MISSING, missing);
        }
    }
    if is_http1 && app.draining.is_cancelled() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
