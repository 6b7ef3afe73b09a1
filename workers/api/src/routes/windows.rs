//! The windows of one key, for charts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use herd_spec::units::EventTime;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::hub::MAX_KEY;
use crate::live::CHART_WINDOWS;
use crate::problem::{PathParams, ProblemShape, QueryParams, limit};
use crate::shapes::{Point, WindowsShape};
use herd_stage::Problem;

const MOST_WINDOWS: u32 = 5_000;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WindowsQuery {
    /// The key, e.g. an item id.
    #[serde(default)]
    #[param(required = true, value_type = String)]
    key: Option<String>,
    /// Windows that start at or after this time.
    from: Option<i64>,
    /// Windows that start before this time.
    to: Option<i64>,
    /// Number of windows, the newest ones, 1 to 5000. Omitted: 120.
    limit: Option<u32>,
}

/// The windows of one key, oldest first
///
/// Closed windows from the store, if there is one, merged with the latest windows, closed or open, from the live stream. While the
/// store is unavailable, only the latter are returned, with `missing`.
#[utoipa::path(
    get, path = "/api/v1/metrics/{metric}/windows", tag = "live", params(("metric" = String, Path, description = "The metric"), WindowsQuery),
    responses(
        (status = OK, body = WindowsShape),
        (status = BAD_REQUEST, body = ProblemShape, content_type = "application/problem+json"),
        (status = NOT_FOUND, body = ProblemShape, content_type = "application/problem+json", description = "The metric does not exist")
    )
)]
pub(crate) async fn windows(
    State(app): State<Arc<App>>,
    PathParams(metric): PathParams<String>,
    QueryParams(query): QueryParams<WindowsQuery>,
) -> Result<Json<WindowsShape>, Problem> {
    let metric = app.metric(&metric)?;
    let limit = limit(query.limit, CHART_WINDOWS, MOST_WINDOWS)?;
    let key = query.key.unwrap_or_default();
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(Problem::invalid(format!("key: required, with a length from 1 to {MAX_KEY} bytes")));
    }
    if let (Some(from), Some(to)) = (query.from, query.to)
        && from >= to
    {
        return Err(Problem::invalid(format!("from: {from} is not before `to` ({to})")));
    }
    let range = (query.from, query.to);
    let (stored, missing) = match stored_windows(&app, metric, &key, range, limit).await {
        Ok(stored) => (stored, None),
        Err(problem) if problem.is_unavailable() => (Vec::new(), Some(problem.detail)),
        Err(problem) => return Err(problem),
    };
    let windows = app.live.lock().windows(metric, &key, range, limit, stored);
    Ok(Json(WindowsShape { missing, ..windows }))
}

/// Stored windows of a key; empty without a store.
///
/// # Errors
/// 503 if the store is unavailable.
pub(crate) async fn stored_windows(
    app: &App,
    metric: usize,
    key: &str,
    (from, to): (Option<i64>, Option<i64>),
    limit: u32,
) -> Result<Vec<Point>, Problem> {
    let Some(history) = &app.history else { return Ok(Vec::new()) };
    let plan = &app.plan.metrics[metric];
    let (from, to) = (from.map(EventTime), to.map(EventTime));
    let asked = history.store()?.windows(&plan.name, plan.definition(), key, from, to, limit);
    let found = history.query(asked).await?;
    Ok(found.into_iter().map(Point::of).collect())
}
