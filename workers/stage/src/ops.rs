//! The operational endpoints that every stage serves: `/healthz`, `/readyz`, `/metrics`.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::{Stage, cpu};

/// `/healthz` (the process runs), `/readyz` (no complaints, else 503 with them), `/metrics` (OpenMetrics text).
pub fn router(stage: Stage) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(stage)
}

async fn ready(State(stage): State<Stage>) -> Response {
    let complaints = stage.health.complaints();
    if complaints.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(complaints)).into_response()
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
