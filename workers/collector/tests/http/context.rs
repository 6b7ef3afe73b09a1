//! Properties that the collector adds to events from their requests.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use super::support::Collector;

const ALL: &str =
    "trustedProxies: [127.0.0.0/8], context: {countryHeader: CF-IPCountry, userAgent: true, ipAddress: true}";
const SAFARI: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Mobile/15E148 Safari/604.1";
const GOOGLE: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

/// The properties of an event of such a collector, sent with these headers.
async fn properties(collector: &str, headers: &[(&str, &str)], body: &str) -> Value {
    let collector = Collector::start_with("{}", collector).await;
    let body = body.as_bytes().to_vec();
    let answer = collector.send(Method::POST, "/track", "application/json", headers, body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let properties = collector.events()[0]["properties"].clone();
    collector.stop().await;
    properties
}

#[rstest]
#[case::a_visitor(
    ALL,
    &[("user-agent", SAFARI), ("cf-ipcountry", "DE"), ("x-forwarded-for", "203.0.113.9")],
    json!({"price": 1, "country": "DE", "browser": "Safari", "os": "iOS", "device": "mobile", "ip": "203.0.113.9"})
)]
#[case::a_bot_is_flagged_and_not_dropped(
    ALL,
    &[("user-agent", GOOGLE), ("cf-ipcountry", "US"), ("x-forwarded-for", "203.0.113.9")],
    json!({"price": 1, "country": "US", "bot": true, "ip": "203.0.113.9"})
)]
#[case::the_country_of_a_client_that_is_no_proxy(
    "trustedProxies: [10.0.0.0/8], context: {countryHeader: CF-IPCountry}",
    &[("cf-ipcountry", "DE")],
    json!({"price": 1})
)]
#[case::a_dead_letter_sent_again(
    ALL,
    &[("user-agent", SAFARI), ("cf-ipcountry", "DE"), ("herd-received", "1800000000000")],
    json!({"price": 1})
)]
#[case::only_the_user_agent("context: {userAgent: true}", &[("user-agent", SAFARI), ("cf-ipcountry", "DE")], json!({"price": 1, "browser": "Safari", "os": "iOS", "device": "mobile"}))]
#[case::by_default("{}", &[("user-agent", SAFARI), ("cf-ipcountry", "DE"), ("x-forwarded-for", "203.0.113.9")], json!({"price": 1}))]
#[tokio::test(flavor = "multi_thread")]
async fn events_have_the_context_that_is_asked_for(
    #[case] collector: &str,
    #[case] headers: &[(&str, &str)],
    #[case] expected: Value,
) {
    assert_eq!(properties(collector, headers, r#"{"type":"view","price":1}"#).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_forge_what_the_collector_is_asked_for() {
    let forged =
        r#"{"type":"view","country":"FR","bot":false,"browser":"x","os":"y","device":"z","ip":"192.0.2.1"}"#;
    let sent =
        json!({"country": "FR", "bot": false, "browser": "x", "os": "y", "device": "z", "ip": "192.0.2.1"});
    assert_eq!(properties("{}", &[], forged).await, sent);
    let headers = [("user-agent", GOOGLE), ("x-forwarded-for", "203.0.113.9")];
    assert_eq!(properties(ALL, &headers, forged).await, json!({"bot": true, "ip": "203.0.113.9"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_and_the_image_have_the_context() {
    let collector = Collector::start_with("{}", "context: {userAgent: true}").await;
    let agent = ("user-agent", SAFARI);
    let cloud = [agent, ("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "view")];
    let structured = br#"{"specversion":"1.0","id":"1","source":"t","type":"view"}"#.to_vec();
    let requests: [(Method, &str, &str, &[_], Vec<u8>); 4] = [
        (Method::POST, "/track", "application/json", &cloud, vec![]),
        (Method::POST, "/track", "application/cloudevents+json", &[agent], structured),
        (Method::POST, "/v1/track", "application/json", &[agent], br#"{"event":"view"}"#.to_vec()),
        (Method::GET, "/track.gif?type=view", "", &[agent], vec![]),
    ];
    for (method, path, content_type, headers, body) in requests {
        let answer = collector.send(method, path, content_type, headers, body).await;
        assert!(answer.status < 300, "{path}: {}", answer.body);
    }
    let events = collector.events();
    assert_eq!(events.len(), 4);
    assert!(events.iter().all(|event| event["properties"]["browser"] == "Safari"), "{events:?}");
    collector.stop().await;
}
