//! REST under `/api/v1`, each route with its part of the OpenAPI document.

mod alerts;
mod feedback;
mod pipeline;
mod simulate;
mod users;
mod windows;

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::history::History;
use crate::problem::{ProblemShape, no_store};
use herd_stage::Problem;
use herd_store::Store;

pub(crate) use alerts::stored_alerts;
pub(crate) use windows::stored_windows;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Herd",
        description = "Live data and history of a pipeline of user events. All times are milliseconds since 1970 (UTC); errors \
                       are RFC 9457 problem documents. If a token is configured, send `Authorization: Bearer TOKEN` \
                       or `?token=TOKEN`. `GET /ws` is a WebSocket of JSON frames: send \
                       `{\"op\":\"subscribe\",\"room\":R}` with R one of `all`, `alerts`, `stats`, `trending:METRIC`, \
                       `metric:METRIC`, `item:METRIC/KEY`; the first frame is a snapshot of the room, followed by its changes."
    ),
    components(schemas(ProblemShape)),
    tags(
        (name = "live", description = "Live data"),
        (name = "history", description = "History; requires a store"),
        (name = "simulate", description = "Simulated crowds of events")
    )
)]
struct Document;

/// The store, for routes that require it.
///
/// # Errors
/// 409 without a store, 503 while it is not open.
fn history(app: &App) -> Result<(&History, &Store), Problem> {
    let history = app.history.as_deref().ok_or_else(no_store)?;
    Ok((history, history.store()?))
}

/// All routes under `/api/v1`, and their OpenAPI document.
pub(crate) fn router() -> (Router<Arc<App>>, utoipa::openapi::OpenApi) {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(pipeline::pipeline))
        .routes(routes!(pipeline::stats))
        .routes(routes!(pipeline::trending))
        .routes(routes!(windows::windows))
        .routes(routes!(alerts::alerts))
        .routes(routes!(feedback::feedback))
        .routes(routes!(users::users))
        .routes(routes!(users::user))
        .routes(routes!(users::events))
        .routes(routes!(simulate::spike))
        .split_for_parts();
    let text: Arc<str> = crate::hub::json(&document).into();
    let router = router.route(
        "/api/v1/openapi.json",
        get(move || async move {
            ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response()
        }),
    );
    (router, document)
}
