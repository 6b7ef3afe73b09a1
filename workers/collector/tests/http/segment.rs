//! Segment's HTTP API.

use herd_stage::{Clock, SystemClock};
use reqwest::{Method, header};
use rstest::rstest;
use serde_json::{Value, json};

use super::support::{Answer, Collector, gzip};

/// Basic authentication of the key `s3cret`.
const BASIC: (&str, &str) = ("authorization", "Basic czNjcmV0Og==");
const KEYS: &str = "auth: {keys: [{name: web, secretRef: {name: keys, key: web}}]}";

/// Path, headers, body, and the status it must have.
type Attempt<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, u16);

async fn post(collector: &Collector, path: &str, body: &Value) -> Answer {
    let body = body.to_string().into_bytes();
    collector.send(Method::POST, path, "application/json", &[], body).await
}

#[rstest]
#[case::track(
    "/v1/track",
    json!({"event": "view_product", "messageId": "m", "userId": "u", "anonymousId": "a", "properties": {"product_id": "p-1", "price": 9.5}}),
    json!({"event_id": "m", "type": "view_product", "user_id": "u", "item_id": "p-1", "properties": {"price": 9.5, "anonymousId": "a"}})
)]
#[case::anonymous(
    "/v1/track",
    json!({"event": "view", "messageId": "m", "anonymousId": "a", "context": {"library": {"name": "l"}}, "integrations": {}, "writeKey": "k"}),
    json!({"event_id": "m", "type": "view", "user_id": "a", "properties": {"context": {"library": {"name": "l"}}}})
)]
#[case::page(
    "/v1/page",
    json!({"name": "Shop", "messageId": "m", "userId": 7, "properties": {"path": "/shop", "url": "https://s.example/shop"}}),
    json!({"event_id": "m", "type": "page_view", "user_id": "7", "item_id": "/shop", "properties": {"path": "/shop", "url": "https://s.example/shop", "name": "Shop"}})
)]
#[case::a_page_of_an_item(
    "/v1/page",
    json!({"messageId": "m", "userId": "u", "properties": {"path": "/p/1", "item_id": "p-1"}}),
    json!({"event_id": "m", "type": "page_view", "user_id": "u", "item_id": "p-1", "properties": {"path": "/p/1"}})
)]
#[case::screen(
    "/v1/screen",
    json!({"name": "Cart", "messageId": "m", "userId": "u"}),
    json!({"event_id": "m", "type": "screen_view", "user_id": "u", "item_id": "Cart", "properties": {"name": "Cart"}})
)]
#[tokio::test(flavor = "multi_thread")]
async fn single_calls_are_events(#[case] path: &str, #[case] message: Value, #[case] expected: Value) {
    let collector = Collector::start("{}").await;
    let answer = post(&collector, path, &message).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"success": true})));
    // The same as a message of a batch, which says itself what it is.
    let mut batched = message.clone();
    batched["type"] = path.trim_start_matches("/v1/").into();
    let answer = post(&collector, "/v1/batch", &json!({"batch": [batched]})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut events = collector.events();
    assert_eq!(events.len(), 2);
    for event in &mut events {
        let event = event.as_object_mut().unwrap();
        assert!(event.remove("time").is_some() && event.remove("received").is_some());
        event.remove("v");
        assert_eq!(Value::Object(event.clone()), expected);
    }
    collector.stop().await;
}

#[rstest]
#[case::not_named("{}", 0, 3)]
#[case::named("types: [view, identify, group, alias]", 3, 0)]
#[tokio::test(flavor = "multi_thread")]
async fn descriptions_of_users_are_stored_only_if_their_types_are_named(
    #[case] events: &str,
    #[case] stored: usize,
    #[case] ignored: usize,
) {
    let collector = Collector::start(events).await;
    let message = json!({"userId": "u", "traits": {"email": "u@example.org"}});
    for path in ["/v1/identify", "/v1/group", "/v1/alias"] {
        let answer = post(&collector, path, &message).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({"success": true})));
    }
    let events = collector.events();
    assert_eq!(events.len(), stored);
    assert!(events.iter().all(|event| event["properties"]["traits"]["email"] == "u@example.org"));
    assert!(collector.dead_letters().is_empty());
    let metrics = collector.ops("/metrics").await.1;
    let line = format!("herd_collector_events_total{{result=\"ignored\"}} {ignored}");
    assert!(metrics.contains(&line), "{metrics}");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_messages_of_a_batch_are_told_and_dead_letters() {
    let collector = Collector::start("types: [view]").await;
    let batch = json!({"sentAt": "2026-01-01T00:00:00.000Z", "batch": [
        {"type": "track", "event": "view", "userId": "u"},
        {"type": "track", "userId": "u"},
        {"type": "identify", "userId": "u"},
        {"type": "flag", "userId": "u"},
        {"type": "track", "event": "buy"},
        7,
    ]});
    let answer = post(&collector, "/v1/batch", &batch).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        (&answer.body["success"], &answer.body["accepted"], &answer.body["invalid"]),
        (&json!(true), &json!(1), &json!(4))
    );
    let told: Vec<_> =
        answer.body["items"].as_array().unwrap().iter().map(|item| (&item["index"], &item["code"])).collect();
    let expected = [(1, "missing-field"), (3, "invalid-field"), (4, "unknown-type"), (5, "not-an-object")]
        .map(|(index, code)| (json!(index), json!(code)));
    assert_eq!(told, expected.iter().map(|(index, code)| (index, code)).collect::<Vec<_>>());
    let dead_letters = collector.dead_letters();
    assert_eq!((collector.events().len(), dead_letters.len()), (1, 4));
    for (_, headers) in &dead_letters {
        let header =
            |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(header("__connect.errors.topic"), Some("/v1/batch"));
        assert_eq!(header("herd.sent-at"), Some("2026-01-01T00:00:00.000Z"));
    }
    let none = post(&collector, "/v1/batch", &json!({"batch": [{"type": "track", "event": "buy"}]})).await;
    assert_eq!(
        (none.status, &none.body["code"], &none.body["status"]),
        (400, &json!("unknown-type"), &json!(400))
    );
    collector.stop().await;
}

#[rstest]
#[case::not_json("/v1/batch", "{", 400)]
#[case::no_object("/v1/track", "[]", 400)]
#[case::no_batch("/v1/batch", r#"{"event":"view"}"#, 400)]
#[case::batch_of_nothing("/v1/batch", r#"{"batch":[]}"#, 200)]
#[case::another_call("/v1/import", r#"{"batch":[]}"#, 404)]
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_body_is_refused_with_the_reason(
    #[case] path: &str,
    #[case] body: &str,
    #[case] status: u16,
) {
    let collector = Collector::start("{}").await;
    let answer = collector.send(Method::POST, path, "application/json", &[], body.into()).await;
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.body["detail"].is_string(), status != 200, "{}", answer.body);
    assert_eq!(collector.dead_letters().len(), usize::from(status == 400));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_key_is_a_user_name_or_in_the_body() {
    let collector = Collector::start_with("{}", KEYS).await;
    let single = r#"{"event":"view","writeKey":"s3cret"}"#;
    let batch = r#"{"batch":[{"type":"track","event":"view"}],"writeKey":"s3cret"}"#;
    let none = r#"{"event":"view"}"#;
    let wrong = r#"{"event":"view","writeKey":"wrong"}"#;
    let table: [Attempt<'_>; 7] = [
        ("/v1/track", &[BASIC], none, 200),
        ("/v1/track", &[], single, 200),
        ("/v1/batch", &[], batch, 200),
        ("/v1/track", &[], none, 401),
        ("/v1/track", &[], wrong, 403),
        ("/v1/track", &[("authorization", "Basic d3Jvbmc6")], single, 403),
        ("/v1/track", &[], "{", 401),
    ];
    for (path, headers, body, status) in table {
        let answer = collector.send(Method::POST, path, "application/json", headers, body.into()).await;
        assert_eq!(answer.status, status, "{path} {headers:?} {body}");
    }
    let packed = [("content-encoding", "gzip")];
    let answer =
        collector.send(Method::POST, "/v1/batch", "application/json", &packed, gzip(batch.as_bytes())).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!((collector.events().len(), collector.dead_letters().len()), (4, 0));
    assert!(!collector.events().iter().any(|event| event.to_string().contains("s3cret")));
    collector.stop().await;
}

#[rstest]
#[case::a_right_clock(0, json!({}), 0)]
#[case::an_hour_behind(-3_600_000, json!({}), 3_600_000)]
#[case::a_day_ahead(86_400_000, json!({}), -86_400_000)]
#[case::corrected_before(-3_600_000, json!({"originalTimestamp": "2026-01-01T00:00:00Z"}), 0)]
#[tokio::test(flavor = "multi_thread")]
async fn the_skew_of_the_clock_of_the_sender_is_corrected(
    #[case] ahead: i64,
    #[case] more: Value,
    #[case] added: i64,
) {
    let collector = Collector::start("{}").await;
    let sent = SystemClock.now().0 + ahead;
    let mut message = json!({"type": "track", "event": "view", "timestamp": sent - 2_000});
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = post(&collector, "/v1/batch", &json!({"batch": [message], "sentAt": sent})).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"success": true})));
    assert_eq!(collector.events()[0]["time"], sent - 2_000 + added);
    collector.stop().await;
}

#[rstest]
#[case::of_the_first_receipt("1700000003000", 200, json!(1_700_000_001_000_i64))]
#[case::beyond_all_times("9223372036854775807", 400, Value::Null)]
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_sent_again_is_corrected_by_the_time(
    #[case] received: &str,
    #[case] status: u16,
    #[case] time: Value,
) {
    let collector = Collector::start("maxAge: 0s").await;
    let body = br#"{"event":"view","timestamp":1700000001000,"sentAt":1700000002500}"#.to_vec();
    let headers = [("herd-received", received)];
    let answer = collector.send(Method::POST, "/v1/track", "application/json", &headers, body).await;
    assert_eq!(answer.status, status, "{}", answer.body);
    let stored = collector.events().first().map_or(Value::Null, |event| event["time"].clone());
    assert_eq!(stored, time);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_may_use_it() {
    let collector = Collector::start_with("{}", "cors: {origins: ['https://shop.example']}").await;
    let body = br#"{"event":"view"}"#.to_vec();
    let origin = [("origin", "https://shop.example")];
    let answer = collector.send(Method::POST, "/v1/track", "text/plain", &origin, body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://shop.example");
    collector.stop().await;
}
