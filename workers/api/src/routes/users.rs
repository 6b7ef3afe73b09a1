//! Users and what they did: from the store.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use herd_spec::units::EventTime;
use herd_store::{Store, UserOrder};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::history::History;
use crate::problem::{Ask, At, Problem, ProblemShape, limit};
use crate::shapes::UserShape;

const USUAL: u32 = 50;
const MOST: u32 = 1_000;

fn history(app: &App) -> Result<(&History, &Store), Problem> {
    let history = app.history.as_deref().ok_or_else(Problem::no_store)?;
    Ok((history, history.store()?))
}

/// Users, highest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Users)]
pub(crate) struct UsersShape {
    /// The users.
    users: Vec<UserShape>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsersQuery {
    /// `revenue`, `events` or `last_seen`. Left out: `revenue`.
    order: Option<String>,
    /// So many, 1 to 1000. Left out: 50.
    limit: Option<u32>,
}

/// The users who spent or did most, or were here last
#[utoipa::path(
    get, path = "/api/v1/users", tag = "history", params(UsersQuery),
    responses(
        (status = OK, body = UsersShape),
        (status = BAD_REQUEST, body = ProblemShape, content_type = "application/problem+json"),
        (status = CONFLICT, body = ProblemShape, content_type = "application/problem+json", description = "There is no store"),
        (status = SERVICE_UNAVAILABLE, body = ProblemShape, content_type = "application/problem+json")
    )
)]
pub(crate) async fn users(
    State(app): State<Arc<App>>,
    Ask(query): Ask<UsersQuery>,
) -> Result<Json<UsersShape>, Problem> {
    let order = match query.order {
        None => UserOrder::default(),
        Some(order) => order.parse().map_err(|error| Problem::invalid(format!("order: {error}")))?,
    };
    let limit = limit(query.limit, USUAL, MOST)?;
    let (history, store) = history(&app)?;
    let users = history.answer(store.top_users(order, limit)).await?;
    Ok(Json(UsersShape { users: users.into_iter().map(UserShape::from).collect() }))
}

/// What is known of a user
#[utoipa::path(
    get, path = "/api/v1/users/{id}", tag = "history", params(("id" = String, Path, description = "The user")),
    responses(
        (status = OK, body = UserShape),
        (status = NOT_FOUND, body = ProblemShape, content_type = "application/problem+json", description = "Never seen"),
        (status = CONFLICT, body = ProblemShape, content_type = "application/problem+json", description = "There is no store"),
        (status = SERVICE_UNAVAILABLE, body = ProblemShape, content_type = "application/problem+json")
    )
)]
pub(crate) async fn user(
    State(app): State<Arc<App>>,
    At(id): At<String>,
) -> Result<Json<UserShape>, Problem> {
    let (history, store) = history(&app)?;
    match history.answer(store.user_stats(&id)).await? {
        Some(stats) => Ok(Json(stats.into())),
        None => Err(Problem::missing(format!("no event of the user `{id}` was ever stored"))),
    }
}

/// What a user did, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserEvents)]
pub(crate) struct EventsShape {
    /// The user.
    user_id: String,
    /// The events.
    events: Vec<EventShape>,
    /// Give it as `before` for the next page; none: this is the last.
    next_before: Option<i64>,
}

/// An event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventShape {
    /// Its identity.
    event_id: String,
    /// What was done.
    #[serde(rename = "type")]
    event_type: String,
    /// Who did it.
    user_id: Option<String>,
    /// To what.
    item_id: Option<String>,
    /// When, by the event's own account.
    time: i64,
    /// When it was received.
    received: i64,
    /// All other fields of the event as it came.
    #[schema(value_type = Object)]
    properties: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Events before this time: `next_before` of the page before.
    before: Option<i64>,
    /// So many, 1 to 1000. Left out: 50. A page may be a little longer: events of one millisecond stay together.
    limit: Option<u32>,
}

/// What a user did, newest first
#[utoipa::path(
    get, path = "/api/v1/users/{id}/events", tag = "history", params(("id" = String, Path, description = "The user"), EventsQuery),
    responses(
        (status = OK, body = EventsShape),
        (status = BAD_REQUEST, body = ProblemShape, content_type = "application/problem+json"),
        (status = CONFLICT, body = ProblemShape, content_type = "application/problem+json", description = "There is no store"),
        (status = SERVICE_UNAVAILABLE, body = ProblemShape, content_type = "application/problem+json")
    )
)]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    At(id): At<String>,
    Ask(query): Ask<EventsQuery>,
) -> Result<Json<EventsShape>, Problem> {
    let limit = limit(query.limit, USUAL, MOST)?;
    let (history, store) = history(&app)?;
    let events = history.answer(store.user_events(&id, query.before.map(EventTime), limit)).await?;
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
