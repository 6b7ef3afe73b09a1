//! The operational endpoints of every stage: `/healthz`, `/readyz`, `/statusz`, `/metrics`. They have a port of their own, so that
//! an Ingress does not expose them.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::Stage;
use crate::cpu::CpuCollector;

/// `/healthz` (200 while the process runs), `/readyz` (200 if the stage is ready, otherwise 503) and `/statusz` (always 200), both
/// with a [`herd_spec::health::HealthReport`], and `/metrics` (OpenMetrics text).
pub fn router(stage: Stage) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/statusz", get(status))
        .route("/metrics", get(metrics))
        .with_state(stage)
}

async fn ready(State(stage): State<Stage>) -> Response {
    let report = stage.health.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn status(State(stage): State<Stage>) -> Response {
    Json(stage.health.report()).into_response()
}

async fn metrics(State(stage): State<Stage>) -> Response {
    match encode(&stage) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The metrics of the stage, and those of the process, which have no prefix.
fn encode(stage: &Stage) -> Result<String, std::fmt::Error> {
    let mut process = Registry::default();
    process.register_collector(Box::new(CpuCollector));
    let mut text = String::new();
    stage.register(|registry| text::encode_registry(&mut text, registry))?;
    text::encode_registry(&mut text, &process)?;
    text::encode_eof(&mut text)?;
    Ok(text)
}
