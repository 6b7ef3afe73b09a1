//! Problem responses and parameter extractors of the API.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use herd_stage::Problem;
use herd_store::StoreError;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

/// Schema of a [`Problem`] in the OpenAPI document (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[allow(dead_code, reason = "only its OpenAPI schema is used")]
pub(crate) struct ProblemShape {
    /// Always `about:blank`.
    #[schema(rename = "type")]
    kind: &'static str,
    /// Reason phrase of the status.
    title: &'static str,
    /// HTTP status.
    status: u16,
    /// Human-readable explanation, and what to do.
    detail: String,
}

/// 503: the store is unavailable.
pub(crate) fn store_unavailable(why: &str) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("the store is unavailable (live data is not affected): {why}"),
    )
    .after(Duration::from_secs(2))
}

/// 409: the pipeline has no store.
pub(crate) fn no_store() -> Problem {
    Problem::new(StatusCode::CONFLICT, "this pipeline has no store: add a `postgres` or `sqlite` sink")
}

/// The problem for an error of the store.
pub(crate) fn of_store_error(error: &StoreError) -> Problem {
    if matches!(error, StoreError::Poison { .. }) {
        return Problem::invalid(error.to_string());
    }
    tracing::warn!(%error, "a query of the store failed");
    store_unavailable(&error.to_string())
}

/// Query parameters. Invalid ones are reported as a problem.
#[derive(Debug)]
pub(crate) struct QueryParams<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::<T>::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|rejection| Problem::invalid(rejection.body_text()))
    }
}

/// Path parameters. Invalid ones are reported as a problem.
#[derive(Debug)]
pub(crate) struct PathParams<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Path::<T>::from_request_parts(parts, state)
            .await
            .map(|path| Self(path.0))
            .map_err(|rejection| Problem::invalid(rejection.body_text()))
    }
}

/// The `limit` parameter: `requested`, or `default`.
///
/// # Errors
/// 400 if it is not from 1 to `max`.
pub(crate) fn limit(requested: Option<u32>, default: u32, max: u32) -> Result<u32, Problem> {
    match requested {
        None => Ok(default),
        Some(rows) if (1..=max).contains(&rows) => Ok(rows),
        Some(rows) => Err(Problem::invalid(format!("limit: {rows} is not from 1 to {max}"))),
    }
}
