//! Authentication by token, and protection against cross-origin requests.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::app::App;
use herd_stage::Problem;

/// Requires the token, if one is configured (`Authorization: Bearer TOKEN` or `?token=TOKEN`). Refuses requests that write or open
/// a WebSocket from a page of another origin.
pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if let Some(token) = &app.token {
        let given = bearer(request.headers()).map(str::to_owned).or_else(|| {
            let query = Query::<HashMap<String, String>>::try_from_uri(request.uri()).ok()?;
            query.get("token").cloned()
        });
        let detail = match given {
            None => Some("a token is required: send `Authorization: Bearer TOKEN` or append `?token=TOKEN`"),
            Some(given) if bool::from(given.as_bytes().ct_eq(token.reveal().as_bytes())) => None,
            Some(_) => Some("the token is not valid"),
        };
        if let Some(detail) = detail {
            return Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
        }
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.headers().contains_key(header::UPGRADE);
    if !reads && is_cross_origin(request.headers()) {
        return Problem::new(StatusCode::FORBIDDEN, "cross-origin requests are not allowed").into_response();
    }
    next.run(request).await
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Browsers send `Origin`; requests of other clients have none and are accepted. CORS does not apply to WebSockets.
fn is_cross_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    origin.is_none() || origin != host
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::no_browser(None, false)]
    #[case::own_page(Some("http://herd.example:8080"), false)]
    #[case::behind_tls(Some("https://herd.example:8080"), false)]
    #[case::other_page(Some("https://evil.example"), true)]
    #[case::other_port(Some("http://herd.example:9090"), true)]
    #[case::file(Some("null"), true)]
    fn detects_cross_origin_requests(#[case] origin: Option<&str>, #[case] cross_origin: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "herd.example:8080".parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        assert_eq!(is_cross_origin(&headers), cross_origin);
    }
}
