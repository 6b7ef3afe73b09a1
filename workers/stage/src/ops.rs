//! The operational endpoints of every stage: `/healthz`, `/readyz`, `/statusz`, `/metrics`. They stand on a port of their own, so that
//! what shows a stage to the world shows none of them.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::{Stage, cpu};

/// `/healthz` (the process runs), `/readyz` (200 when the stage can answer, else 503), `/statusz` (always 200), both with a
/// [`herd_spec::health::HealthReport`], `/metrics` (OpenMetrics text).
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
    let mut text = String::new();
    let encoded = stage.register(|registry| prometheus_client::encoding::text::encode(&mut text, registry));
    match encoded {
        Ok(()) => {
            if let Some(seconds) = cpu::seconds() {
                // The last line says that nothing follows.
                let rest = text.trim_end().trim_end_matches("# EOF");
                text = format!(
                    "{rest}# HELP process_cpu_seconds CPU used\n# TYPE process_cpu_seconds counter\n\
                     # UNIT process_cpu_seconds seconds\nprocess_cpu_seconds_total {seconds}\n# EOF\n"
                );
            }
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
