//! Bursts of real events, through the collector: so that one sees an alert come about, not a fake one.

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
use crate::problem::{At, Problem, ProblemShape};

const MOST_EVENTS: u32 = 20_000;
const MOST_SECONDS: f64 = 60.0;
/// Requests a second.
const PACE: f64 = 10.0;
/// Events of one request, at most.
const CHUNK: usize = 1_000;
/// How long the collector may take for a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// How large a burst. All of it may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SpikeRequest)]
pub(crate) struct SpikeRequest {
    /// Events, 1 to 20000, each of another user. Left out: 400.
    count: Option<u32>,
    /// Over so many seconds, up to 60. Left out: 5.
    seconds: Option<f64>,
    /// What is done to the item. Left out: the first type that the first metric counts.
    #[serde(rename = "type")]
    event_type: Option<String>,
}

/// The burst that began.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Spike)]
pub(crate) struct SpikeShape {
    /// The item.
    item: String,
    /// What is done to it.
    #[serde(rename = "type")]
    event_type: String,
    /// Events.
    events: u32,
    /// Over so many seconds.
    seconds: f64,
}

/// Lets a crowd come to one item: real events, sent through the collector
#[utoipa::path(
    post, path = "/api/v1/simulate/spike/{item}", tag = "simulate", params(("item" = String, Path, description = "The item")),
    request_body(content = SpikeRequest, description = "May be left out"),
    responses(
        (status = ACCEPTED, body = SpikeShape),
        (status = BAD_REQUEST, body = ProblemShape, content_type = "application/problem+json"),
        (status = NOT_FOUND, body = ProblemShape, content_type = "application/problem+json", description = "Not in this pipeline: `api.simulate` is off"),
        (status = CONFLICT, body = ProblemShape, content_type = "application/problem+json", description = "This stage was not told where the collector is"),
        (status = TOO_MANY_REQUESTS, body = ProblemShape, content_type = "application/problem+json"),
        (status = BAD_GATEWAY, body = ProblemShape, content_type = "application/problem+json", description = "The collector does not take the events")
    )
)]
pub(crate) async fn spike(
    State(app): State<Arc<App>>,
    At(item): At<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<SpikeShape>), Problem> {
    if !app.plan.api.simulate {
        return Err(Problem::missing("this pipeline does not simulate: set `api.simulate: true`"));
    }
    let Some(collector) = app.collector.clone() else {
        return Err(Problem::new(StatusCode::CONFLICT, "this stage was not told where the collector is"));
    };
    let spike = read(&app.plan, item, &body)?;
    let Ok(place) = Arc::clone(&app.bursts).try_acquire_owned() else {
        return Err(Problem {
            status: StatusCode::TOO_MANY_REQUESTS,
            detail: "enough bursts are on their way: wait until one has ended".into(),
            retry_after: Some(5),
        });
    };
    let mut chunks = chunks(&app.plan, &spike).into_iter();
    // The first request tells whether the collector takes such events at all.
    if let Some(first) = chunks.next() {
        send(&collector, &first).await.map_err(|why| {
            Problem::new(StatusCode::BAD_GATEWAY, format!("the collector does not take the events: {why}"))
        })?;
    }
    let pause = Duration::from_secs_f64(spike.seconds / (chunks.len() + 1) as f64);
    let shutdown = app.shutdown.clone();
    app.tasks.spawn(async move {
        let _place = place;
        let mut at = Instant::now();
        for chunk in chunks {
            at += pause;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(at) => {}
            }
            if let Err(error) = send(&collector, &chunk).await {
                tracing::warn!(error, "the collector did not take a part of a simulated burst");
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
            .map_err(|error| Problem::invalid(format!("the body is no such request: {error}")))?
    };
    if item.is_empty() || item.len() > MAX_KEY {
        return Err(Problem::invalid(format!("item: name it in 1 to {MAX_KEY} bytes")));
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
            let detail = format!("type: `{wanted}` is not accepted; write one of: {}", types.join(", "));
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

/// The burst as the bodies of requests, evenly over its time.
fn chunks(plan: &Plan, spike: &SpikeShape) -> Vec<Vec<Value>> {
    let events = usize::try_from(spike.events).unwrap_or(0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most 600
    let paced = (spike.seconds * PACE) as usize;
    let most = CHUNK.min(usize::try_from(plan.collector.limits.batch_events).unwrap_or(CHUNK)).max(1);
    let requests = paced.max(events.div_ceil(most)).clamp(1, events.max(1));
    let burst = uuid::Uuid::now_v7().simple().to_string();
    (0..requests)
        .map(|request| {
            let numbers = (events * request / requests)..(events * (request + 1) / requests);
            numbers.map(|number| event(plan, spike, &burst, number)).collect()
        })
        .collect()
}

/// One event, in the words of the pipeline's mapping. Its time is the time it is received.
fn event(plan: &Plan, spike: &SpikeShape, burst: &str, number: usize) -> Value {
    let mapping = &plan.events.mapping;
    let mut event = Map::new();
    let fields = [
        (&mapping.id, format!("spike-{burst}-{number}")),
        (&mapping.event_type, spike.event_type.clone()),
        (&mapping.user, format!("visitor-{}-{number}", &burst[burst.len() - 8..])),
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
    let response =
        request.send().await.map_err(|error| format!("it does not answer: {}", error.without_url()))?;
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    // A batch is answered item by item; 207 says that some were refused.
    if status.is_success() && status != StatusCode::MULTI_STATUS {
        return Ok(());
    }
    let shown: String = body.chars().take(300).collect();
    Err(format!("it answers {status}: {shown}"))
}
