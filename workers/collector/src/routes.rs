//! The HTTP endpoint for events.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use herd_bus::Producer;
use herd_stage::{Clock, Problem, SystemClock};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::app::App;
use crate::body;
use crate::client;
use crate::deliver::deliver;
use crate::intake::segment::Call;
use crate::prepare::Endpoint;
use crate::{pixel, prepare, script};

/// Bodies longer than this, and all compressed ones, are parsed on a blocking thread.
const LONG_BODY: usize = 32 << 10;
/// Cache time of CORS preflight responses.
const PREFLIGHT_MAX_AGE: std::time::Duration = std::time::Duration::from_secs(86_400);

/// The peer address of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

struct TrackState<P> {
    app: Arc<App>,
    producer: P,
}

impl<P: Clone> Clone for TrackState<P> {
    fn clone(&self) -> Self {
        Self { app: Arc::clone(&self.app), producer: self.producer.clone() }
    }
}

/// `POST /track`, `GET /track.gif`, Segment's API and the tracker.
pub(crate) fn router<P: Producer>(app: Arc<App>, producer: P) -> Router {
    let state = TrackState { app: Arc::clone(&app), producer };
    Router::new()
        .route("/track", post(track::<P>))
        .route("/track.gif", get(track_pixel::<P>))
        .route("/v1/{call}", post(segment::<P>))
        .with_state(state)
        .route("/herd.js", get(script::serve))
        .fallback(other)
        .method_not_allowed_fallback(|| async { unknown(StatusCode::METHOD_NOT_ALLOWED) })
        .layer(cors(&app))
        .layer(middleware::from_fn_with_state(app, measure))
}

fn unknown(status: StatusCode) -> Problem {
    Problem::new(status, "unknown endpoint: send events with POST /track")
}

/// The tracker under the name with its hash, which may be an old one; there is nothing else.
async fn other(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method == Method::GET && uri.path().starts_with("/herd-") && uri.path().ends_with(".js") {
        return script::serve(uri, headers).await;
    }
    unknown(StatusCode::NOT_FOUND).into_response()
}

/// Without credentials: the collector uses no cookies, and no page needs to send any. A beacon of text has no preflight request, and its
/// response is not read.
fn cors(app: &Arc<App>) -> CorsLayer {
    let known = Arc::clone(app);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| {
            origin.to_str().is_ok_and(|origin| known.allows_origin(origin))
        }))
        .allow_methods([Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER, header::DATE]) // the tracker learns from them when to retry, and the clock
        .max_age(PREFLIGHT_MAX_AGE)
}

async fn measure(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let is_event = request.method() == Method::POST || request.uri().path() == "/track.gif";
    let mut response = next.run(request).await;
    if is_event {
        app.metrics.latency.observe(began.elapsed().as_secs_f64());
        app.metrics.answered(response.status());
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn track<P: Producer>(State(state): State<TrackState<P>>, request: Request) -> Response {
    accept(&state, Endpoint::Track, request).await.unwrap_or_else(IntoResponse::into_response)
}

/// `POST /v1/batch`, `/v1/track` and so on: Segment's HTTP API.
async fn segment<P: Producer>(
    State(state): State<TrackState<P>>,
    Path(call): Path<String>,
    request: Request,
) -> Response {
    let endpoint = match (call.as_str(), Call::of(&call)) {
        ("batch", _) => Endpoint::Segment(None),
        (_, Some(call)) => Endpoint::Segment(Some(call)),
        (_, None) => return unknown(StatusCode::NOT_FOUND).into_response(),
    };
    accept(&state, endpoint, request).await.unwrap_or_else(IntoResponse::into_response)
}

/// `GET /track.gif`.
async fn track_pixel<P: Producer>(State(state): State<TrackState<P>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let event = pixel::event(&parts.uri);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.remove(header::CONTENT_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    let response = track(State(state), Request::from_parts(parts, Body::from(event))).await;
    pixel::respond(response)
}

async fn accept<P: Producer>(
    state: &TrackState<P>,
    endpoint: Endpoint,
    request: Request,
) -> Result<Response, Problem> {
    let app = &state.app;
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let from = client::address(peer, &parts.headers, &app.plan.collector.trusted_proxies);
    // A key may be in the body only of Segment's API: there, a body is read before its sender is known, within the same limits.
    let writer = match endpoint {
        Endpoint::Track => app.writers.identify(&parts.headers, &parts.uri, from).map(Some),
        Endpoint::Segment(_) => app.writers.identify_segment(&parts.headers, &parts.uri, from),
    };
    let writer = writer.map_err(Problem::closing)?;
    if let Some(origin) = parts.headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        if !app.allows_origin(origin) {
            return Err(app.origin_not_allowed(origin).closing());
        }
    }
    let read = read(app, &parts.headers, body).await;
    let (body, reservation) = read?;
    app.metrics.bytes.inc_by(body.len() as u64);
    let received = SystemClock.now();
    let long = body.len() > LONG_BODY || parts.headers.contains_key(header::CONTENT_ENCODING);
    let context = match prepare::received_before(&parts.headers) {
        None => app.context.read(&parts.headers, peer, from),
        Some(_) => app.context.unknown(),
    };
    let request =
        prepare::Request { endpoint, writer, context, headers: parts.headers, body, reservation, received };
    let (batch, _reservation) = if long {
        let app = Arc::clone(app);
        tokio::task::spawn_blocking(move || request.prepare(&app)).await.map_err(|error| {
            tracing::error!(%error, "parsing a request panicked");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error: see the log of the collector")
        })??
    } else {
        request.prepare(app)?
    };
    deliver(app, &state.producer, batch, received, app.limits().ack_timeout.0).await
}

async fn read(
    app: &App,
    headers: &axum::http::HeaderMap,
    body: Body,
) -> Result<(Vec<u8>, body::Reservation), Problem> {
    let mut reservation = app.memory.reserve();
    let body = body::read(headers, body, app.limits(), &mut reservation).await?;
    Ok((body, reservation))
}
