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
use crate::intake::{Accepted, Intake};
use crate::keys::Writers;
use crate::metrics::CollectorMetrics;

/// What becomes of a record.
#[derive(Clone, Copy)]
enum Fate {
    Acknowledged,
    Failed,
    NotTaken,
    /// Kept until [`Broker::answer`].
    Silence,
}

/// A producer that does to each record what it is told.
#[derive(Clone)]
struct Broker(Arc<Mutex<(Vec<Fate>, Vec<Ack>)>>);

impl Broker {
    fn new(fates: &[Fate]) -> Self {
        let mut fates = fates.to_vec();
        fates.reverse();
        Self(Arc::new(Mutex::new((fates, Vec::new()))))
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
            Fate::Acknowledged => ack.report(Ok(())),
            Fate::Failed => ack.report(Err(DeliveryError { why: "the record is too large".into() })),
            Fate::NotTaken => {
                ack.cancel();
                return Err(SendError::Full);
            }
            Fate::Silence => inner.1.push(ack),
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
        writers: Writers::new(&plan.collector, &stage.secrets).unwrap(),
        memory: Memory::new(1 << 20),
        places: Arc::new(Semaphore::new(App::most_in_flight(&plan.collector.limits))),
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
    Batch { records: (0..events).map(event).collect() }
}

const PATIENCE: Duration = Duration::from_millis(50);

async fn send(app: &App, fates: &[Fate]) -> (StatusCode, Option<String>, Value) {
    let response =
        deliver(app, &Broker::new(fates), batch(fates.len()), WallTime(0), PATIENCE).await.unwrap();
    let status = response.status();
    let pause = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, pause, serde_json::from_slice(&body).unwrap())
}

fn statuses(body: &Value) -> Vec<&str> {
    body["items"].as_array().unwrap().iter().map(|item| item["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_failed_is_said_item_by_item_and_the_rest_is_accepted() {
    let app = app(10);
    let (status, pause, body) = send(&app, &[Fate::Acknowledged, Fate::Failed, Fate::Acknowledged]).await;
    assert_eq!((status, pause.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
    assert_eq!(statuses(&body), ["accepted", "failed", "accepted"]);
    assert!(body["detail"].as_str().unwrap().contains("the record is too large"));
    assert_eq!(app.places.available_permits(), 10);
}

#[tokio::test]
async fn after_a_record_that_is_not_taken_no_other_is_sent() {
    let app = app(10);
    let (status, _, body) = send(&app, &[Fate::Acknowledged, Fate::NotTaken, Fate::Acknowledged]).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(statuses(&body), ["accepted", "failed", "failed"]);
    assert!(body["detail"].as_str().unwrap().contains("the queue to the broker is full"));
}

#[tokio::test]
async fn a_broker_that_is_silent_is_no_reason_to_wait_for_ever_and_its_places_stay_taken() {
    let app = app(3);
    let broker = Broker::new(&[Fate::Silence, Fate::Silence]);
    let response = deliver(&app, &broker, batch(2), WallTime(0), PATIENCE).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.places.available_permits(), 1);
    let refused = deliver(&app, &broker, batch(2), WallTime(0), PATIENCE).await.unwrap_err();
    assert_eq!(
        (refused.status, refused.retry_after),
        (StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(1)))
    );

    broker.answer();
    let deadline = Instant::now() + Duration::from_secs(10);
    while app.places.available_permits() < 3 {
        assert!(Instant::now() < deadline, "the places are not given back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_places_taken_until_the_broker_answers() {
    let app = app(1);
    let broker = Broker::new(&[Fate::Silence]);
    let waiting = tokio::spawn({
        let (app, broker) = (Arc::clone(&app), broker.clone());
        async move { deliver(&app, &broker, batch(1), WallTime(0), Duration::from_secs(60)).await }
    });
    while app.places.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(app.places.available_permits(), 0);
    broker.answer();
    let deadline = Instant::now() + Duration::from_secs(10);
    while app.places.available_permits() < 1 {
        assert!(Instant::now() < deadline, "the place is not given back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nothing_is_counted_twice() {
    let app = app(10);
    send(&app, &[Fate::Acknowledged, Fate::Failed]).await;
    let (status, _, body) = send(&app, &[Fate::Acknowledged]).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(
        body,
        json!({"accepted": 1, "invalid": 0, "items": [{"status": "accepted", "index": 0, "event_id": "e-0"}]})
    );
}
