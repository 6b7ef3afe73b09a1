//! Errors as clients get them: RFC 9457 problem documents.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use herd_store::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

/// What went wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The status.
    pub(crate) status: StatusCode,
    /// What was wrong and what to do, in words.
    pub(crate) detail: String,
    /// When trying again may help, in seconds.
    pub(crate) retry_after: Option<u32>,
}

/// The document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemShape {
    /// Always `about:blank`: the status says which kind it is.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The status in words.
    pub(crate) title: &'static str,
    /// The status.
    pub(crate) status: u16,
    /// What was wrong and what to do.
    pub(crate) detail: String,
}

impl Problem {
    /// A problem of this status.
    #[must_use]
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None }
    }

    /// 400: a parameter or body is wrong.
    #[must_use]
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404.
    #[must_use]
    pub(crate) fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 503: the store does not answer.
    #[must_use]
    pub(crate) fn store_away(why: &str) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            detail: format!("the store does not answer; live values are not affected: {why}"),
            retry_after: Some(2),
        }
    }

    /// Whether only the store is away.
    #[must_use]
    pub(crate) fn is_unavailable(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// 409: there is no store to ask.
    #[must_use]
    pub(crate) fn no_store() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "this pipeline keeps no history: give it a `postgres` or `sqlite` sink",
        )
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Poison { .. }) {
            return Self::invalid(error.to_string());
        }
        tracing::warn!(%error, "the store did not answer a question");
        Self::store_away(&error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let shape = ProblemShape {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let mut response = (self.status, crate::hub::json(&shape)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Query parameters; wrong ones are a problem that names them.
#[derive(Debug)]
pub(crate) struct Ask<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Ask<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::<T>::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|rejection| Problem::invalid(rejection.body_text()))
    }
}

/// Path parameters.
#[derive(Debug)]
pub(crate) struct At<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Path::<T>::from_request_parts(parts, state)
            .await
            .map(|path| Self(path.0))
            .map_err(|rejection| Problem::invalid(rejection.body_text()))
    }
}

/// A number of rows: `asked`, or `usual`.
///
/// # Errors
/// If it is not from 1 to `most`.
pub(crate) fn limit(asked: Option<u32>, usual: u32, most: u32) -> Result<u32, Problem> {
    match asked {
        None => Ok(usual),
        Some(rows) if (1..=most).contains(&rows) => Ok(rows),
        Some(rows) => Err(Problem::invalid(format!("limit: {rows} is not from 1 to {most}"))),
    }
}
