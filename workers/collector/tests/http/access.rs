//! Who may send, how much, and how slowly.

use std::time::Duration;

use reqwest::{Method, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::Collector;

#[tokio::test(flavor = "multi_thread")]
async fn answers_unknown_paths_and_methods_with_the_right_ones() {
    let collector = Collector::start("{}").await;
    for (method, path, status) in [
        (Method::GET, "/track", 405),
        (Method::PUT, "/track", 405),
        (Method::POST, "/", 404),
        (Method::POST, "/trakc", 404),
    ] {
        let answer = collector.send(method, path, "application/json", &[], b"{}".to_vec()).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body["detail"].as_str().unwrap().contains("POST /track"));
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_events_when_the_write_key_is_missing_or_wrong() {
    let collector =
        Collector::start_with("{}", "auth: {keys: [{name: web, secretRef: {name: keys, key: web}}]}").await;
    let with = |name: &'static str, value: &'static str| vec![(name, value)];
    for (headers, path, status) in [
        (vec![], "/track", 401),
        (with("x-write-key", "wrong"), "/track", 403),
        (with("x-write-key", "s3cret"), "/track", 202),
        (with("authorization", "Bearer s3cret"), "/track", 202),
        (vec![], "/track?key=s3cret", 202),
        (vec![], "/track?key=wrong", 403),
    ] {
        let answer = collector
            .send(Method::POST, path, "application/json", &headers, br#"{"type":"view"}"#.to_vec())
            .await;
        assert_eq!(answer.status, status, "{headers:?} {path}");
        assert_eq!(answer.headers.contains_key(header::WWW_AUTHENTICATE), status == 401);
        assert!(!answer.body.to_string().contains("s3cret"));
    }
    assert_eq!(collector.events().len(), 3);
    assert!(collector.letters().is_empty(), "what strangers send is not kept");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_429_with_retry_after_when_the_rate_is_exceeded() {
    let collector = Collector::start_with("{}", "limits: {eventsPerSecondPerKey: 2}").await;
    assert_eq!(collector.json(r#"[{"type":"a"},{"type":"a"}]"#).await.status, 202);
    let answer = collector.json(r#"[{"type":"a"},{"type":"a"}]"#).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    assert_eq!(collector.json("[1,2,3]").await.status, 413);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_each_client_by_itself_behind_a_trusted_proxy() {
    let limits = "limits: {eventsPerSecondPerKey: 2}";
    let send = async |collector: &Collector, client: &str| {
        let headers = [("x-forwarded-for", client)];
        let body = br#"[{"type":"a"},{"type":"a"}]"#.to_vec();
        collector.send(Method::POST, "/track", "application/json", &headers, body).await.status
    };
    let behind = Collector::start_with("{}", &format!("trustedProxies: [127.0.0.0/8], {limits}")).await;
    assert_eq!(send(&behind, "203.0.113.9").await, 202);
    assert_eq!(send(&behind, "203.0.113.9").await, 429);
    assert_eq!(send(&behind, "198.51.100.1").await, 202);
    behind.stop().await;
    // Who is not trusted is one client, whatever it writes.
    let open = Collector::start_with("{}", limits).await;
    assert_eq!(send(&open, "203.0.113.9").await, 202);
    assert_eq!(send(&open, "198.51.100.1").await, 429);
    open.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn allows_cross_origin_requests_from_listed_origins_only() {
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
    let answer =
        collector.send(Method::OPTIONS, "/track", "", &preflight("https://evil.example"), vec![]).await;
    assert!(!answer.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    // A beacon asks nobody first.
    for (origin, status) in [("https://shop.example", 202), ("https://evil.example", 403)] {
        let body = br#"{"type":"a"}"#.to_vec();
        let answer = collector.send(Method::POST, "/track", "text/plain", &[("origin", origin)], body).await;
        assert_eq!(answer.status, status, "{origin}");
    }
    assert_eq!(collector.events().len(), 1);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_out_slow_bodies_and_closes_connections_with_slow_headers() {
    let collector = Collector::start_with("{}", "limits: {bodyTimeout: 300ms, headerTimeout: 300ms}").await;
    let mut stream = tokio::net::TcpStream::connect(collector.address).await.unwrap();
    let head =
        "POST /track HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await;
    assert!(read.is_ok(), "the connection is closed");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("application/problem+json"));

    let mut stream = tokio::net::TcpStream::connect(collector.address).await.unwrap();
    stream.write_all(b"POST /track HTTP/1.1\r\nhos").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is closed");
    assert!(collector.events().is_empty() && collector.letters().is_empty());
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_connections_beyond_the_limit_until_others_close() {
    let collector = Collector::start_with("{}", "limits: {connections: 1}").await;
    // `start` has waited for readiness, so the limit may be taken by its connection until that is closed.
    let first = loop {
        let mut stream = tokio::net::TcpStream::connect(collector.address).await.unwrap();
        stream.write_all(b"GET /track HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        if answer.ends_with(b"405") {
            break stream;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut second = tokio::net::TcpStream::connect(collector.address).await.unwrap();
    let mut answer = String::new();
    let _ = second.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1"));
    drop(first);
    collector.stop().await;
}
