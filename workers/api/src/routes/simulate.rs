//! Simulated crowds: real events sent through the collector, so that a real alert is raised.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use herd_spec::plan::Plan;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::{App, Collector};
use crate::hub::MAX_KEY;
use crate::problem::{PathParams, ProblemShape};
use herd_stage::Problem;

const MOST_EVENTS: u32 = 20_000;
const MOST_SECONDS: f64 = 60.0;
/// Requests per second.
const PACE: f64 = 10.0;
/// Maximum number of events per request.
const CHUNK: usize = 1_000;
/// Timeout of a request to the collector.
const PATIENCE: Duration = Duration::from_secs(10);

/// Size of a crowd. All fields are optional.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SpikeRequest)]
pub(crate) struct SpikeRequest {
    /// Number of events, 1 to 20000, each of a different user. Omitted: 400.
    count: Option<u32>,
    /// Duration in seconds, up to 60. Omitted: 5.
    seconds: Option<f64>,
    /// Event type. Omitted: the first type of the first metric.
    #[serde(rename = "type")]
    event_type: Option<String>,
}

/// The crowd that was started.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Spike)]
pub(crate) struct SpikeShape {
    /// The item.
    item: String,
    /// Event type.
    #[serde(rename = "type")]
    event_type: String,
    /// Number of events.
    events: u32,
    /// Duration in seconds.
    seconds: f64,
}

/// Simulates a crowd on one item with events sent through the collector
#[utoipa::path(
    post, path = "/api/v1/simulate/spike/{item}", tag = "simulate", params(("item" = String, Path, description = "The item")),
    request_body(content = SpikeRequest, description = "Optional"),
    responses(
        (status = ACCEPTED, body = SpikeShape),
        (status = BAD_REQUEST, body = ProblemShape, content_type = "application/problem+json"),
        (status = NOT_FOUND, body = ProblemShape, content_type = "application/problem+json", description = "`api.simulate` is off"),
        (status = CONFLICT, body = ProblemShape, content_type = "application/problem+json", description = "The URL of the collector is not configured"),
        (status = TOO_MANY_REQUESTS, body = ProblemShape, content_type = "application/problem+json"),
        (status = BAD_GATEWAY, body = ProblemShape, content_type = "application/problem+json", description = "The collector refuses the events")
    )
)]
pub(crate) async fn spike(
    State(app): State<Arc<App>>,
    PathParams(item): PathParams<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<SpikeShape>), Problem> {
    if !app.plan.api.simulate {
        return Err(Problem::missing(
            "simulation is not enabled for this pipeline: set `api.simulate: true`",
        ));
    }
    let Some(collector) = app.collector.clone() else {
        return Err(Problem::new(StatusCode::CONFLICT, "the URL of the collector is not configured"));
    };
    let spike = read(&app.plan, item, &body)?;
    let Ok(permit) = Arc::clone(&app.crowd_permits).try_acquire_owned() else {
        let detail = "the limit of concurrent simulated crowds is reached: wait until one has ended";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).after(Duration::from_secs(5)));
    };
    let mut chunks = chunks(&app.plan, &spike).into_iter();
    // The first request shows whether the collector accepts the events at all.
    if let Some(first) = chunks.next() {
        send(&collector, &first).await.map_err(|why| {
            Problem::new(StatusCode::BAD_GATEWAY, format!("the collector refuses the events: {why}"))
        })?;
    }
    let pause = Duration::from_secs_f64(spike.seconds / (chunks.len() + 1) as f64);
    let shutdown = app.shutdown.clone();
    app.tasks.spawn(async move {
        let _permit = permit;
        let mut at = Instant::now();
        for chunk in chunks {
            at += pause;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(at) => {}
            }
            if let Err(error) = send(&collector, &chunk).await {
                tracing::warn!(error, "the collector refused a part of a simulated crowd");
            }
        }
    });
    Ok((StatusCode::ACCEPTED, Json(spike)))
}

fn read(plan: &Plan, item: String, body: &[u8]) -> Result<SpikeShape, Problem> {
    let request: SpikeRequest = if body.iter().all(u8::is_ascii_whitespace) {
        SpikeRequest::default()
    } else {
        serde_json::from_slice(body)
            .map_err(|error| Problem::invalid(format!("the body is invalid: {error}")))?
    };
    if item.is_empty() || item.len() > MAX_KEY {
        return Err(Problem::invalid(format!("item: the length must be from 1 to {MAX_KEY} bytes")));
    }
    let events = request.count.unwrap_or(400);
    if !(1..=MOST_EVENTS).contains(&events) {
        return Err(Problem::invalid(format!("count: {events} is not from 1 to {MOST_EVENTS}")));
    }
    let seconds = request.seconds.unwrap_or(5.0);
    if !(0.0..=MOST_SECONDS).contains(&seconds) {
        return Err(Problem::invalid(format!("seconds: {seconds} is not from 0 to {MOST_SECONDS}")));
    }
    let types = &plan.events.types;
    let event_type = match request.event_type {
        Some(wanted) if !types.is_empty() && !types.contains(&wanted) => {
            let detail =
                format!("type: `{wanted}` is not an accepted event type; use one of: {}", types.join(", "));
            return Err(Problem::invalid(detail));
        }
        Some(wanted) => wanted,
        None => plan
            .metrics
            .first()
            .and_then(|metric| metric.types.first())
            .or(types.first())
            .cloned()
            .unwrap_or_else(|| "view".into()),
    };
    Ok(SpikeShape { item, event_type, events, seconds })
}

/// Splits the crowd into request bodies, evenly over its duration.
fn chunks(plan: &Plan, spike: &SpikeShape) -> Vec<Vec<Value>> {
    let events = usize::try_from(spike.events).unwrap_or(0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most 600
    let paced = (spike.seconds * PACE) as usize;
    let most = CHUNK.min(usize::try_from(plan.collector.limits.batch_events).unwrap_or(CHUNK)).max(1);
    let requests = paced.max(events.div_ceil(most)).clamp(1, events.max(1));
    let crowd = uuid::Uuid::now_v7().simple().to_string();
    (0..requests)
        .map(|request| {
            let numbers = (events * request / requests)..(events * (request + 1) / requests);
            numbers.map(|number| event(plan, spike, &crowd, number)).collect()
        })
        .collect()
}

/// An event according to the mapping of the pipeline. Its time is the time of receipt.
fn event(plan: &Plan, spike: &SpikeShape, crowd: &str, number: usize) -> Value {
    let mapping = &plan.events.mapping;
    let mut event = Map::new();
    let fields = [
        (&mapping.id, format!("spike-{crowd}-{number}")),
        (&mapping.event_type, spike.event_type.clone()),
        (&mapping.user, format!("visitor-{}-{number}", &crowd[crowd.len() - 8..])),
        (&mapping.item, spike.item.clone()),
    ];
    for (paths, value) in fields {
        if let Some(path) = paths.first() {
            put(&mut event, path, value);
        }
    }
    Value::Object(event)
}

fn put(object: &mut Map<String, Value>, path: &[String], value: String) {
    match path {
        [] => {}
        [last] => {
            object.insert(last.clone(), Value::String(value));
        }
        [first, rest @ ..] => {
            let inner = object.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

async fn send(collector: &Collector, events: &[Value]) -> Result<(), String> {
    let url = format!("{}/track", collector.base.trim_end_matches('/'));
    let mut request = collector.http.post(url).timeout(PATIENCE).json(events);
    if let Some(key) = &collector.key {
        request = request.bearer_auth(key.reveal());
    }
    let response = request.send().await.map_err(|error| format!("no response: {}", error.without_url()))?;
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    // 207 means that some items were refused.
    if status.is_success() && status != StatusCode::MULTI_STATUS {
        return Ok(());
    }
    let shown: String = body.chars().take(300).collect();
    Err(format!("response {status}: {shown}"))
}
