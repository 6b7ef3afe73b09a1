//! Alerts to a real HTTP server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use herd_spec::pipeline::WebhookFormat;
use herd_spec::plan::{SinkKind, WebhookPlan, WebhookUrl};
use herd_spec::wire::{Alert, AlertState, Severity, dead_letter};
use hmac::{Hmac, KeyInit, Mac};

use crate::scene::{
    ALERTS, DEAD, GROUP, alert, explained, header, memory_bus, put_alert, put_alert_now, secret, start, until,
};

/// How the endpoint answers, request by request; the last one stays.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Status(u16),
    RetryAfter(u16, &'static str),
    Never,
}

/// What came: headers, body, when.
pub(crate) type Heard = Arc<Mutex<Vec<(HeaderMap, Vec<u8>, Instant)>>>;

pub(crate) struct Endpoint {
    address: SocketAddr,
    pub(crate) heard: Heard,
}

type Shared = (Heard, Arc<Vec<Answer>>);

async fn answer(State((heard, answers)): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec();
    let turn = {
        let mut heard = heard.lock().unwrap();
        heard.push((parts.headers, body, Instant::now()));
        heard.len() - 1
    };
    match answers[turn.min(answers.len() - 1)] {
        Answer::Status(status) => (StatusCode::from_u16(status).unwrap(), "what   it\nsays").into_response(),
        Answer::RetryAfter(status, after) => {
            (StatusCode::from_u16(status).unwrap(), [("retry-after", after)]).into_response()
        }
        Answer::Never => std::future::pending().await,
    }
}

impl Endpoint {
    pub(crate) async fn serve(answers: &[Answer]) -> Self {
        let heard = Heard::default();
        let shared: Shared = (Arc::clone(&heard), Arc::new(answers.to_vec()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().fallback(answer).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, heard }
    }

    pub(crate) fn kind(&self, data: &Path, attempts: u32) -> SinkKind {
        SinkKind::Webhook(WebhookPlan {
            url: WebhookUrl::Secret(secret(
                data,
                "hook",
                &format!("http://{}/services/token-1", self.address),
            )),
            format: WebhookFormat::Json,
            signing_key: None,
            min_severity: Severity::Info,
            timeout: Duration::from_millis(400),
            attempts,
            quiet: std::collections::BTreeMap::new(),
        })
    }

    /// Key, state and explanation of each message.
    fn explained(&self) -> Vec<(String, AlertState, bool)> {
        let heard = self.heard.lock().unwrap();
        let alerts = heard.iter().map(|(_, body, _)| Alert::parse(body).unwrap());
        alerts.map(|alert| (alert.key, alert.state, alert.explanation.is_some())).collect()
    }

    fn states(&self) -> Vec<(String, AlertState)> {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|(_, body, _)| Alert::parse(body).unwrap()).map(|a| (a.key, a.state)).collect()
    }
}

pub(crate) async fn is_through(bus: &crate::bus::MemoryBus) {
    until("the group has committed all alerts", async || bus.is_committed(ALERTS, GROUP)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_one_message_when_an_alert_begins_and_one_when_it_ends() {
    use AlertState::{Early, Firing, Resolved};
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(200)]).await;
    let sink = start(endpoint.kind(folder.path(), 3), &bus, folder.path());
    for state in [Early, Early, Firing] {
        put_alert(&bus, &alert("mug", state));
    }
    is_through(&bus).await;
    for state in [Firing, Resolved, Resolved, Early] {
        put_alert(&bus, &alert("mug", state));
    }
    is_through(&bus).await;
    assert_eq!(endpoint.states(), [("mug".to_owned(), Early), ("mug".to_owned(), Resolved)]);
    // A new run does not tell again what was committed.
    sink.stop().await.unwrap();
    let sink = start(endpoint.kind(folder.path(), 3), &bus, folder.path());
    put_alert(&bus, &alert("cup", Firing));
    is_through(&bus).await;
    sink.stop().await.unwrap();
    assert_eq!(endpoint.states().len(), 3);
    assert!(bus.log(DEAD).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_while_an_alert_lasts_sends_no_second_message() {
    use AlertState::{Early, Firing, Resolved, Withdrawn};
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(200)]).await;
    let sink = start(endpoint.kind(folder.path(), 3), &bus, folder.path());
    for state in [Early, Firing] {
        put_alert(&bus, &alert("mug", state));
    }
    // Never told, so that its end is not either.
    put_alert(&bus, &alert("cup", Withdrawn));
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let sink = start(endpoint.kind(folder.path(), 3), &bus, folder.path());
    for (key, state) in [("mug", Firing), ("cup", Early), ("pot", Firing), ("mug", Firing)] {
        put_alert(&bus, &alert(key, state));
    }
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let sink = start(endpoint.kind(folder.path(), 3), &bus, folder.path());
    for state in [Firing, Resolved] {
        put_alert(&bus, &alert("mug", state));
    }
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let told = |key: &str, state| (key.to_owned(), state);
    assert_eq!(endpoint.states(), [told("mug", Early), told("pot", Firing), told("mug", Resolved)]);
    assert!(bus.log(DEAD).is_empty());
}

/// A sink that has seen an explanation of the detector: from then on its messages wait for one.
async fn explaining_sink(
    endpoint: &Endpoint,
    bus: &crate::bus::MemoryBus,
    folder: &Path,
) -> crate::scene::Running {
    let sink = start(endpoint.kind(folder, 3), bus, folder);
    put_alert(bus, &explained(&alert("first", AlertState::Firing), 10));
    is_through(bus).await;
    endpoint.heard.lock().unwrap().clear();
    sink
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_waits_for_the_explanation_and_says_all_at_once() {
    use AlertState::{Early, Firing, Resolved};
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(200)]).await;
    let sink = explaining_sink(&endpoint, &bus, folder.path()).await;
    put_alert_now(&bus, &alert("mug", Early));
    put_alert_now(&bus, &alert("mug", Firing));
    // Long enough that it would be told, and far less than it waits.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(endpoint.explained(), [], "it waits");
    assert!(!bus.is_committed(ALERTS, GROUP), "and is not committed");
    put_alert_now(&bus, &explained(&alert("mug", Firing), 10));
    is_through(&bus).await;
    assert_eq!(endpoint.explained(), [("mug".to_owned(), Early, true)]);
    put_alert_now(&bus, &alert("mug", Resolved));
    put_alert_now(&bus, &explained(&alert("mug", Resolved), 40));
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let told = [("mug".to_owned(), Early, true), ("mug".to_owned(), Resolved, true)];
    assert_eq!(endpoint.explained(), told);
    assert!(bus.log(DEAD).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_explanation_does_not_come_is_sent_after_two_seconds() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(200)]).await;
    let sink = explaining_sink(&endpoint, &bus, folder.path()).await;
    let begin = Instant::now();
    put_alert_now(&bus, &alert("mug", AlertState::Firing));
    is_through(&bus).await;
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(1_900) && waited < Duration::from_secs(10), "{waited:?}");
    // The explanation comes too late for the message, and makes none of its own.
    put_alert_now(&bus, &explained(&alert("mug", AlertState::Firing), 10));
    // One of a detector that explains nothing does not wait.
    let mut plain = alert("cup", AlertState::Firing);
    plain.detector = "plain".into();
    let begin = Instant::now();
    put_alert_now(&bus, &plain);
    is_through(&bus).await;
    assert!(begin.elapsed() < Duration::from_millis(1_900), "{:?}", begin.elapsed());
    sink.stop().await.unwrap();
    let firing = |key: &str| (key.to_owned(), AlertState::Firing, false);
    assert_eq!(endpoint.explained(), [firing("mug"), firing("cup")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_a_message_waits_neither_loses_nor_repeats_one() {
    use AlertState::{Firing, Resolved};
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(200)]).await;
    let sink = explaining_sink(&endpoint, &bus, folder.path()).await;
    put_alert_now(&bus, &explained(&alert("cup", Firing), 10));
    is_through(&bus).await;
    // The first waits, and what is behind it with it.
    put_alert_now(&bus, &alert("mug", Firing));
    put_alert_now(&bus, &explained(&alert("cup", Resolved), 40));
    tokio::time::sleep(Duration::from_millis(300)).await;
    sink.stop().await.unwrap();
    let sink = start(endpoint.kind(folder.path(), 3), &bus, folder.path());
    put_alert_now(&bus, &explained(&alert("mug", Firing), 10));
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let mut told = endpoint.explained();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [("cup", Firing), ("cup", Resolved), ("mug", Firing)];
    assert_eq!(told, expected.map(|(key, state)| (key.to_owned(), state, true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_of_a_recreated_topic_are_sent() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(200)]).await;
    // Committed beyond the end, as a group's position in a topic of the same name is.
    bus.commit(ALERTS, GROUP, 100);
    put_alert(&bus, &alert("mug", AlertState::Firing));
    let sink = start(endpoint.kind(folder.path(), 3), &bus, folder.path());
    until("the alert is told", async || endpoint.states() == [("mug".to_owned(), AlertState::Firing)]).await;
    sink.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_only_alerts_of_the_minimum_severity() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(204)]).await;
    let mut kind = endpoint.kind(folder.path(), 3);
    if let SinkKind::Webhook(WebhookPlan { min_severity, .. }) = &mut kind {
        *min_severity = Severity::Critical;
    }
    let mut grave = alert("pot", AlertState::Firing);
    grave.severity = Severity::Critical;
    put_alert(&bus, &alert("mug", AlertState::Firing));
    put_alert(&bus, &grave);
    let sink = start(kind, &bus, folder.path());
    is_through(&bus).await;
    sink.stop().await.unwrap();
    assert_eq!(endpoint.states(), [("pot".to_owned(), AlertState::Firing)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivers_once_the_endpoint_recovers_and_reports_both() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(500), Answer::Never, Answer::Status(200)]).await;
    let sink = start(endpoint.kind(folder.path(), 5), &bus, folder.path());
    put_alert(&bus, &alert("mug", AlertState::Firing));
    until("readiness complains", async || !sink.stage.health.complaints().is_empty()).await;
    let complaints = format!("{:?}", sink.stage.health.complaints());
    assert!(complaints.contains("answered 500") && !complaints.contains("token-1"), "{complaints}");
    is_through(&bus).await;
    assert!(sink.stage.health.complaints().is_empty());
    assert_eq!(endpoint.states().len(), 3);
    assert!(sink.metrics().contains(r#"herd_sink_deliveries_total{sink="main",outcome="delivered"} 1"#));
    assert!(sink.metrics().contains(r#"herd_sink_retries_total{sink="main"} 2"#));
    sink.stop().await.unwrap();
    assert!(bus.log(DEAD).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_a_refusing_endpoint_seldom_and_delivers_everything_once_it_accepts() {
    for (status, advice) in [(401, "correct the token or password"), (404, "no webhook at this address")] {
        let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
        let endpoint = Endpoint::serve(&[Answer::Status(status), Answer::Status(200)]).await;
        let sink = start(endpoint.kind(folder.path(), 5), &bus, folder.path());
        put_alert(&bus, &alert("mug", AlertState::Firing));
        until("readiness complains", async || !sink.stage.health.complaints().is_empty()).await;
        let complaints = format!("{:?}", sink.stage.health.complaints());
        assert!(complaints.contains(&format!("answered {status}")), "{complaints}");
        assert!(complaints.contains(advice) && !complaints.contains("token-1"), "{complaints}");
        is_through(&bus).await;
        assert!(sink.stage.health.complaints().is_empty());
        sink.stop().await.unwrap();
        let heard = endpoint.heard.lock().unwrap();
        assert_eq!(heard.len(), 2);
        assert!(heard[1].2 - heard[0].2 >= Duration::from_secs(5));
        assert!(bus.log(DEAD).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_as_long_as_retry_after_asks() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::RetryAfter(429, "2"), Answer::Status(200)]).await;
    let sink = start(endpoint.kind(folder.path(), 5), &bus, folder.path());
    put_alert(&bus, &alert("mug", AlertState::Firing));
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let heard = endpoint.heard.lock().unwrap();
    assert!(heard[1].2 - heard[0].2 >= Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_refused_and_undeliverable_alerts_to_the_dead_letter_topic() {
    for (answer, attempts, requests, class, message) in [
        (Answer::Status(400), 5, 1, "webhook-refused", "answered 400 Bad Request: what it says"),
        (Answer::Status(503), 2, 2, "webhook-gave-up", "answered 503 Service Unavailable (attempt 2 of 2)"),
        (Answer::Never, 1, 1, "webhook-gave-up", "did not answer in 400 ms (attempt 1 of 1)"),
        (
            Answer::Status(302),
            1,
            1,
            "webhook-refused",
            "answered 302 Found: redirects are not followed; set the address it leads to (attempt 1 of 1)",
        ),
        (
            Answer::Status(410),
            1,
            1,
            "webhook-refused",
            "answered 410 Gone: what it says; this webhook was removed: make a new one and set its address (attempt 1 of 1)",
        ),
    ] {
        let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
        let endpoint = Endpoint::serve(&[answer]).await;
        let sink = start(endpoint.kind(folder.path(), attempts), &bus, folder.path());
        put_alert(&bus, &alert("mug", AlertState::Firing));
        is_through(&bus).await;
        sink.stop().await.unwrap();
        assert_eq!(endpoint.states().len(), requests, "{message}");
        let letters = bus.log(DEAD);
        assert_eq!(letters.len(), 1, "{message}");
        assert_eq!(letters[0].value, bus.log(ALERTS)[0].value);
        assert_eq!(header(&letters[0], dead_letter::ERROR_CLASS), class);
        assert_eq!(header(&letters[0], dead_letter::ERROR_MESSAGE), message);
        assert_eq!(header(&letters[0], dead_letter::STAGE), "TASK_PUT");
        assert_eq!(header(&letters[0], dead_letter::OFFSET), "0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signature_verifies_and_carries_the_alert_id() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(200)]).await;
    let mut kind = endpoint.kind(folder.path(), 3);
    if let SinkKind::Webhook(WebhookPlan { signing_key, .. }) = &mut kind {
        *signing_key = Some(secret(folder.path(), "key", "open sesame\n"));
    }
    let sink = start(kind, &bus, folder.path());
    let raised = alert("mug", AlertState::Firing);
    put_alert(&bus, &raised);
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let heard = endpoint.heard.lock().unwrap();
    let (headers, body, _) = &heard[0];
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let signature = hex::decode(text("x-herd-signature").strip_prefix("sha256=").unwrap()).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"open sesame").unwrap();
    mac.update(format!("{}.", text("x-herd-timestamp")).as_bytes());
    mac.update(body);
    mac.verify_slice(&signature).unwrap();
    assert_eq!(text("content-type"), "application/json");
    assert_eq!(text("idempotency-key"), format!("{}-firing", raised.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejects_an_invalid_address_without_showing_it() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(200)]).await;
    let mut kind = endpoint.kind(folder.path(), 3);
    if let SinkKind::Webhook(WebhookPlan { url, .. }) = &mut kind {
        *url = WebhookUrl::Secret(secret(folder.path(), "odd", "hooks.example.com/token-1"));
    }
    let error = start(kind, &bus, folder.path()).stop().await.unwrap_err();
    let expected = "sink main: the webhook cannot be used: its address is not of the form https://host/path";
    assert_eq!(error.to_string(), expected);
}
