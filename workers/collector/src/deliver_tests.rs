//! What a client hears when the bus does not do what it should: faults that no broker makes on demand.

use std::sync::Mutex;
use std::time::Instant;

use axum::http::{StatusCode, header};
use herd_bus::{Ack, DeliveryError};
use herd_spec::plan::Plan;
use herd_stage::{Secrets, Stage};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::body::Memory;
use crate::context::ContextReader;
use crate::intake::{Accepted, Intake};
use crate::keys::Writers;
use crate::metrics::CollectorMetrics;

/// What becomes of a record.
#[derive(Clone, Copy)]
enum SendResult {
    Acknowledged,
    Failed,
    NotTaken,
    /// Kept until [`Broker::answer`].
    Silence,
}

/// A producer with a configured result for each record.
#[derive(Clone)]
struct Broker(Arc<Mutex<(Vec<SendResult>, Vec<Ack>)>>);

impl Broker {
    fn new(results: &[SendResult]) -> Self {
        let mut results = results.to_vec();
        results.reverse();
        Self(Arc::new(Mutex::new((results, Vec::new()))))
    }

    fn answer(&self) {
        for ack in self.0.lock().unwrap().1.drain(..) {
            ack.report(Ok(()));
        }
    }
}

impl Producer for Broker {
    fn send(&self, _: &Outgoing<'_>, ack: Ack) -> Result<(), SendError> {
        let mut inner = self.0.lock().unwrap();
        match inner.0.pop().unwrap() {
            SendResult::Acknowledged => ack.report(Ok(())),
            SendResult::Failed => ack.report(Err(DeliveryError { why: "the record is too large".into() })),
            SendResult::NotTaken => {
                ack.cancel();
                return Err(SendError::Full);
            }
            SendResult::Silence => inner.1.push(ack),
        }
        Ok(())
    }

    fn flush(&self, _: Duration) -> usize {
        0
    }
}

fn app(in_flight: u32) -> Arc<App> {
    let yaml = format!(
        "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {{name: t}}\nspec:\n  metrics: [{{name: m, window: 10s}}]\n  \
         collector: {{limits: {{inFlightEvents: {in_flight}, batchEvents: {in_flight}}}}}\n"
    );
    let plan = Plan::parse(&herd_spec::document::parse(&yaml).unwrap()).unwrap();
    let stage = Stage::new(CancellationToken::new(), Secrets::default());
    Arc::new(App {
        intake: Intake::new(&plan.events).unwrap(),
        context: ContextReader::new(&plan.collector),
        writers: Writers::new(&plan.collector, &stage.secrets).unwrap(),
        memory: Memory::new(1 << 20),
        in_flight_permits: Arc::new(Semaphore::new(App::max_in_flight(&plan.collector.limits))),
        metrics: CollectorMetrics::registered(&stage),
        plan: Arc::new(plan),
        delivery: crate::delivery::Delivery::default(),
    })
}

fn batch(events: usize) -> Batch {
    let event = |n| Record::Event {
        accepted: Accepted { event_id: format!("e-{n}"), key: "k".into(), replaced: 0 },
        value: b"{}".to_vec(),
    };
    Batch { endpoint: Endpoint::Track, records: (0..events).map(event).collect() }
}

const PATIENCE: Duration = Duration::from_millis(50);

async fn send(app: &App, results: &[SendResult]) -> (StatusCode, Option<String>, Value) {
    let response =
        deliver(app, &Broker::new(results), batch(results.len()), WallTime(0), PATIENCE).await.unwrap();
    let status = response.status();
    let pause = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, pause, serde_json::from_slice(&body).unwrap())
}

fn statuses(body: &Value) -> Vec<&str> {
    body["items"].as_array().unwrap().iter().map(|item| item["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn failed_items_are_reported_and_the_others_accepted() {
    let app = app(10);
    let (status, pause, body) =
        send(&app, &[SendResult::Acknowledged, SendResult::Failed, SendResult::Acknowledged]).await;
    assert_eq!((status, pause.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
    assert_eq!(statuses(&body), ["accepted", "failed", "accepted"]);
    assert!(body["detail"].as_str().unwrap().contains("the record is too large"));
    assert_eq!(app.in_flight_permits.available_permits(), 10);
}

#[tokio::test]
async fn after_a_failed_record_no_further_one_is_sent() {
    let app = app(10);
    let (status, _, body) =
        send(&app, &[SendResult::Acknowledged, SendResult::NotTaken, SendResult::Acknowledged]).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(statuses(&body), ["accepted", "failed", "failed"]);
    assert!(body["detail"].as_str().unwrap().contains("the queue to the broker is full"));
}

#[tokio::test]
async fn a_silent_broker_times_out_and_its_permits_stay_acquired() {
    let app = app(3);
    let broker = Broker::new(&[SendResult::Silence, SendResult::Silence]);
    let response = deliver(&app, &broker, batch(2), WallTime(0), PATIENCE).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.in_flight_permits.available_permits(), 1);
    let refused = deliver(&app, &broker, batch(2), WallTime(0), PATIENCE).await.unwrap_err();
    assert_eq!(
        (refused.status, refused.retry_after),
        (StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(1)))
    );

    broker.answer();
    let deadline = Instant::now() + Duration::from_secs(10);
    while app.in_flight_permits.available_permits() < 3 {
        assert!(Instant::now() < deadline, "the permits are not released");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_cancelled_request_keeps_its_permits_until_the_broker_responds() {
    let app = app(1);
    let broker = Broker::new(&[SendResult::Silence]);
    let waiting = tokio::spawn({
        let (app, broker) = (Arc::clone(&app), broker.clone());
        async move { deliver(&app, &broker, batch(1), WallTime(0), Duration::from_secs(60)).await }
    });
    while app.in_flight_permits.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(app.in_flight_permits.available_permits(), 0);
    broker.answer();
    let deadline = Instant::now() + Duration::from_secs(10);
    while app.in_flight_permits.available_permits() < 1 {
        assert!(Instant::now() < deadline, "the permit is not released");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn events_are_counted_once() {
    let app = app(10);
    send(&app, &[SendResult::Acknowledged, SendResult::Failed]).await;
    let (status, _, body) = send(&app, &[SendResult::Acknowledged]).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(
        body,
        json!({"accepted": 1, "invalid": 0, "items": [{"status": "accepted", "index": 0, "event_id": "e-0"}]})
    );
}
