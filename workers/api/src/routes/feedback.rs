//! What people say of alerts.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use herd_spec::wire::{AlertId, AlertState};
use serde::Deserialize;
use utoipa::ToSchema;

use super::history;
use crate::app::{App, now};
use crate::problem::{PathParams, ProblemShape};
use herd_stage::Problem;

/// Feedback on an alert.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FeedbackRequest)]
pub(crate) struct FeedbackRequest {
    /// Whether the alert was useful.
    useful: bool,
}

/// Stores whether an alert was useful
///
/// The last feedback on an alert counts. It is returned with the alert and changes nothing else: detectors do not learn from it.
#[utoipa::path(
    post, path = "/api/v1/alerts/{id}/feedback", tag = "history", params(("id" = String, Path, description = "The id of the alert")),
    request_body = FeedbackRequest,
    responses(
        (status = NO_CONTENT, description = "The feedback is stored"),
        (status = BAD_REQUEST, body = ProblemShape, content_type = "application/problem+json"),
        (status = NOT_FOUND, body = ProblemShape, content_type = "application/problem+json", description = "The alert is unknown"),
        (status = CONFLICT, body = ProblemShape, content_type = "application/problem+json", description = "The pipeline has no store"),
        (status = SERVICE_UNAVAILABLE, body = ProblemShape, content_type = "application/problem+json")
    )
)]
pub(crate) async fn feedback(
    State(app): State<Arc<App>>,
    PathParams(id): PathParams<String>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let (history, store) = history(&app)?;
    let FeedbackRequest { useful } = serde_json::from_slice(&body)
        .map_err(|error| Problem::invalid(format!("the body is invalid: {error}")))?;
    let id = AlertId(id);
    // The store may be behind.
    let live = app.live.lock().alert_state(&id);
    let known = match live {
        Some(state) => state != AlertState::Withdrawn,
        None => is_id(&id) && history.query(store.has_alert(&id)).await?,
    };
    if !known {
        return Err(Problem::missing(format!("alert `{id}` does not exist")));
    }
    history.query(store.set_feedback(&id, useful, now())).await?;
    app.live.lock().take_feedback(&id, useful);
    Ok(StatusCode::NO_CONTENT)
}

/// Whether it has the form of an id: nothing else is stored.
fn is_id(id: &AlertId) -> bool {
    id.0.len() == 32 && id.0.bytes().all(|byte| byte.is_ascii_hexdigit())
}
