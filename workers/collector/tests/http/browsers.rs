//! What browsers ask for: other origins, images, the tracker.

use reqwest::{Method, header};
use serde_json::json;

use super::support::{Answer, Collector};

#[tokio::test(flavor = "multi_thread")]
async fn only_allowed_origins_may_send() {
    let collector = Collector::start_with("{}", "cors: {origins: ['https://shop.example']}").await;
    let preflight = |origin: &'static str| {
        vec![
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-write-key"),
        ]
    };
    let answer =
        collector.send(Method::OPTIONS, "/track", "", &preflight("https://shop.example"), vec![]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://shop.example");
    assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_HEADERS], "content-type,x-write-key");
    assert_eq!(answer.headers[header::ACCESS_CONTROL_MAX_AGE], "86400");
    assert!(answer.headers[header::VARY].to_str().unwrap().contains("origin"));
    assert!(!answer.headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    let answer =
        collector.send(Method::OPTIONS, "/track", "", &preflight("https://evil.example"), vec![]).await;
    assert!(!answer.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    // A beacon has no preflight request.
    for (origin, status) in [("https://shop.example", 202), ("https://evil.example", 403)] {
        let body = br#"{"type":"a"}"#.to_vec();
        let answer = collector.send(Method::POST, "/track", "text/plain", &[("origin", origin)], body).await;
        assert_eq!(answer.status, status, "{origin}");
        assert!(varies_by_origin(&answer), "{origin}");
        if status == 202 {
            assert_eq!(answer.headers[header::ACCESS_CONTROL_EXPOSE_HEADERS], "retry-after,date");
            assert!(answer.headers.contains_key(header::DATE));
        }
    }
    assert_eq!(collector.events().len(), 1);
    collector.stop().await;
}

/// Whether a cache keeps the answer apart from those for other origins.
fn varies_by_origin(answer: &Answer) -> bool {
    let values = answer.headers.get_all(header::VARY).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case("origin"))
}

/// Each answer, also one to a request without an origin: a cache would give it to pages of other origins.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_varies_by_origin() {
    let collector = Collector::start_with("{}", "cors: {origins: ['https://shop.example']}").await;
    let body = || br#"{"type":"a"}"#.to_vec();
    for origin in [None, Some("https://shop.example"), Some("https://evil.example")] {
        let headers: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        for (method, path, body) in [
            (Method::POST, "/track", body()),
            (Method::POST, "/track", b"{".to_vec()),
            (Method::POST, "/v1/batch", br#"{"batch":[]}"#.to_vec()),
            (Method::GET, "/track.gif?type=a", vec![]),
            (Method::GET, "/herd.js", vec![]),
            (Method::GET, "/track", vec![]),
            (Method::GET, "/elsewhere", vec![]),
            (Method::OPTIONS, "/track", vec![]),
        ] {
            let answer = collector.send(method.clone(), path, "application/json", &headers, body).await;
            assert!(varies_by_origin(&answer), "{method} {path} {origin:?}: {:?}", answer.headers);
        }
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_takes_an_event_in_its_url() {
    let collector = Collector::start("types: [view]").await;
    let pixel = "/track.gif?type=view&item_id=p-1&user_id=u&plan=pro&utm.source=mail&event_id=e-1";
    let answer = collector.send(Method::GET, pixel, "", &[], vec![]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "image/gif");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    let events = collector.events();
    let event = &events[0];
    assert_eq!((&event["event_id"], &event["item_id"]), (&json!("e-1"), &json!("p-1")));
    assert_eq!(event["properties"], json!({"plan": "pro", "utm": {"source": "mail"}}));
    let refused = collector.send(Method::GET, "/track.gif?type=no", "", &[], vec![]).await;
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("unknown-type")));
    assert_eq!(collector.dead_letters()[0].0, r#"{"type":"no"}"#);
    let metrics = collector.ops("/metrics").await.1;
    assert!(metrics.contains("herd_collector_events_total{result=\"accepted\"} 1"), "{metrics}");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tracker_is_served_under_a_name_that_never_changes() {
    let collector = Collector::start_with("{}", "cors: {origins: ['https://shop.example']}").await;
    let get = |path: String, headers: Vec<(&'static str, String)>| {
        let collector = &collector;
        async move {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            collector.send(Method::GET, &path, "", &headers, vec![]).await
        }
    };
    let script = get("/herd.js".into(), vec![("origin", "https://elsewhere.example".into())]).await;
    assert_eq!(script.status, 200, "{}", script.body);
    assert_eq!(script.headers[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    assert_eq!(script.headers[header::CACHE_CONTROL], "no-cache");
    assert_eq!(script.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    let tag = script.headers[header::ETAG].to_str().unwrap().to_owned();
    let again = get("/herd.js".into(), vec![("if-none-match", tag)]).await;
    assert_eq!(again.status, 304);
    let name = script.headers[header::CONTENT_LOCATION].to_str().unwrap().to_owned();
    let forever = get(name, vec![]).await;
    assert_eq!(forever.status, 200);
    assert!(forever.headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    let old = get("/herd-0123456789ab.js".into(), vec![]).await;
    assert_eq!(old.status, 404);
    assert!(old.body["detail"].as_str().unwrap().contains("/herd.js"), "{}", old.body);
    collector.stop().await;
}
