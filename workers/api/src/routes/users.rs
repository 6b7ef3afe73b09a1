//! Users and their events, from the store.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use herd_spec::units::EventTime;
use herd_store::UserOrder;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::history;
use crate::app::App;
use crate::problem::{PathParams, ProblemShape, QueryParams, limit};
use crate::shapes::UserShape;
use herd_stage::Problem;

const USUAL: u32 = 50;
const MOST: u32 = 1_000;

/// Users in descending order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Users)]
pub(crate) struct UsersShape {
    /// The users.
    users: Vec<UserShape>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsersQuery {
    /// Order: `revenue`, `events` or `last_seen`. Omitted: `revenue`.
    order: Option<String>,
    /// Page size, 1 to 1000. Omitted: 50.
    limit: Option<u32>,
}

/// Users by revenue, events or last activity
#[utoipa::path(
    get, path = "/api/v1/users", tag = "history", params(UsersQuery),
    responses(
        (status = OK, body = UsersShape),
        (status = BAD_REQUEST, body = ProblemShape, content_type = "application/problem+json"),
        (status = CONFLICT, body = ProblemShape, content_type = "application/problem+json", description = "The pipeline has no store"),
        (status = SERVICE_UNAVAILABLE, body = ProblemShape, content_type = "application/problem+json")
    )
)]
pub(crate) async fn users(
    State(app): State<Arc<App>>,
    QueryParams(query): QueryParams<UsersQuery>,
) -> Result<Json<UsersShape>, Problem> {
    let order = match query.order {
        None => UserOrder::default(),
        Some(order) => order.parse().map_err(|error| Problem::invalid(format!("order: {error}")))?,
    };
    let limit = limit(query.limit, USUAL, MOST)?;
    let (history, store) = history(&app)?;
    let users = history.query(store.top_users(order, limit)).await?;
    Ok(Json(UsersShape { users: users.into_iter().map(UserShape::from).collect() }))
}

/// Statistics of a user
#[utoipa::path(
    get, path = "/api/v1/users/{id}", tag = "history", params(("id" = String, Path, description = "The user")),
    responses(
        (status = OK, body = UserShape),
        (status = NOT_FOUND, body = ProblemShape, content_type = "application/problem+json", description = "The user is unknown"),
        (status = CONFLICT, body = ProblemShape, content_type = "application/problem+json", description = "The pipeline has no store"),
        (status = SERVICE_UNAVAILABLE, body = ProblemShape, content_type = "application/problem+json")
    )
)]
pub(crate) async fn user(
    State(app): State<Arc<App>>,
    PathParams(id): PathParams<String>,
) -> Result<Json<UserShape>, Problem> {
    let (history, store) = history(&app)?;
    match history.query(store.user_stats(&id)).await? {
        Some(stats) => Ok(Json(stats.into())),
        None => Err(Problem::missing(format!("no events of user `{id}` are stored"))),
    }
}

/// Events of a user, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserEvents)]
pub(crate) struct EventsShape {
    /// The user.
    user_id: String,
    /// The events.
    events: Vec<EventShape>,
    /// Value of `before` for the next page; absent on the last page.
    next_before: Option<i64>,
}

/// An event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventShape {
    /// Event id.
    event_id: String,
    /// Event type.
    #[serde(rename = "type")]
    event_type: String,
    /// User id.
    user_id: Option<String>,
    /// Item id.
    item_id: Option<String>,
    /// Event time.
    time: i64,
    /// Time of receipt.
    received: i64,
    /// All other fields of the event as received.
    #[schema(value_type = Object)]
    properties: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Only events before this time: `next_before` of the previous page.
    before: Option<i64>,
    /// Page size, 1 to 1000. Omitted: 50. A page may be slightly longer, because events of the same millisecond are not split.
    limit: Option<u32>,
}

/// Events of a user, newest first
#[utoipa::path(
    get, path = "/api/v1/users/{id}/events", tag = "history", params(("id" = String, Path, description = "The user"), EventsQuery),
    responses(
        (status = OK, body = EventsShape),
        (status = BAD_REQUEST, body = ProblemShape, content_type = "application/problem+json"),
        (status = CONFLICT, body = ProblemShape, content_type = "application/problem+json", description = "The pipeline has no store"),
        (status = SERVICE_UNAVAILABLE, body = ProblemShape, content_type = "application/problem+json")
    )
)]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<EventsQuery>,
) -> Result<Json<EventsShape>, Problem> {
    let limit = limit(query.limit, USUAL, MOST)?;
    let (history, store) = history(&app)?;
    let events = history.query(store.user_events(&id, query.before.map(EventTime), limit)).await?;
    let full = events.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next_before = events.last().filter(|_| full).map(|event| event.time.0);
    let events = events
        .into_iter()
        .map(|event| EventShape {
            event_id: event.event_id,
            event_type: event.event_type,
            user_id: event.user_id,
            item_id: event.item_id,
            time: event.time.0,
            received: event.received.0,
            properties: event.properties,
        })
        .collect();
    Ok(Json(EventsShape { user_id: id, events, next_before }))
}
