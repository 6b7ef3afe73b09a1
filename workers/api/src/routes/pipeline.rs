//! The pipeline, its statistics and trending keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::{App, now};
use crate::live::TRENDING_ITEMS;
use crate::problem::{ProblemShape, QueryParams, limit};
use crate::shapes::{PipelineShape, StatsShape, TrendingShape};
use herd_stage::Problem;

/// Metrics, detectors and sinks of the pipeline
#[utoipa::path(get, path = "/api/v1/pipeline", tag = "live", responses((status = OK, body = PipelineShape)))]
pub(crate) async fn pipeline(State(app): State<Arc<App>>) -> Json<PipelineShape> {
    Json(app.pipeline.clone())
}

/// Throughput, totals and lag
#[utoipa::path(get, path = "/api/v1/stats", tag = "live", responses((status = OK, body = StatsShape)))]
pub(crate) async fn stats(State(app): State<Arc<App>>) -> Json<StatsShape> {
    let stats = app.live.lock().stats();
    Json(StatsShape { now: now().0, ..stats })
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TrendingQuery {
    /// Name of the metric. Omitted: the first metric.
    metric: Option<String>,
    /// Number of items, 1 to 200. Omitted: 20.
    limit: Option<u32>,
}

/// Trending keys of a metric
#[utoipa::path(
    get, path = "/api/v1/trending", tag = "live", params(TrendingQuery),
    responses(
        (status = OK, body = TrendingShape),
        (status = BAD_REQUEST, body = ProblemShape, content_type = "application/problem+json"),
        (status = NOT_FOUND, body = ProblemShape, content_type = "application/problem+json", description = "The metric does not exist")
    )
)]
pub(crate) async fn trending(
    State(app): State<Arc<App>>,
    QueryParams(query): QueryParams<TrendingQuery>,
) -> Result<Json<TrendingShape>, Problem> {
    let usual = u32::try_from(TRENDING_ITEMS).unwrap_or(20);
    let limit = limit(query.limit, usual, 200)?;
    let metric = match query.metric {
        Some(name) => app.metric(&name)?,
        None if app.plan.metrics.is_empty() => return Err(Problem::missing("this pipeline has no metrics")),
        None => 0,
    };
    let list = app.live.lock().trending(metric, usize::try_from(limit).unwrap_or(TRENDING_ITEMS));
    Ok(Json(list))
}

impl App {
    /// Index of a metric in the plan.
    ///
    /// # Errors
    /// 404 with the names of all metrics.
    pub(crate) fn metric(&self, name: &str) -> Result<usize, Problem> {
        self.plan.metrics.iter().position(|metric| metric.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.plan.metrics.iter().map(|metric| metric.name.as_str()).collect();
            Problem::missing(format!(
                "metric `{name}` does not exist; metrics of this pipeline: {}",
                known.join(", ")
            ))
        })
    }
}
