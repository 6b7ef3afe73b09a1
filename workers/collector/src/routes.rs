//! The HTTP side: one path for events.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use herd_bus::Producer;
use herd_stage::{Clock, SystemClock};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::app::App;
use crate::body;
use crate::client;
use crate::deliver::deliver;
use crate::prepare;
use crate::problem::Problem;

/// Bodies longer than this, and all packed ones, are read on a thread of their own.
const LONG_BODY: usize = 32 << 10;
/// How long a browser may remember what it was allowed.
const PREFLIGHT: std::time::Duration = std::time::Duration::from_secs(3600);

/// The address at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

struct Door<P> {
    app: Arc<App>,
    producer: P,
}

impl<P: Clone> Clone for Door<P> {
    fn clone(&self) -> Self {
        Self { app: Arc::clone(&self.app), producer: self.producer.clone() }
    }
}

/// `POST /track`.
pub(crate) fn router<P: Producer>(app: Arc<App>, producer: P) -> Router {
    let door = Door { app: Arc::clone(&app), producer };
    Router::new()
        .route("/track", post(track::<P>))
        .with_state(door)
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "events go to POST /track") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "events go to POST /track")
        })
        .layer(cors(&app))
        .layer(middleware::from_fn_with_state(app, measure))
}

/// Beacons with a JSON body are sent with credentials, and browsers then want to see their own origin named. No cookie
/// means anything here, so nothing is given away by it.
fn cors(app: &Arc<App>) -> CorsLayer {
    let known = Arc::clone(app);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| {
            origin.to_str().is_ok_and(|origin| known.takes_origin(origin))
        }))
        .allow_credentials(true)
        .allow_methods([Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER])
        .max_age(PREFLIGHT)
}

async fn measure(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let is_event = request.method() == Method::POST;
    let mut response = next.run(request).await;
    if is_event {
        app.metrics.latency.observe(began.elapsed().as_secs_f64());
        app.metrics.answered(response.status());
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn track<P: Producer>(State(door): State<Door<P>>, request: Request) -> Response {
    take(&door, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn take<P: Producer>(door: &Door<P>, request: Request) -> Result<Response, Problem> {
    let app = &door.app;
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let from = client::address(peer, &parts.headers, &app.plan.collector.trusted_proxies);
    let writer = app.writers.identify(&parts.headers, &parts.uri, from).map_err(Problem::closing)?;
    if let Some(origin) = parts.headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        if !app.takes_origin(origin) {
            return Err(app.foreign(origin).closing());
        }
    }
    let read = read(app, &parts.headers, body).await;
    let (body, share) = read?;
    app.metrics.bytes.inc_by(body.len() as u64);
    let received = SystemClock.now();
    let long = body.len() > LONG_BODY || parts.headers.contains_key(header::CONTENT_ENCODING);
    let request = prepare::Request { writer, headers: parts.headers, body, share, received };
    let (batch, _share) = if long {
        let app = Arc::clone(app);
        tokio::task::spawn_blocking(move || request.prepare(&app)).await.map_err(|error| {
            tracing::error!(%error, "reading a request failed");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is our fault, and has been logged")
        })??
    } else {
        request.prepare(app)?
    };
    deliver(app, &door.producer, batch, received, app.limits().ack_timeout.0).await
}

async fn read(
    app: &App,
    headers: &axum::http::HeaderMap,
    body: Body,
) -> Result<(Vec<u8>, body::Share), Problem> {
    let mut share = app.memory.share();
    let body = body::read(headers, body, app.limits(), &mut share).await?;
    Ok((body, share))
}
